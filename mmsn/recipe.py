"""From separate anchors to a curve: train each alone, stitch, fine-tune, evaluate.

Every step is an ordinary run of mmengine's ``Runner`` on an ordinary config, in a folder of its
own. A finished step is not repeated, and an interrupted one continues from its last checkpoint, so
the same call can be repeated until all steps are done. This module calls the Runner; what the
Runner calls is in ``mmsn.engine``.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS, init_default_scope
from mmengine.runner import Runner
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

# Keys of a network with a single anchor, as this package saves it.
ANCHOR_PREFIX = "backbone.anchors.0."
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


class ShortRunner(Runner):
    """A run among several.

    Modifications of ``Runner``: the console shows one-line messages only. Dumped configs, tables
    per class and options per parameter are in the log file alone. Curves of the training are in
    the folder of the step.
    """

    def build_visualizer(self, visualizer: Any = None) -> Visualizer:
        """One for each run: mmengine gives those of one name, as configs set it, to all of them."""
        if isinstance(visualizer, dict):
            visualizer = dict(visualizer, name=self._experiment_name)
        return super().build_visualizer(visualizer)

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """The usual logger, its console handlers filtered."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(_is_short)
        return logger


def _is_short(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    return "\n" not in message and not message.startswith(("paramwise_options", "backbone."))


def train_and_test(step: Step, folder: Path) -> ParetoReport:
    """Train a step to its end, or continue it, and evaluate the stitches its ``test_cfg`` names."""
    report, config = folder / "pareto.json", step.config
    _check(step)
    examine(config, training=True).refuse()
    identity = hashlib.sha256(config.pretty_text.encode()).hexdigest()
    mark = folder / "step.sha256"
    if mark.is_file() and mark.read_bytes() != identity.encode():
        raise UserError(
            f"step {step.name} was started with another config in {folder}: give another work "
            "dir, or delete that folder to start again"
        )
    write_text(mark, identity)
    if report.is_file():
        return ParetoReport.load(report)
    config.work_dir = str(folder)
    final = folder / f"iter_{config.train_cfg.max_iters}.pth"
    if not is_whole(final):  # there, but cut off, is not finished
        latest = latest_checkpoint(folder)
        config.resume = latest is not None
        config.load_from = latest or config.get("load_from")
        ShortRunner.from_cfg(config).train()
    config.resume, config.load_from = False, str(final)
    ShortRunner.from_cfg(config).test()
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
) -> ParetoReport:
    """Train, stitch and evaluate; writes ``pareto.json`` and ``pareto.png``, and prints a table.

    The stitched network starts from the trained anchors, and its heads from the last anchor's.

    Args:
        anchors: the anchors' own trainings, smallest to largest, as many as ``stitched`` has.
        stitched: the training of the stitched network.
        work_dir: each step gets a folder in it.
        probes: further trainings to compare with, for example linear probes.

    Returns:
        The stitched network's report.
    """
    names = [step.name for step in (*probes, *anchors, stitched)]
    if len(set(names)) < len(names):
        raise UserError(f"steps {names} need different names: their folders are named after them")
    wanted = len(stitched.config.model.backbone.anchors)
    if len(anchors) != wanted:
        raise UserError(f"{stitched.name} stitches {wanted} anchors, but {len(anchors)} are given")
    work_dir, console, start = Path(work_dir), Console(), time.monotonic()
    steps = [*probes, *anchors, stitched]

    def run(step: Step) -> ParetoReport:
        minutes = (time.monotonic() - start) / 60
        number = steps.index(step) + 1
        console.rule(f"step {number} of {len(steps)}: {step.name} (after {minutes:.1f} min)")
        return train_and_test(step, work_dir / step.name)

    others = {step.name: run(step) for step in (*probes, *anchors)}
    backbone = stitched.config.model.backbone
    for spec, step in zip(backbone.anchors, anchors, strict=True):
        final = work_dir / step.name / f"iter_{step.config.train_cfg.max_iters}.pth"
        spec.pretrained = False
        spec.update(checkpoint=str(final), prefix=ANCHOR_PREFIX)
    for head in HEADS & stitched.config.model.keys():
        stitched.config.model[head].init_cfg = dict(
            type="Pretrained", checkpoint=backbone.anchors[-1].checkpoint, prefix=f"{head}."
        )
    report = run(stitched)

    metric = report.default_metric()
    floors = floors_of(stitched.config)
    alone = {
        step.name: (others[step.name].stitches[0].macs / 1e9, _value(others[step.name], metric))
        for step in anchors
    }
    levels = [(name, values[metric]) for name, values in floors.items() if metric in values]
    levels += [(step.name, _value(others[step.name], metric)) for step in probes]
    report.save(work_dir / "pareto.json")
    plot_pareto(report, work_dir / "pareto.png", metric, alone, levels)

    console.rule("result")
    print(text_table(report, Reference.of([report], metric)))
    for name, (gflops, value) in alone.items():
        print(f"trained alone: {name}: {metric} {shown(value)} at {gflops:.4g} GFLOPs")
    for name, value in levels:
        print(f"to compare with: {name}: {metric} {shown(value)}")
    print(f"the curve: {work_dir / 'pareto.png'}; {(time.monotonic() - start) / 60:.1f} minutes")
    return report


def _value(report: ParetoReport, metric: str) -> float:
    return report.stitches[0].metrics[metric]
