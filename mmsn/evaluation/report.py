"""The Pareto report: what each stitch costs and reaches, as a file that is checked when read."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, ValidationError
from rich.console import Console
from rich.table import Table

# Metrics of which less is better; every other is taken as "more is better".
LOWER_IS_BETTER = ("abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "silog")


class StitchResult(BaseModel):
    """One stitch: ``macs`` are multiply-accumulates of the whole segmentor for one crop."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    id: NonNegativeInt
    kind: Literal["anchor", "sl", "ls", "lsl", "sls"]
    segments: tuple[tuple[int, int, int], ...]
    macs: PositiveInt
    params: PositiveInt
    metrics: dict[str, float]


class ParetoReport(BaseModel):
    """Results of one checkpoint.

    ``image_size`` is the (height, width) that MACs are for; ``images`` of ``of_images`` images
    have been evaluated.
    """

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="strings")

    schema_version: Literal[1] = 1
    title: str
    config: str
    checkpoint: str
    checkpoint_sha256: str
    image_size: tuple[PositiveInt, PositiveInt]
    images: NonNegativeInt
    of_images: NonNegativeInt
    software: dict[str, str]
    stitches: list[StitchResult]

    def save(self, path: str | Path) -> None:
        """Write as JSON, whole or not at all."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        part.write_text(self.model_dump_json(indent=1) + "\n")
        os.replace(part, path)

    def save_csv(self, path: str | Path) -> None:
        """Write one row per stitch."""
        names = list(self.stitches[0].metrics) if self.stitches else []
        with open(path, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "kind", "segments", "macs", "params", *names])
            for r in self.stitches:
                segments = " > ".join(f"{a}:{start}-{stop}" for a, start, stop in r.segments)
                values = [r.metrics[name] for name in names]
                writer.writerow([r.id, r.kind, segments, r.macs, r.params, *values])

    @classmethod
    def load(cls, path: str | Path) -> ParetoReport:
        """Read and check a report.

        Raises:
            ValueError: a file that is no report of a known version, with the first reason.
        """
        try:
            return cls.model_validate_json(Path(path).read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the whole file"
            raise ValueError(f"{path} is no Pareto report: {where}: {first['msg']}") from None

    def default_metric(self) -> str:
        """``mIoU`` if it was measured, else the first metric."""
        names = list(self.stitches[0].metrics) if self.stitches else []
        if not names:
            raise ValueError(f"report {self.title!r} holds no metrics")
        return "mIoU" if "mIoU" in names else names[0]

    def table(self, metric: str | None = None) -> str:
        """All stitches by cost, as text; the Pareto frontier is starred."""
        metric = metric or self.default_metric()
        best = {result.id for result in frontier(self.stitches, metric)}
        table = Table(title=f"{self.title}: FLOPs are multiply-accumulates at {self.image_size}")
        for name in ("stitch", "kind", "segments", "GFLOPs", "params (M)", metric, "frontier"):
            table.add_column(name, justify="left" if name in ("kind", "segments") else "right")
        for result in sorted(self.stitches, key=lambda r: (r.macs, r.id)):
            table.add_row(
                str(result.id),
                result.kind,
                " > ".join(f"{a}:{start}-{stop}" for a, start, stop in result.segments),
                f"{result.macs / 1e9:.4g}",
                f"{result.params / 1e6:.4g}",
                f"{result.metrics[metric]:.4g}",
                "*" if result.id in best else "",
            )
        text = io.StringIO()
        Console(file=text, width=110).print(table)
        return text.getvalue()


def frontier(results: Sequence[StitchResult], metric: str) -> list[StitchResult]:
    """The stitches that no cheaper one reaches in this metric, from cheap to dear."""
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    best: list[StitchResult] = []
    for result in sorted(results, key=lambda r: (r.macs, -sign * r.metrics[metric], r.id)):
        if not best or sign * result.metrics[metric] > sign * best[-1].metrics[metric]:
            best.append(result)
    return best


def software_versions() -> dict[str, str]:
    """Installed versions of what the figures depend on, by distribution name."""
    names = ("mmsn", "torch", "timm", "onedl-mmsegmentation", "mmsegmentation")
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
