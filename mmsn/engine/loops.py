"""Evaluation of stitches that are named explicitly, whatever stitch training ran last.

Here are the parts that validation and test share, and ``ParetoValLoop``, which evaluates a few
stitches during training. ``ParetoTestLoop`` is in ``pareto.py``.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from mmengine.dist import collect_results
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook, NaiveVisualizationHook
from mmengine.logging import MMLogger, print_log
from mmengine.model import BaseTTAModel
from mmengine.runner import BaseLoop, ValLoop
from mmengine.runner.amp import autocast
from mmengine.structures import BaseDataElement
from mmseg.engine.hooks import SegVisualizationHook
from mmseg.evaluation import CityscapesMetric, IoUMetric

from mmsn.deploy import StitchMenu
from mmsn.engine.pictures import StitchPictures
from mmsn.errors import UserError
from mmsn.evaluation.iou import BatchLabels
from mmsn.evaluation.tables import class_table
from mmsn.models import stitched_backbone
from mmsn.models.complexity import unwrap
from mmsn.models.head_sharing import LevelMemo, level_modules
from mmsn.models.label_prediction import LabelStep, predicts_like_mmseg
from mmsn.registry import LOOPS
from mmsn.stitching import resolve
from mmsn.stitching.selection import StitchNames
from mmsn.stitching.trie import Trie

FEW = 4  # stitches whose classes fit into a table


class StitchEvaluators:
    """One copy of an evaluator per stitch, behind an evaluator's interface."""

    def __init__(self, evaluator: Evaluator, ids: Iterable[int]) -> None:
        # Metrics hold the results of all images, so each stitch needs its own.
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
        with quiet(len(self.by_id) > 1):
            # First: ``evaluate`` empties the lists of results.
            self.class_iou = {i: class_iou(e.metrics, size) for i, e in self.by_id.items()}
            self.results = {i: dict(e.evaluate(size)) for i, e in self.by_id.items()}
        self._log_classes()
        flat = {
            f"stitch{i}/{k}": v for i, metrics in self.results.items() for k, v in metrics.items()
        }
        names = scalars(next(iter(self.results.values())))
        means = {k: sum(m[k] for m in self.results.values()) / len(self.results) for k in names}
        return means | flat  # the means first: save_best='auto' takes the first

    def _log_classes(self) -> None:
        """One table for a few stitches; mmseg's own, one for each, do not name their stitch."""
        columns = {i: ious for i, ious in self.class_iou.items() if ious is not None}
        if 1 < len(columns) <= FEW:
            metrics = next(iter(self.by_id.values())).metrics
            classes = next((m.dataset_meta or {})["classes"] for m in metrics if _has_classes(m))
            table = class_table(classes, columns)
            print_log(f"IoU of each class in percent\n{table}", logger="current")


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
        if _has_classes(metric) and metric.results:
            results = collect_results(list(metric.results), size, metric.collect_device)
            if results is None:
                return None
            intersection, union = (sum(r[k].double() for r in results) for k in (0, 1))
            return (100 * intersection / union).tolist()
    return None


def _has_classes(metric: BaseMetric) -> bool:
    return isinstance(metric, IoUMetric) and "mIoU" in metric.metrics


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


class StitchLoop(BaseLoop):
    """What validation and test of many stitches have in common.

    Every batch is preprocessed once and goes through all stitches in an order in which they share
    most of their work.

    A subclass sets ``stitches`` and calls ``prepare`` in ``run``, ``run_batch`` in ``run_iter``.
    """

    evaluator: Any  # an Evaluator, until ``prepare`` makes one for each stitch
    fp16: bool
    stitches: StitchNames
    _trie: Trie
    _memo: LevelMemo

    def prepare(self, budgets: Sequence[str] = ()) -> None:
        """Give the loop its stitches and one evaluator for each, when it runs for the first time.

        Raises:
            UserError: names and budgets that leave no stitch.
        """
        # A validation loop runs many times.
        if isinstance(self.evaluator, StitchEvaluators):
            return
        menu = StitchMenu(self.runner.model)
        ids = resolve(menu.backbone.space, menu.macs, self.stitches)
        ids += tuple(menu.select(budget).stitch.id for budget in budgets)
        if not ids:
            space = menu.backbone.space
            raise UserError(
                f"stitches {self.stitches!r} name none of the {len(space)} stitches: use "
                "'all', 'anchors' or ids"
            )
        self.evaluator = StitchEvaluators(self.evaluator, dict.fromkeys(ids))
        self.plan(self.evaluator.by_id)

    def plan(self, ids: Iterable[int]) -> None:
        """Determine once what these stitches share, in the backbone and in neck and heads."""
        model = self.runner.model
        self._trie = stitched_backbone(model).trie(ids)
        levels = self._trie.shared_levels()
        self._memo = LevelMemo(level_modules(model, levels) if levels else ())

    def run_batch(self, mode: Literal["val", "test"], idx: int, data_batch: Any) -> None:
        """Run every stitch on one batch, between the hooks before and after it.

        Hooks that draw see the outputs of every stitch, all others those of the last one.
        """
        runner, batch = self.runner, dict(batch_idx=idx, data_batch=data_batch)
        runner.call_hook(f"before_{mode}_iter", **batch)
        pictures = StitchPictures(runner, mode, several=len(self.evaluator.by_id) > 1)
        for stitch_id, outputs in self.run_stitches(mode, data_batch):
            pictures.save(stitch_id, outputs=outputs, **batch)
        with pictures.saved():
            runner.call_hook(f"after_{mode}_iter", **batch, outputs=outputs)

    def run_stitches(self, mode: str, data_batch: Any) -> Iterator[tuple[int, Any]]:
        """Run every stitch on one batch and give its metrics the outputs; ids and outputs."""
        model, backbone = self.runner.model, stitched_backbone(self.runner.model)
        step = model.val_step if mode == "val" else model.test_step
        # Made per batch: everything that is shared belongs to these images.
        passes, labels = backbone.share_prefixes(self._trie), BatchLabels()
        with autocast(enabled=self.fp16), self._memo.share():
            predict: Callable[[], Any] = partial(step, data_batch)
            if self._wants_labels_only():
                # Preprocesses the batch here, once for all stitches.
                predict = LabelStep(unwrap(model), data_batch)
            for stitch_id in self._trie.order:
                self._memo.begin()
                with backbone.use_stitch(stitch_id, passes):
                    outputs = predict()
                samples = [_as_dict(output) for output in outputs]
                for metric in self.evaluator.by_id[stitch_id].metrics:
                    labels.process(metric, data_batch, samples)
                yield stitch_id, outputs

    def _wants_labels_only(self) -> bool:
        """Whether nothing here reads ``seg_logits`` or changes how the model predicts."""
        model = self.runner.model
        metrics = next(iter(self.evaluator.by_id.values())).metrics
        return (
            not isinstance(model, BaseTTAModel)
            and predicts_like_mmseg(unwrap(model))
            and all(type(metric) in _READ_LABELS_ONLY for metric in metrics)
            and not any(_reads_outputs(hook) for hook in self.runner.hooks)
        )


# Metrics that read ``pred_sem_seg`` alone. Subclasses may read more.
_READ_LABELS_ONLY = (IoUMetric, CityscapesMetric)


def _reads_outputs(hook: Hook) -> bool:
    """Whether this hook may read the model's predictions."""
    known: type[Hook] = Hook
    if isinstance(hook, SegVisualizationHook):
        if hook.draw:
            return True
        known = SegVisualizationHook  # which only draws; a subclass may do more
    elif type(hook).__module__.startswith(("mmengine.", "mmsn.")):
        # Of these, one draws predictions; all others look at times and weights.
        return isinstance(hook, NaiveVisualizationHook)
    names = ("_after_iter", "after_val_iter", "after_test_iter")
    return any(getattr(type(hook), name) is not getattr(known, name) for name in names)


def _as_dict(output: Any) -> Any:
    """As ``Evaluator.process`` hands a prediction to metrics."""
    return output.to_dict() if isinstance(output, BaseDataElement) else output


@LOOPS.register_module()
class ParetoValLoop(StitchLoop, ValLoop):
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
        self.prepare()
        return super().run()

    @torch.no_grad()
    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Run every stitch on one batch."""
        self.run_batch("val", idx, data_batch)
