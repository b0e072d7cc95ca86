"""Hook: initialize stitching layers by least squares before training starts."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.dist import broadcast, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from rich.progress import Progress
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from mmsn.checks import examine_run
from mmsn.engine.initialize import solve_stitching_layers
from mmsn.errors import UserError
from mmsn.models import stitched_backbone, unwrap
from mmsn.registry import HOOKS
from mmsn.stitching import LayerKey, Solution


@HOOKS.register_module()
class StitchInitHook(Hook):
    """Solve the stitching layers that no checkpoint has filled, from a few training images.

    Whether a layer is filled is part of its state, so layers from ``load_from`` or ``resume`` are
    kept. Rank 0 solves, every rank receives the same weights.

    Args:
        num_images: training images to take; the reference takes 50.
        seed: which of them.
    """

    def __init__(self, num_images: int = 50, seed: int = 0) -> None:
        if num_images < 1:
            raise UserError(f"num_images {num_images} is not allowed: give 1 or more")
        self.num_images, self.seed = num_images, seed

    def before_run(self, runner: Any) -> None:
        """Find mistakes in the config before weights are loaded."""
        examine_run(runner)

    def before_train(self, runner: Any) -> None:
        """Solve and distribute; weights are loaded by now, and no optimizer step is done yet."""
        backbone = stitched_backbone(runner.model)
        keys = backbone.uninitialized
        if not keys:
            return
        if is_main_process():
            start = time.perf_counter()
            images = self._images(runner)
            with Progress(transient=True) as progress:
                task = progress.add_task("least squares", total=self.num_images)
                solutions = solve_stitching_layers(
                    backbone,
                    images,
                    keys,
                    lambda: progress.advance(task, runner.train_dataloader.batch_size or 1),
                )
            report_solutions(solutions, time.perf_counter() - start)
        # The whole state, so the flag ``initialized`` and the random A of the update as well.
        for key in keys:
            for tensor in backbone.layer(key).state_dict().values():
                broadcast(tensor, src=0)

    def _images(self, runner: Any) -> Iterator[Tensor]:
        loader = runner.train_dataloader
        size = len(loader.dataset)
        indices = random.Random(self.seed).sample(range(size), min(size, self.num_images))
        # A loader of its own: the training iterator must not lose batches to this.
        loader = DataLoader(
            Subset(loader.dataset, indices),
            batch_size=loader.batch_size,
            collate_fn=loader.collate_fn,
        )
        model = unwrap(runner.model)
        for data in loader:
            with torch.no_grad():
                yield model.data_preprocessor(data, True)["inputs"]


def report_solutions(solutions: dict[LayerKey, Solution], seconds: float) -> None:
    """Log how well the layers fit, and one warning if the images do not determine all of them."""
    errors = [solution.error for solution in solutions.values()]
    print_log(
        f"Initialized {len(solutions)} stitching layers by least squares in {seconds:.1f} s; "
        f"unexplained share of the target {min(errors):.3f} to {max(errors):.3f}",
        logger="current",
    )
    open_ones = {key: s for key, s in solutions.items() if s.rank < s.size}
    if open_ones:
        worst, solution = min(open_ones.items(), key=lambda item: item[1].rank / item[1].size)
        print_log(
            f"{len(open_ones)} of {len(solutions)} stitching layers are not determined by the "
            f"images, which span {solution.rank} of {solution.size} directions at worst (layer "
            f"{worst.source} to {worst.target} after unit {worst.unit}): the other directions map "
            "to zero; raise num_images of StitchInitHook",
            logger="current",
            level=logging.WARNING,
        )
