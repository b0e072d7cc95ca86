"""From separate anchors to a curve: train each alone, stitch, fine-tune, evaluate.

Every step is an ordinary run of mmengine's ``Runner`` on an ordinary config, in a folder of its
own. A finished step is not repeated, and an interrupted one continues from its last checkpoint, so
the same call can be repeated until all steps are done. This module calls the Runner; what the
Runner calls is in ``mmsn.engine``.
"""

from __future__ import annotations

import copy
import hashlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import DATASETS, init_default_scope
from mmengine.visualization import Visualizer
from rich.console import Console

from mmsn.checks import examine
from mmsn.engine.resume import is_whole, latest_checkpoint
from mmsn.errors import UserError
from mmsn.evaluation import (
    DepthMetric,
    ParetoReport,
    Reference,
    plot_pareto,
    shown,
    text_table,
)
from mmsn.evaluation.baseline import constant_depth, most_frequent_class
from mmsn.files import write_text
from mmsn.models import read_config
from mmsn.running import QuietRunner

COST_HOOK = "mmsn.TrainingCostHook"
# Keys of a network with a single anchor, as this package saves it.
ANCHOR_PREFIX = "backbone.anchors.0."
# What a step is named that trains an anchor again, for longer.
EQUAL = "_equal-compute"
HEADS = {"decode_head", "depth_head"}


@dataclass(frozen=True)
class Step:
    """One training: its config, and the name of its folder."""

    name: str
    config: Config

    @classmethod
    def from_file(cls, path: str | Path) -> Step:
        """Read a config file; the step is named after it."""
        return cls(Path(path).stem, read_config(path))


class StepRunner(QuietRunner):
    """A run among several.

    Modifications of ``QuietRunner``: the console shows one-line messages only; tables are in the
    log file alone. Curves of the training are in the folder of the step.
    """

    def build_visualizer(self, visualizer: Any = None) -> Visualizer:
        """One for each run: mmengine gives those of one name, as configs set it, to all of them."""
        if isinstance(visualizer, dict):
            visualizer = dict(visualizer, name=self._experiment_name)
        return super().build_visualizer(visualizer)

    @staticmethod
    def is_shown(record: logging.LogRecord) -> bool:
        """Is this a message for the console?"""
        return QuietRunner.is_shown(record) and "\n" not in record.getMessage()


def train_and_test(step: Step, folder: Path) -> ParetoReport:
    """Train a step to its end, or continue it, and evaluate the stitches its ``test_cfg`` names."""
    report, config = folder / "pareto.json", copy.deepcopy(step.config)
    _check(step)
    examine(config, training=True).refuse()
    # Of the config as given: paths of this run are set in it below.
    identity = hashlib.sha256(config.pretty_text.encode()).hexdigest()
    mark = folder / "step.sha256"
    if mark.is_file() and mark.read_bytes() != identity.encode():
        raise UserError(
            f"step {step.name} was started with another config in {folder}: give another work "
            "dir, or delete that folder to start again"
        )
    # Before the first checkpoint, so that no state exists without it.
    write_text(mark, identity)
    if report.is_file():
        return ParetoReport.load(report)
    config.work_dir = str(folder)
    final = folder / f"iter_{config.train_cfg.max_iters}.pth"
    if not is_whole(final):  # there, but cut off, is not finished
        latest = latest_checkpoint(folder)
        config.resume = latest is not None
        config.load_from = latest or config.get("load_from")
        StepRunner.from_cfg(config).train()
    config.resume, config.load_from = False, str(final)
    StepRunner.from_cfg(config).test()
    return ParetoReport.load(report)


def _check(step: Step) -> None:
    test = step.config.get("test_cfg", {}).get("type")
    if test != "mmsn.ParetoTestLoop" or "max_iters" not in step.config.train_cfg:
        raise UserError(
            f"step {step.name} needs test_cfg.type 'mmsn.ParetoTestLoop', not {test!r}, and "
            "train_cfg.max_iters: use configs/_base_/default_runtime.py and a schedule"
        )


def floors_of(config: Config) -> dict[str, dict[str, float]]:
    """Metrics of predictions that need no network on a config's test images, by name.

    The most frequent class where there are labels, and constant depth where `mmsn.DepthMetric`
    scores them.
    """
    init_default_scope(config.default_scope)
    dataset = DATASETS.build(config.test_dataloader.dataset)

    def truths(key: str) -> Iterator[torch.Tensor]:
        return (dataset[i]["data_samples"].get(key).data[0] for i in range(len(dataset)))

    floors = {}
    given = dataset[0]["data_samples"]
    if "gt_sem_seg" in given:
        labels = (np.asarray(label) for label in truths("gt_sem_seg"))
        classes = len(dataset.metainfo["classes"])
        floors["most frequent class"] = most_frequent_class(labels, classes)
    for metric in Evaluator(config.test_evaluator).metrics:
        if isinstance(metric, DepthMetric):
            floors["constant depth"] = constant_depth(lambda: truths("gt_depth_map"), metric)
    return floors


def stitch_from_anchors(
    anchors: Sequence[Step],
    stitched: Step,
    work_dir: str | Path,
    probes: Sequence[Step] = (),
    equal_compute: bool = False,
) -> ParetoReport:
    """Train, stitch and evaluate; writes ``pareto.json`` and ``pareto.png``, and prints a table.

    The stitched network starts from the trained anchors, and its heads from the last anchor's.
    Its report counts their trainings as well, where all steps have a `mmsn.TrainingCostHook`.

    Args:
        anchors: the anchors' own trainings, smallest to largest, as many as ``stitched`` has.
        stitched: the training of the stitched network.
        work_dir: each step gets a folder in it.
        probes: further trainings to compare with, for example linear probes.
        equal_compute: in the end, train each anchor alone from scratch for as many
            multiply-accumulates as the stitched network took with its anchors, and compare with
            those instead of the anchors that it started from. Three times the work for a pair.

    Returns:
        The stitched network's report.

    Raises:
        UserError: steps that share a name; another number of anchors; ``equal_compute`` where a
            step has no `mmsn.TrainingCostHook`.
    """
    names = [step.name for step in (*probes, *anchors, stitched)]
    if len(set(names)) < len(names):
        raise UserError(f"steps {names} need different names: their folders are named after them")
    wanted = len(stitched.config.model.backbone.anchors)
    if len(anchors) != wanted:
        raise UserError(f"{stitched.name} stitches {wanted} anchors, but {len(anchors)} are given")
    uncounted = [step.name for step in (*anchors, stitched) if _cost_hook(step) is None]
    if equal_compute and uncounted:
        raise UserError(
            f"equal compute is not known for {', '.join(uncounted)}: add "
            f'dict(type="{COST_HOOK}") to custom_hooks'
        )
    work_dir, console, start = Path(work_dir), Console(), time.monotonic()
    count = len(probes) + len(anchors) * (1 + equal_compute) + 1
    reports: dict[str, ParetoReport] = {}

    def run(step: Step) -> ParetoReport:
        minutes = (time.monotonic() - start) / 60
        console.rule(f"step {len(reports) + 1} of {count}: {step.name} (after {minutes:.1f} min)")
        reports[step.name] = train_and_test(step, work_dir / step.name)
        return reports[step.name]

    for step in (*probes, *anchors):
        run(step)
    _start_from(anchors, stitched, work_dir)
    if not uncounted:
        costs = [reports[step.name].training for step in anchors]
        _cost_hook(stitched).update(
            before_macs=sum(cost.train_macs or 0 for cost in costs if cost),
            before_images=sum(cost.images_seen or 0 for cost in costs if cost),
        )
    report = run(stitched)
    if equal_compute:
        for step in anchors:
            run(_lengthened(step, _macs(report) / _macs(reports[step.name])))

    metric = report.default_metric()
    floors = floors_of(stitched.config)
    alone = {}
    for step in anchors:
        mine = reports[f"{step.name}{EQUAL}" if equal_compute else step.name]
        name = step.name
        if not uncounted:
            name += f", {_macs(mine) / _macs(report):.0%} of the training compute"
        alone[name] = (mine.stitches[0].macs / 1e9, _value(mine, metric))
    # A floor may lack the metric, as that of depth lacks mIoU.
    levels = [(name, values[metric]) for name, values in floors.items() if metric in values]
    levels += [(step.name, _value(reports[step.name], metric)) for step in probes]
    # Also at the top, where it is found without the step's name.
    report.save(work_dir / "pareto.json")
    plot_pareto(report, work_dir / "pareto.png", metric, alone, levels)
    console.rule("result")
    _print_result(report, metric, alone, levels)
    print(f"the curve: {work_dir / 'pareto.png'}; {(time.monotonic() - start) / 60:.1f} minutes")
    return report


def _start_from(anchors: Sequence[Step], stitched: Step, work_dir: Path) -> None:
    """Let the stitched network start from the trained anchors, its heads from the last one's."""
    model = stitched.config.model
    for spec, step in zip(model.backbone.anchors, anchors, strict=True):
        final = work_dir / step.name / f"iter_{step.config.train_cfg.max_iters}.pth"
        # Not the published weights, but those of the anchors' own trainings.
        spec.pretrained = False
        spec.update(checkpoint=str(final), prefix=ANCHOR_PREFIX)
    for head in HEADS & model.keys():
        model[head].init_cfg = dict(
            type="Pretrained",
            checkpoint=model.backbone.anchors[-1].checkpoint,
            prefix=f"{head}.",
        )


def _print_result(
    report: ParetoReport,
    metric: str,
    alone: Mapping[str, tuple[float, float]],
    levels: Sequence[tuple[str, float]],
) -> None:
    """The table of the curve, and what it is compared with; GFLOPs and metric by name."""
    print(text_table(report, Reference.of([report], metric)))
    for name, (gflops, value) in alone.items():
        print(f"trained alone: {name}: {metric} {shown(value)} at {gflops:.4g} GFLOPs")
    for name, value in levels:
        print(f"to compare with: {name}: {metric} {shown(value)}")


def _cost_hook(step: Step) -> Any:
    """The config of the step's `mmsn.TrainingCostHook`, or None."""
    hooks = step.config.get("custom_hooks") or []
    return next((hook for hook in hooks if hook["type"] == COST_HOOK), None)


def _macs(report: ParetoReport) -> int:
    """What the weights cost to train; the step had the hook that counts it."""
    if report.training is None or report.training.train_macs is None:
        raise UserError(f"{report.title} does not state its training compute: train it again")
    return report.training.train_macs


def _lengthened(step: Step, factor: float) -> Step:
    """The same training, ``factor`` times as long: schedules that end with it are stretched."""
    config = copy.deepcopy(step.config)
    old = config.train_cfg.max_iters
    config.train_cfg.max_iters = round(old * factor)
    for scheduler in config.param_scheduler:
        if scheduler.get("end") == old:
            scheduler.end = config.train_cfg.max_iters
    return Step(step.name + EQUAL, config)


def _value(report: ParetoReport, metric: str) -> float:
    return report.stitches[0].metrics[metric]
