"""Label maps as an image channel, noised so that they help a teacher but do not tell it all.

While a teacher trains, a class has another random code in every image and pass, so the channel
shows where regions are and not what they are. For its students, codes are fixed. Ignored pixels
are one more class. All random numbers follow from a seed, so a resumed run draws the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmsn.errors import UserError

CODE_SCALE = 100.0  # of the published code, in units of pixels from 0 to 255


def stacked_labels(data_samples: Sequence[Any], num_classes: int, size: tuple[int, int]) -> Tensor:
    """(B, 1, H, W) labels of data samples; whatever is no class becomes ``num_classes``.

    Raises:
        UserError: a data sample without labels.
    """
    if any("gt_sem_seg" not in sample for sample in data_samples):
        raise UserError(
            "label-assisted training needs gt_sem_seg in every data sample: add "
            "dict(type='LoadAnnotations') to the training pipeline"
        )
    labels = torch.stack([sample.gt_sem_seg.data for sample in data_samples]).long()
    labels = labels.where((labels >= 0) & (labels < num_classes), num_classes)
    if labels.shape[2:] != size:
        labels = F.interpolate(labels.float(), size, mode="nearest").long()
    return labels


def noised_labels(
    labels: Tensor, num_classes: int, generator: torch.Generator, jitter: float = 0.03
) -> Tensor:
    """(B, 1, H, W) labels to random codes: one normal number per image and class, and jitter.

    Args:
        jitter: standard deviation of what is added to every pixel.
        generator: on the CPU.
    """
    codes = torch.randn(len(labels), num_classes + 1, generator=generator)
    return _coded(labels, codes, jitter, generator)


def fixed_labels(
    labels: Tensor, num_classes: int, generator: torch.Generator, jitter: float = 0.02
) -> Tensor:
    """(B, 1, H, W) labels to the codes that students' teachers see, evenly spaced, and jitter.

    Class k of K, the ignored one included, is ``(k - K/2) / (K/2 - 1)``: the published
    ``(k - 11) / 10`` at the 22 of Pascal VOC, and the same range at any other number.
    """
    count = num_classes + 1
    half = count / 2
    codes = (torch.arange(count) - half) / max(half - 1, 1)
    return _coded(labels, codes.expand(len(labels), -1), jitter, generator)


def _coded(labels: Tensor, codes: Tensor, jitter: float, generator: torch.Generator) -> Tensor:
    flat = codes.to(labels.device).gather(1, labels.flatten(1)).view(labels.shape)
    noise = torch.randn(labels.shape, generator=generator)
    return flat + jitter * noise.to(labels.device)
