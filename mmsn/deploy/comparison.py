"""Compare exported files with PyTorch: metric and latency, to judge lower precision.

Every variant gets the same images through mmseg's own preprocessing, sliding windows and metrics;
only the pass over a batch differs. Passes are timed in interleaved order, on one crop of random
pixels.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner
from torch import Tensor

from mmsn.errors import UserError
from mmsn.evaluation.latency import time_interleaved
from mmsn.evaluation.report import Latency


@dataclass(frozen=True)
class Comparison:
    """Metrics over the images, and the time of one pass over one crop."""

    metrics: dict[str, float]
    latency: Latency


@torch.no_grad()
def compare(
    config: Config,
    model: Any,
    variants: Mapping[str, Callable[[Tensor], Tensor]],
    image_size: tuple[int, int],
    max_images: int | None = None,
    repeats: int = 20,
) -> dict[str, Comparison]:
    """Evaluate and time variants of a segmentor on the config's test data.

    Args:
        config: names ``test_dataloader`` and ``test_evaluator``.
        model: the segmentor, in evaluation mode; its preprocessing and windows serve all.
        variants: by name, functions from normalized (B, 3, H, W) images to logits.
        image_size: (height, width) that every variant takes.
        max_images: stop after so many; all by default.
        repeats: timed passes of each.

    Raises:
        UserError: images or windows of another size than ``image_size``.
    """
    loader = Runner.build_dataloader(config.test_dataloader)
    segmentors = {name: _with_pass(model, run, image_size) for name, run in variants.items()}
    evaluators = {name: Evaluator(config.test_evaluator) for name in variants}
    seen = 0
    for batch in loader:
        for name, segmentor in segmentors.items():
            evaluators[name].dataset_meta = loader.dataset.metainfo
            # A copy, because preprocessing may change a batch in place.
            samples = segmentor.test_step(copy.deepcopy(batch))
            evaluators[name].process(data_samples=samples, data_batch=batch)
        seen += len(batch["inputs"])
        if max_images is not None and seen >= max_images:
            break
    # On the CPU, where exported files run.
    image = torch.randn(1, 3, *image_size)
    passes = {name: lambda run=run: run(image) for name, run in variants.items()}
    latencies = time_interleaved(passes, image.device, repeats)
    return {
        name: Comparison(dict(evaluators[name].evaluate(seen)), latencies[name])
        for name in variants
    }


def _with_pass(model: Any, run: Callable[[Tensor], Tensor], image_size: tuple[int, int]) -> Any:
    """The segmentor, with another function for the pass over a batch of equally large images."""

    def encode_decode(image: Tensor, metas: Any) -> Tensor:
        if tuple(image.shape[2:]) != image_size:
            raise UserError(
                f"an image has size {tuple(image.shape[2:])}, but the files are for {image_size}: "
                "export them for that size, or set model.test_cfg to mode 'slide' with crop_size"
            )
        return run(image)

    # Shallow: the copy shares its weights with the segmentor, only this method differs.
    copied = copy.copy(model)
    copied.encode_decode = encode_decode
    return copied
