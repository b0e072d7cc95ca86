"""The Pareto report: what each stitch costs and reaches, as a file that is checked when read."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typing_extensions import Self

from mmsn.errors import UserError
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
    """A metric's value with four significant digits: 45.57 percent, and 0.5131 meters as well."""
    return f"{value:#.4g}"


Milliseconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Latency(BaseModel):
    """Milliseconds for one batch: the median and the 90th percentile of ``repeats`` passes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    p50_ms: Milliseconds
    p90_ms: Milliseconds
    repeats: PositiveInt

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if self.p90_ms < self.p50_ms:
            raise UserError(f"p90_ms {self.p90_ms} is below p50_ms {self.p50_ms}")
        return self


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
    segments: Annotated[
        tuple[tuple[NonNegativeInt, NonNegativeInt, PositiveInt], ...], Field(min_length=1)
    ]
    macs: PositiveInt
    params: PositiveInt
    metrics: dict[str, float]
    class_iou: list[float] | None = None
    latency: Latency | None = None

    @model_validator(mode="after")
    def _has_no_empty_segment(self) -> Self:
        for segment in self.segments:
            if segment[1] >= segment[2]:
                raise UserError(f"segment {segment} of stitch {self.id} runs no block")
        return self

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

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.images > self.of_images:
            raise UserError(f"images {self.images} are more than of_images {self.of_images}")
        ids = [result.id for result in self.stitches]
        if len(set(ids)) < len(ids):
            raise UserError("a stitch is there twice")
        for result in self.stitches:
            if result.metrics.keys() != self.stitches[0].metrics.keys():
                raise UserError(f"stitch {result.id} has other metrics than the first one")
            if result.class_iou is not None and len(result.class_iou) != len(self.classes):
                raise UserError(f"class_iou of stitch {result.id} does not fit the classes")
            if result.latency is not None and self.latency_setting is None:
                raise UserError("latencies need a latency_setting")
        return self

    def save_csv(self, path: str | Path) -> None:
        """Write one row per stitch, all or none."""
        names = list(self.stitches[0].metrics) if self.stitches else []
        part = Path(f"{path}.part")
        with open(part, "w", newline="") as file:
            writer = csv.writer(file)
            costs = ["macs", "params", "p50_ms", "p90_ms"]
            writer.writerow(["id", "kind", "segments", *costs, *names])
            for r in self.stitches:
                values = [r.metrics[name] for name in names]
                latency = [r.latency.p50_ms, r.latency.p90_ms] if r.latency else ["", ""]
                known = [r.id, r.kind, r.segment_text(), r.macs, r.params, *latency]
                writer.writerow([*known, *values])
        os.replace(part, path)

    def default_metric(self) -> str:
        """``mIoU`` if it was measured, else ``rmse``, else the first metric.

        Of the depth metrics RMSE is meters, which a reader can judge without a table of others.
        """
        names = list(self.stitches[0].metrics) if self.stitches else []
        if not names:
            raise UserError(f"report {self.title!r} holds no metrics")
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
        title = f"{self.title}: FLOPs are multiply-accumulates at {self.image_size}"
        table = Table(title=escape(title))
        shown_metric = escape(metric)
        for name in (
            "stitch",
            "kind",
            "segments",
            "GFLOPs",
            "params (M)",
            shown_metric,
            "frontier",
        ):
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
    if not best:
        return 0.0
    edges = [r.macs for r in best[1:]] + [max_macs]
    return sum(
        (edge - r.macs) / 1e9 * max(0.0, _sign(metric) * (r.metrics[metric] - worst))
        for r, edge in zip(best, edges, strict=True)
    )


def class_frontier(report: ParetoReport) -> list[StitchResult]:
    """The frontier of mIoU, where IoU per class was measured."""
    known = [r for r in report.stitches if r.class_iou]
    names = [n for n in (known[0].metrics if known else ()) if n.rpartition("/")[2] == "mIoU"]
    return frontier(known, names[0]) if names else []


def class_gains(report: ParetoReport) -> list[tuple[str, list[float]]]:
    """IoU of each class along ``class_frontier``, sorted by what the dear end gains.

    Classes that do not occur come last; their IoU is not a number.
    """
    columns = [r.class_iou for r in class_frontier(report) if r.class_iou]
    rows = [(n, [c[k] for c in columns]) for k, n in enumerate(report.classes)] if columns else []

    def loss(row: tuple[str, list[float]]) -> float:
        value = row[1][0] - row[1][-1]
        return math.inf if math.isnan(value) else value

    return sorted(rows, key=loss)


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
