"""Evaluation of stitches that were asked for by name, never whichever one is left over.

Here are the parts that validation and test share, and ``ParetoValLoop``, which evaluates a few
stitches during training. ``ParetoTestLoop`` is in ``pareto.py``.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import collect_results
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.logging import MMLogger
from mmengine.runner import ValLoop
from mmengine.runner.amp import autocast
from mmseg.evaluation import IoUMetric

from mmsn.deploy import StitchMenu
from mmsn.errors import UserError
from mmsn.models import stitched_backbone
from mmsn.registry import LOOPS
from mmsn.stitching import resolve

StitchNames = str | int | Sequence[str | int]


class StitchEvaluators:
    """One copy of an evaluator per stitch, behind an evaluator's interface."""

    def __init__(self, evaluator: Evaluator, ids: Iterable[int]) -> None:
        self.by_id = {stitch_id: copy.deepcopy(evaluator) for stitch_id in ids}
        if len(self.by_id) > 1:
            for stitch_id, mine in self.by_id.items():
                _separate_outputs(mine.metrics, stitch_id)
        self.results: dict[int, dict[str, float]] = {}
        self.class_iou: dict[int, list[float] | None] = {}

    def evaluate(self, size: int) -> dict[str, float]:
        """Metrics of each stitch as ``stitch{id}/{name}``, and each metric's mean as ``{name}``.

        The mean is what ``save_best`` of a checkpoint hook should look at.
        """
        with quiet(len(self.by_id) > 3):
            self.class_iou = {i: class_iou(e.metrics, size) for i, e in self.by_id.items()}
            self.results = {i: dict(e.evaluate(size)) for i, e in self.by_id.items()}
        flat = {
            f"stitch{i}/{k}": v for i, metrics in self.results.items() for k, v in metrics.items()
        }
        names = scalars(next(iter(self.results.values())))
        means = {k: sum(m[k] for m in self.results.values()) / len(self.results) for k in names}
        return means | flat  # the means first: save_best='auto' takes the first


def scalars(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Those of a metric's figures that are numbers, to the seven digits that float32 has."""
    numbers = {}
    for name, value in metrics.items():
        with suppress(TypeError, ValueError):
            numbers[name] = float(f"{float(value):.7g}")
    return numbers


def _separate_outputs(metrics: Sequence[BaseMetric], stitch_id: int) -> None:
    """Give each stitch a folder of its own for predictions, where metrics write them."""
    for metric in metrics:
        for name in ("output_dir", "outfile_prefix", "out_file_path"):
            path = getattr(metric, name, None)
            if not isinstance(path, str) or not path:
                continue
            own = Path(path) / f"stitch{stitch_id}"
            if name != "output_dir":  # the last part is the beginning of a file's name
                own = Path(path).parent / f"stitch{stitch_id}" / Path(path).name
            setattr(metric, name, str(own))
            (own if name == "output_dir" else own.parent).mkdir(parents=True, exist_ok=True)


def class_iou(metrics: Sequence[BaseMetric], size: int) -> list[float] | None:
    """IoU of each class in percent, on rank 0, where mmseg's ``IoUMetric`` is among the metrics."""
    for metric in metrics:
        if isinstance(metric, IoUMetric) and "mIoU" in metric.metrics and metric.results:
            results = collect_results(list(metric.results), size, metric.collect_device)
            if results is None:
                return None
            intersection, union = (sum(r[k].double() for r in results) for k in (0, 1))
            return (100 * intersection / union).tolist()
    return None


@contextmanager
def quiet(wanted: bool = True) -> Iterator[None]:
    """Metrics print tables per class; a hundred of them would hide the result."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    if wanted:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def prepare_evaluators(loop: Any, budgets: Sequence[str] = ()) -> None:
    """Give the loop its stitches and one evaluator for each, when it runs for the first time."""
    if not isinstance(loop.evaluator, StitchEvaluators):
        menu = StitchMenu(loop.runner.model)
        ids = resolve(menu.backbone.space, menu.macs, loop.stitches)
        ids += tuple(menu.select(budget).stitch.id for budget in budgets)
        if not ids:
            space = menu.backbone.space
            raise UserError(
                f"stitches {loop.stitches!r} name none of the {len(space)} stitches: use "
                "'all', 'anchors' or ids"
            )
        loop.evaluator = StitchEvaluators(loop.evaluator, dict.fromkeys(ids))


def run_batch(loop: Any, data_batch: Any, step: Any) -> Any:
    """Run every stitch of the loop on one batch; the last one's outputs go to the hooks."""
    backbone, evaluators = stitched_backbone(loop.runner.model), loop.evaluator.by_id
    with backbone.share_prefixes(evaluators) as order, autocast(enabled=loop.fp16):
        for stitch_id in order:
            with backbone.use_stitch(stitch_id):
                outputs = step(data_batch)
            evaluators[stitch_id].process(data_samples=outputs, data_batch=data_batch)
    return outputs


@LOOPS.register_module()
class ParetoValLoop(ValLoop):
    """Validation of named stitches.

    Modifications of ``ValLoop``: each batch goes through every stitch in ``stitches``, by default
    both anchors and the stitch halfway between them in FLOPs. Metrics are logged as
    ``stitch{id}/{metric}``, and their mean over the stitches under the metric's own name.
    """

    def __init__(
        self, *args: Any, stitches: StitchNames = ("anchors", "middle"), **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.stitches = stitches

    def run(self) -> dict:
        """Validate; returns the flat metrics."""
        prepare_evaluators(self)
        return super().run()

    @torch.no_grad()
    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Run every stitch on one batch."""
        self.runner.call_hook("before_val_iter", batch_idx=idx, data_batch=data_batch)
        outputs = run_batch(self, data_batch, self.runner.model.val_step)
        self.runner.call_hook(
            "after_val_iter", batch_idx=idx, data_batch=data_batch, outputs=outputs
        )
