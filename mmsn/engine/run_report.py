"""The report of a run, made from its metrics; an earlier report is kept."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmsn.engine.hooks.cost_hook import TRAINING_COST
from mmsn.engine.loops import scalars
from mmsn.evaluation.report import ParetoReport, StitchResult, software_versions
from mmsn.models import segmentor_macs, segmentor_params, stitched_backbone


def metrics_so_far(evaluator: Any) -> dict[str, float]:
    """Metrics over the images that this rank has evaluated so far."""
    values: dict[str, float] = {}
    for metric in evaluator.metrics:
        prefix = f"{metric.prefix}/" if metric.prefix else ""
        # A copy: the run goes on, and a metric may consume the list that it is given.
        computed = metric.compute_metrics(list(metric.results))
        values |= {f"{prefix}{name}": value for name, value in computed.items()}
    return values


def keep_older(path: Path) -> Path | None:
    """Rename an existing file to the first free ``NAME.N.json``; None if there is none."""
    if not path.exists():
        return None
    for number in itertools.count(1):
        free = path.with_suffix(f".{number}{path.suffix}")
        if not free.exists():
            return path.rename(free)
    raise AssertionError


def make_report(
    runner: Any,
    results: Mapping[int, Mapping[str, float]],
    class_iou: Mapping[int, list[float] | None],
    images: int,
    of_images: int,
    checkpoint_sha256: str,
) -> ParetoReport:
    """Join metrics by stitch with what the stitches are and cost."""
    backbone = stitched_backbone(runner.model)
    macs = segmentor_macs(runner.model, backbone.img_size)
    params = segmentor_params(runner.model)
    checkpoint = str(runner.cfg.get("load_from") or "")
    classes = list((runner.visualizer.dataset_meta or {}).get("classes") or ())
    stitches = [
        StitchResult(
            id=i,
            kind=backbone.space[i].kind,
            segments=backbone.space[i].segments,
            macs=macs[i],
            params=params[i],
            metrics=scalars(metrics),
            # A metric may count other classes than the dataset names; then no value has a name.
            class_iou=ious if ious and len(ious) == len(classes) else None,
        )
        for i, metrics in results.items()
        for ious in [class_iou.get(i)]
    ]
    return ParetoReport(
        title=Path(runner.cfg.filename).stem if runner.cfg.filename else runner.experiment_name,
        config=str(runner.cfg.filename or ""),
        checkpoint=checkpoint,
        checkpoint_sha256=checkpoint_sha256,
        image_size=backbone.img_size,
        images=images,
        of_images=of_images,
        classes=classes,
        software=software_versions(),
        training=runner.message_hub.get_info(TRAINING_COST, None),
        stitches=stitches,
    )
