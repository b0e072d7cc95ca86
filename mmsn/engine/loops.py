"""Loops that evaluate stitches that were asked for by name, never whichever one is left over.

``ParetoValLoop`` evaluates a few during training; ``ParetoTestLoop`` evaluates all, and writes
their accuracies and FLOPs as one report.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.runner import TestLoop, ValLoop
from mmengine.runner.amp import autocast

from mmsn.evaluation.report import ParetoReport, StitchResult, software_versions
from mmsn.models import segmentor_macs, segmentor_params, stitched_backbone
from mmsn.registry import LOOPS
from mmsn.stitching import largest_within, resolve

StitchNames = str | int | Sequence[str | int]


class StitchEvaluators:
    """One copy of an evaluator per stitch, behind an evaluator's interface."""

    def __init__(self, evaluator: Evaluator, ids: Iterable[int]) -> None:
        self.by_id = {stitch_id: copy.deepcopy(evaluator) for stitch_id in ids}
        self.results: dict[int, dict[str, float]] = {}

    def evaluate(self, size: int) -> dict[str, float]:
        """Metrics of each stitch as ``stitch{id}/{name}``, and each metric's mean as ``{name}``.

        The mean is what ``save_best`` of a checkpoint hook should look at.
        """
        with _quiet_if_many(len(self.by_id)):
            self.results = {i: dict(e.evaluate(size)) for i, e in self.by_id.items()}
        flat = {
            f"stitch{i}/{k}": v for i, metrics in self.results.items() for k, v in metrics.items()
        }
        names = next(iter(self.results.values()))
        means = {k: sum(m[k] for m in self.results.values()) / len(self.results) for k in names}
        return flat | means


@contextmanager
def _quiet_if_many(count: int) -> Iterator[None]:
    """Metrics print tables per class; a hundred of them would hide the result."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    if count > 3:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _start(loop: Any, budgets: Sequence[float] = ()) -> None:
    """Give the loop its stitches and one evaluator for each, when it runs for the first time."""
    if not isinstance(loop.evaluator, StitchEvaluators):
        backbone = stitched_backbone(loop.runner.model)
        macs = segmentor_macs(loop.runner.model, backbone.img_size)
        ids = resolve(backbone.space, macs, loop.stitches)
        ids += tuple(largest_within(macs, budget * 1e9) for budget in budgets)
        if not ids:
            raise ValueError(
                f"stitches {loop.stitches!r} name none of the {len(backbone.space)} stitches: use "
                "'all', 'anchors' or ids"
            )
        loop.evaluator = StitchEvaluators(loop.evaluator, dict.fromkeys(ids))


def _run_batch(loop: Any, data_batch: Any, step: Any) -> Any:
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
        _start(self)
        return super().run()

    @torch.no_grad()
    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Run every stitch on one batch."""
        self.runner.call_hook("before_val_iter", batch_idx=idx, data_batch=data_batch)
        outputs = _run_batch(self, data_batch, self.runner.model.val_step)
        self.runner.call_hook(
            "after_val_iter", batch_idx=idx, data_batch=data_batch, outputs=outputs
        )


@LOOPS.register_module()
class ParetoTestLoop(TestLoop):
    """Test of many stitches, with a report of accuracy against FLOPs.

    Modifications of ``TestLoop``: each batch goes through every stitch in ``stitches``, by default
    all of the space, and ``pareto.json`` in the run's folder receives id, kind, segments, FLOPs,
    parameters and metrics of each. ``budgets``, in GFLOPs of the whole segmentor, add the dearest
    stitch that each allows.
    """

    def __init__(
        self,
        *args: Any,
        stitches: StitchNames = "all",
        budgets: Sequence[float] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.stitches, self.budgets = stitches, budgets

    def run(self) -> dict:
        """Test; returns the flat metrics and writes the report."""
        _start(self, self.budgets)
        metrics = super().run()
        if is_main_process():
            path = Path(self.runner.work_dir) / "pareto.json"
            report = make_report(self.runner, self.evaluator.results)
            report.save(path)
            self.runner.logger.info(f"Wrote {path}\n{report.table()}")
        return metrics

    @torch.no_grad()
    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Run every stitch on one batch."""
        self.runner.call_hook("before_test_iter", batch_idx=idx, data_batch=data_batch)
        outputs = _run_batch(self, data_batch, self.runner.model.test_step)
        self.runner.call_hook(
            "after_test_iter", batch_idx=idx, data_batch=data_batch, outputs=outputs
        )


def make_report(runner: Any, results: Mapping[int, Mapping[str, float]]) -> ParetoReport:
    """Join metrics by stitch with what the stitches are and cost."""
    backbone = stitched_backbone(runner.model)
    macs = segmentor_macs(runner.model, backbone.img_size)
    params = segmentor_params(runner.model)
    stitches = [
        StitchResult(
            id=i,
            kind=backbone.space[i].kind,
            segments=backbone.space[i].segments,
            macs=macs[i],
            params=params[i],
            metrics={name: float(value) for name, value in metrics.items()},
        )
        for i, metrics in results.items()
    ]
    return ParetoReport(
        title=Path(runner.cfg.filename).stem if runner.cfg.filename else runner.experiment_name,
        checkpoint=str(runner.cfg.get("load_from") or ""),
        image_size=backbone.img_size,
        software=software_versions(),
        stitches=stitches,
    )
