"""The Pareto report: what each stitch costs and reaches, as a file that is checked when read."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)
from rich.console import Console
from rich.table import Table

from mmsn.evaluation.json_file import JsonFile

Axis = Literal["macs", "latency"]
# Metrics of which less is better; every other is taken as "more is better".
LOWER_IS_BETTER = ("abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "silog")
UNITS = {"mIoU": "%", "mAcc": "%", "aAcc": "%", "rmse": "m", "sq_rel": "m"}


def lower_is_better(metric: str) -> bool:
    """Whether less is better; a prefix, as in ``depth/rmse``, does not matter."""
    return metric.rpartition("/")[2] in LOWER_IS_BETTER


def metric_label(metric: str) -> str:
    """A metric's name for an axis, with its unit and, where less is better, with that."""
    unit = UNITS.get(metric.rpartition("/")[2])
    notes = [*([unit] if unit else []), *(["lower is better"] if lower_is_better(metric) else [])]
    return f"{metric} ({', '.join(notes)})" if notes else metric


def shown(value: float) -> str:
    """A metric's value with four significant digits: 45.57 percent, and 0.5131 metres as well."""
    return f"{value:#.4g}"


class Latency(BaseModel):
    """Milliseconds for one batch: the median and the 90th percentile of ``repeats`` passes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    p50_ms: PositiveFloat
    p90_ms: PositiveFloat
    repeats: PositiveInt


class LatencySetting(BaseModel):
    """What latencies were measured with; they compare only with others of the same setting."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: str
    dtype: str
    batch_size: PositiveInt
    threads: PositiveInt


class StitchResult(BaseModel):
    """One stitch: ``macs`` are multiply-accumulates of the whole segmentor for one crop.

    ``class_iou`` are percentages per class, in the order of the report's ``classes``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    id: NonNegativeInt
    kind: Literal["anchor", "sl", "ls", "lsl", "sls"]
    segments: tuple[tuple[int, int, int], ...]
    macs: PositiveInt
    params: PositiveInt
    metrics: dict[str, float]
    class_iou: list[float] | None = None
    latency: Latency | None = None

    def segment_text(self) -> str:
        """For example ``0:0-2 > 1:4-24``: blocks 0 and 1 of anchor 0, then 4 to 23 of anchor 1."""
        return " > ".join(f"{a}:{start}-{stop}" for a, start, stop in self.segments)

    def cost(self, axis: Axis) -> float | None:
        """GFLOPs, or the median milliseconds; None where no latency was measured."""
        if axis == "macs":
            return self.macs / 1e9
        return self.latency.p50_ms if self.latency else None


class ParetoReport(JsonFile):
    """Results of one checkpoint.

    ``image_size`` is the (height, width) that MACs are for; ``images`` of ``of_images`` images
    have been evaluated.
    """

    what = "Pareto report"

    schema_version: Literal[1] = 1
    title: str
    config: str
    checkpoint: str
    checkpoint_sha256: str
    image_size: tuple[PositiveInt, PositiveInt]
    images: NonNegativeInt
    of_images: NonNegativeInt
    classes: list[str] = []
    latency_setting: LatencySetting | None = None
    software: dict[str, str]
    stitches: list[StitchResult]

    def save_csv(self, path: str | Path) -> None:
        """Write one row per stitch."""
        names = list(self.stitches[0].metrics) if self.stitches else []
        with open(path, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "kind", "segments", "macs", "params", "p50_ms", *names])
            for r in self.stitches:
                values = [r.metrics[name] for name in names]
                latency = r.latency.p50_ms if r.latency else ""
                known = [r.id, r.kind, r.segment_text(), r.macs, r.params, latency]
                writer.writerow([*known, *values])

    def default_metric(self) -> str:
        """``mIoU`` if it was measured, else ``rmse``, else the first metric.

        Of the depth metrics RMSE is metres, which a reader can judge without a table of others.
        """
        names = list(self.stitches[0].metrics) if self.stitches else []
        if not names:
            raise ValueError(f"report {self.title!r} holds no metrics")
        known = [n for k in ("mIoU", "rmse") for n in names if n.rpartition("/")[2] == k]
        return (known or names)[0]

    def markdown(self, metric: str | None = None) -> str:
        """The Pareto frontier as a Markdown table."""
        metric = metric or self.default_metric()
        lines = [
            f"| stitch | kind | segments | GFLOPs | M params | {metric} |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        lines += [
            f"| {r.id} | {r.kind} | {r.segment_text()} | {r.macs / 1e9:.4g} "
            f"| {r.params / 1e6:.4g} | {shown(r.metrics[metric])} |"
            for r in frontier(self.stitches, metric)
        ]
        return "\n".join(lines) + "\n"

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
                result.segment_text(),
                f"{result.macs / 1e9:.4g}",
                f"{result.params / 1e6:.4g}",
                shown(result.metrics[metric]),
                "*" if result.id in best else "",
            )
        text = io.StringIO()
        Console(file=text, width=110).print(table)
        return text.getvalue()


def frontier(
    results: Sequence[StitchResult], metric: str, axis: Axis = "macs"
) -> list[StitchResult]:
    """The stitches that no cheaper one reaches in this metric, from cheap to dear.

    Stitches without a latency, on that axis, or whose metric is not a number take no part.
    """
    sign = _sign(metric)
    priced = [(cost, r) for r in results if (cost := r.cost(axis)) is not None]
    priced = [(cost, r) for cost, r in priced if not math.isnan(r.metrics[metric])]
    best: list[StitchResult] = []
    for _, result in sorted(priced, key=lambda p: (p[0], -sign * p[1].metrics[metric], p[1].id)):
        if not best or sign * result.metrics[metric] > sign * best[-1].metrics[metric]:
            best.append(result)
    return best


def hypervolume(
    results: Sequence[StitchResult], metric: str, max_macs: float, worst: float
) -> float:
    """Area between the frontier and a reference point: one number to compare two runs by.

    Sums, over all budgets up to ``max_macs``, how much better than ``worst`` the best affordable
    stitch is, in GFLOPs x metric. Runs compare only with the same reference point.
    """
    best = [r for r in frontier(results, metric) if r.macs <= max_macs]
    edges = [r.macs for r in best[1:]] + [max_macs]
    return sum(
        (edge - r.macs) / 1e9 * max(0.0, _sign(metric) * (r.metrics[metric] - worst))
        for r, edge in zip(best, edges, strict=True)
    )


def class_gains(report: ParetoReport) -> list[tuple[str, list[float]]]:
    """IoU of each class along the frontier of mIoU, sorted by what the dear end gains."""
    along = frontier([r for r in report.stitches if r.class_iou and "mIoU" in r.metrics], "mIoU")
    columns = [r.class_iou for r in along if r.class_iou]
    rows = [(n, [c[k] for c in columns]) for k, n in enumerate(report.classes)] if columns else []
    return sorted(rows, key=lambda row: row[1][0] - row[1][-1])


def _sign(metric: str) -> float:
    return -1.0 if lower_is_better(metric) else 1.0


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
