"""Logits of one image, resized to its original size for some classes at a time.

Resizing, sliding windows, padding and flips follow mmseg's functions operation by operation, so
values and labels are the same to the last bit. What is left out: running the network; see
``mmsn.models.label_prediction``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from mmseg.models.utils import resize
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Box:
    """A window of an image, in pixels; ``bottom`` and ``right`` are outside."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def area(self) -> tuple[slice, slice]:
        """The window as an index into (..., H, W)."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


@dataclass
class Crop:
    """(B, C, h, w) logits of a crop of each image, and the (height, width) they are resized to."""

    logits: Tensor
    size: tuple[int, int]
    box: Box | None = None  # where it lies; None for the whole image


def sliding_boxes(size: Sequence[int], test_cfg: Any) -> list[Box]:
    """The windows of ``EncoderDecoder.slide_inference``, in its order."""
    sides = []
    for length, crop, stride in zip(size, test_cfg.crop_size, test_cfg.stride, strict=True):
        ends = [
            min(i * stride + crop, length)
            for i in range(max(length - crop + stride - 1, 0) // stride + 1)
        ]
        sides.append([(max(end - crop, 0), end) for end in ends])
    return [Box(*rows, *columns) for rows in sides[0] for columns in sides[1]]


@dataclass(frozen=True)
class Target:
    """What ``BaseSegmentor.postprocess_result`` reads of an image's meta information."""

    padding: tuple[int, int, int, int]  # left, right, top, bottom
    flip: str | None
    size: tuple[int, int]

    @classmethod
    def of(cls, meta: dict[str, Any]) -> Target:
        """The same keys and defaults as in mmseg."""
        left, right, top, bottom = meta.get("img_padding_size", meta.get("padding_size", [0] * 4))
        direction = meta.get("flip_direction") if meta.get("flip") else None
        if meta.get("flip"):
            assert direction in ("horizontal", "vertical"), f"flip_direction {direction!r}"
        height, width = meta["ori_shape"][:2]
        return cls((left, right, top, bottom), direction, (int(height), int(width)))

    def apply(self, canvas: Tensor, scale: Callable[[Tensor, tuple[int, int]], Tensor]) -> Tensor:
        """Cut the padding off, undo the flip and resize (1, C, H, W) logits."""
        left, right, top, bottom = self.padding
        height, width = canvas.shape[2:]
        canvas = canvas[:, :, top : height - bottom, left : width - right]
        if self.flip is not None:
            canvas = canvas.flip(dims=(3 if self.flip == "horizontal" else 2,))
        return scale(canvas, self.size)


class ImageLogits:
    """Logits of one image at its original size, made for some channels at a time.

    Args:
        crops: logits as the head gives them; the whole image or all windows of it.
        count: (H, W), how many windows cover each pixel; None without windows.
        index: of the image in the batch.
        target: the original geometry.
        align_corners: of every resize.
        dtype: in which windows are summed.
    """

    def __init__(
        self,
        crops: Sequence[Crop],
        count: Tensor | None,
        index: int,
        target: Target,
        align_corners: bool,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._crops, self._count, self._index = crops, count, index
        self._target, self._align_corners, self._dtype = target, align_corners, dtype
        self._finite = all(bool(torch.isfinite(crop.logits).all()) for crop in crops)

    @property
    def channels(self) -> int:
        """How many classes there are, or 1."""
        return self._crops[0].logits.shape[1]

    def labels(self, threshold: float | None = None) -> Tensor:
        """(1, H, W) labels: int64, or for a single channel 0 and 1 in the logits' type."""
        if self.channels == 1:
            assert threshold is not None, "heads with one channel have a threshold"
            probability = self.full(0, 1)[0].sigmoid()
            return (probability > threshold).to(probability)
        if not self.streams():
            return self.full(0, self.channels)[0].argmax(dim=0, keepdim=True)
        maps = ((c, self.full(c, c + 1)[0, 0]) for c in self.candidates())
        return running_argmax(maps, self.channels)[None]

    def full(self, start: int, stop: int) -> Tensor:
        """(1, stop - start, H, W) logits of these channels, as mmseg computes them."""
        at = slice(self._index, self._index + 1)
        if self._count is None:
            crop = self._crops[0]
            return self._target.apply(
                self._scale(crop.logits[at, start:stop], crop.size), self._scale
            )
        canvas = self._count.new_zeros((1, stop - start, *self._count.shape), dtype=self._dtype)
        for crop in self._crops:
            assert crop.box is not None
            # In the same order as mmseg, which adds zeros elsewhere: the same bits.
            canvas[(..., *crop.box.area)] += self._scale(crop.logits[at, start:stop], crop.size)
        canvas /= self._count
        return self._target.apply(canvas, self._scale)

    def _scale(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        # At the same size the weights are 1 and 0, so finite logits do not change. Autocast may
        # change the type, which could move values across a threshold.
        if (
            logits.shape[2:] == size
            and self._finite
            and not torch.is_autocast_enabled(logits.device.type)
        ):
            return logits
        return resize(logits, size, None, "bilinear", self._align_corners, warning=False)

    def streams(self) -> bool:
        """Whether making the channels one by one is exact and faster.

        On a GPU a hundred small kernels would be slower than one large one. Comparison by ``>``
        and argmax treat NaN differently.
        """
        logits = self._crops[0].logits
        if logits.device.type != "cpu" or not self._finite:
            return False
        if not all(crop.logits.is_contiguous() for crop in self._crops):
            return False
        one_by_one = partial(_one_by_one, dtype=logits.dtype, align_corners=self._align_corners)
        steps = {(crop.logits.shape, crop.size) for crop in self._crops}
        left, right, top, bottom = self._target.padding
        height, width = self._crops[0].size if self._count is None else self._count.shape
        last = (1, self.channels, height - top - bottom, width - left - right)
        steps.add((torch.Size(last), self._target.size))
        threads, autocast = torch.get_num_threads(), torch.is_autocast_enabled("cpu")
        return all(one_by_one(tuple(a), b, threads=threads, autocast=autocast) for a, b in steps)

    def candidates(self) -> list[int]:
        """The channels that may be the largest at some pixel, in rising order."""
        crop = self._crops[0]
        logits = crop.logits[self._index]
        grows = all(a >= b for a, b in zip(crop.size, logits.shape[1:], strict=True))
        if self._count is not None or not grows:
            return list(range(self.channels))
        return possible_winners(logits)


def possible_winners(logits: Tensor) -> list[int]:
    """Channels of (C, h, w) logits that may be the largest after two bilinear resizes.

    The first resize must not shrink. Then a pixel of the second is a convex combination of values
    from at most 3 adjacent rows and columns, so it lies between their smallest and largest
    value. A channel cannot win where its largest value is below another channel's smallest.
    """
    # Every 3 adjacent rows lie in one of these windows.
    kernel = [min(4, side) for side in logits.shape[1:]]
    highest = F.max_pool2d(logits, kernel, stride=2, ceil_mode=True)
    lowest = -F.max_pool2d(-logits, kernel, stride=2, ceil_mode=True)
    # Weights are rounded, and sum to 1 only nearly.
    slack = 32 * torch.finfo(logits.dtype).eps * float(logits.abs().amax())
    possible = highest.amax(dim=0).new_ones(logits.shape[0], dtype=torch.bool)
    bound = lowest.amax(dim=0) - slack
    possible &= (highest >= bound).flatten(1).any(dim=1)
    return possible.nonzero().flatten().tolist()


def running_argmax(channels: Iterator[tuple[int, Tensor]], count: int) -> Tensor:
    """Argmax of (H, W) maps that come one at a time with rising numbers; the first of equals.

    ``count`` is larger than every number.
    """
    number, first = next(channels)
    best = first.clone()
    dtype = torch.uint8 if count <= 256 else torch.int32
    labels = torch.full(best.shape, number, dtype=dtype)
    for number, values in channels:
        wins = (values > best).to(dtype)
        # Numbers rise, so a larger one replaces what was there; quicker than a masked write.
        torch.maximum(labels, wins.mul_(number), out=labels)
        torch.maximum(best, values, out=best)
    return labels.long()


@lru_cache(maxsize=4096)
def _one_by_one(
    shape: tuple[int, int, int, int],
    size: tuple[int, int],
    dtype: torch.dtype,
    align_corners: bool,
    threads: int,
    autocast: bool,
) -> bool:
    """Whether channels resized one by one equal, bit for bit, channels resized together.

    torch has several kernels and chooses by shape; some differ in the last bit. The choice is not
    documented, so every geometry is tried once.
    """
    with torch.random.fork_rng(devices=[]):
        logits = torch.randn(shape, dtype=torch.float32).to(dtype)
    whole = resize(logits, size, None, "bilinear", align_corners, warning=False)
    return all(
        torch.equal(
            resize(logits[:1, c : c + 1], size, None, "bilinear", align_corners, warning=False),
            whole[:1, c : c + 1],
        )
        for c in range(shape[1])
    )
