"""The schema of a Pareto report: what each stitch costs and reaches, checked when read.

What follows from the results (the frontier, numbers per curve) is in ``curve``; how they are shown
is in ``tables``, ``plot`` and ``page``.
"""

from __future__ import annotations

import csv
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

from mmsn.errors import UserError
from mmsn.evaluation.json_file import Count, JsonFile, Number
from mmsn.files import whole_file

Axis = Literal["macs", "latency"]
Milliseconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Latency(BaseModel):
    """Milliseconds for one batch: the median and the 90th percentile of ``repeats`` passes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    p50_ms: Milliseconds
    p90_ms: Milliseconds
    repeats: Count

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if self.p90_ms < self.p50_ms:
            raise ValueError(f"p90_ms {self.p90_ms} is below p50_ms {self.p50_ms}")
        return self

    @property
    def spread(self) -> float:
        """How much more the 90th percentile is than the median, as a share of the median."""
        return self.p90_ms / self.p50_ms - 1


class LatencySetting(BaseModel):
    """What latencies were measured with; they compare only with others of the same setting."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: str
    dtype: str
    batch_size: Count
    threads: Count


class Training(BaseModel):
    """What the weights cost; each field may be unknown.

    ``train_macs`` are the multiply-accumulates of all forward and backward passes, summed over
    ranks; ``images_seen`` counts an image once per pass that drew it from the dataset.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    # A long training of large anchors exceeds 64 bits, so its bound is wider than a Count's.
    train_macs: Annotated[int, Field(gt=0, le=10**30)] | None = None
    images_seen: Count | None = None
    seed: Number | None = None


class StitchResult(BaseModel):
    """One stitch: ``macs`` are multiply-accumulates of the whole segmentor for one crop.

    ``class_iou`` are percentages per class, in the order of the report's ``classes``. The kind
    ``elastic`` is not a stitch of two anchors but one anchor with some blocks skipped.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    id: Number
    kind: Literal["anchor", "sl", "ls", "lsl", "sls", "elastic"]
    segments: Annotated[tuple[tuple[Number, Number, Count], ...], Field(min_length=1)]
    macs: Count
    params: Count
    metrics: dict[str, float]
    class_iou: list[float] | None = None
    latency: Latency | None = None

    @model_validator(mode="after")
    def _has_no_empty_segment(self) -> Self:
        for segment in self.segments:
            if segment[1] >= segment[2]:
                raise ValueError(f"segment {segment} of stitch {self.id} runs no block")
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
    image_size: tuple[Count, Count]
    images: Number
    of_images: Number
    classes: list[str] = []
    latency_setting: LatencySetting | None = None
    training: Training | None = None
    software: dict[str, str]
    stitches: list[StitchResult]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.images > self.of_images:
            raise ValueError(f"images {self.images} are more than of_images {self.of_images}")
        seen: set[int] = set()
        for result in self.stitches:
            if result.id in seen:
                raise ValueError(f"stitch {result.id} is listed twice; keep one entry")
            seen.add(result.id)
            # Everything that reads a report takes a metric of all stitches.
            if result.metrics.keys() != self.stitches[0].metrics.keys():
                raise ValueError(
                    f"stitch {result.id} has the metrics {sorted(result.metrics)}, the first "
                    f"stitch has {sorted(self.stitches[0].metrics)}; they must be the same"
                )
            if result.class_iou is not None and len(result.class_iou) != len(self.classes):
                raise ValueError(
                    f"class_iou of stitch {result.id} has {len(result.class_iou)} values for "
                    f"{len(self.classes)} classes"
                )
            if result.latency is not None and self.latency_setting is None:
                raise ValueError(f"stitch {result.id} has a latency, which needs a latency_setting")
        return self

    def metric_names(self) -> list[str]:
        """The metrics that every stitch was tested for."""
        return list(self.stitches[0].metrics) if self.stitches else []

    def default_metric(self) -> str:
        """``mIoU`` if it was measured, else ``rmse``, else the first metric.

        Of the depth metrics, RMSE is in meters, which a reader can judge without other results.
        """
        names = self.metric_names()
        if not names:
            raise UserError(f"report {self.title!r} holds no metrics")
        # A prefix of the metric, as in depth/rmse, does not matter.
        known = [n for k in ("mIoU", "rmse") for n in names if n.rpartition("/")[2] == k]
        return (known or names)[0]

    def save_csv(self, path: str | Path) -> None:
        """Write one row per stitch, all or none."""
        names = self.metric_names()
        with whole_file(path) as part, open(part, "w", newline="") as file:
            writer = csv.writer(file)
            costs = ["macs", "params", "p50_ms", "p90_ms"]
            writer.writerow(["id", "kind", "segments", *costs, *names])
            for r in self.stitches:
                values = [r.metrics[name] for name in names]
                latency = [r.latency.p50_ms, r.latency.p90_ms] if r.latency else ["", ""]
                known = [r.id, r.kind, r.segment_text(), r.macs, r.params, *latency]
                writer.writerow([*known, *values])


def software_versions() -> dict[str, str]:
    """Installed versions of what the figures depend on, by distribution name."""
    # Both families of OpenMMLab packages, of which one is installed.
    names = ("mmsn", "torch", "timm", "onedl-mmsegmentation", "mmsegmentation")
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
