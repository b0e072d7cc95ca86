"""Predictions that are labels only, for evaluation that never reads the logits of whole images.

mmseg resizes the logits of all classes to the full image and takes the argmax: at 39 classes and
480x640 pixels that is 48 MB for one image, and more time than a small backbone needs. Here the
classes pass one at a time under a running maximum, and a class that cannot win anywhere is
skipped. Labels are exactly those of mmseg's own functions.

What is left out: segmentors and heads that change how mmseg predicts (``predicts_like_mmseg``),
test-time augmentation, and everything that reads ``seg_logits``. These take mmseg's way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from mmengine.structures import PixelData
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.segmentors import EncoderDecoder
from mmseg.models.utils import resize
from torch import Tensor, nn
from torch.nn import functional as F

# What ``LabelStep`` does in their place. A model that has its own (or a test that replaces one)
# keeps its own way of predicting.
_SEGMENTOR = ("test_step", "val_step", "_run_forward", "forward", "predict", "inference")
_SEGMENTOR += ("whole_inference", "slide_inference", "encode_decode", "postprocess_result")
_HEAD = ("predict", "predict_by_feat")


def _methods(owner: type, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(owner, name) for name in names}


# Looked up now, so that what others patch into mmseg later counts as their own.
_MMSEG_SEGMENTOR = _methods(EncoderDecoder, _SEGMENTOR)
_MMSEG_HEAD = _methods(BaseDecodeHead, _HEAD)


def _has_only(module: Any, methods: dict[str, Any]) -> bool:
    """Are these the bound methods of the module, neither overridden nor replaced?"""
    found = (getattr(getattr(module, name, None), "__func__", None) for name in methods)
    return all(a is b for a, b in zip(found, methods.values(), strict=True))


def predicts_like_mmseg(model: nn.Module) -> bool:
    """Does this model predict with nothing but mmseg's ``EncoderDecoder`` methods?"""
    hooks = model._forward_hooks or model._forward_pre_hooks
    return isinstance(model, EncoderDecoder) and not hooks and _has_only(model, _MMSEG_SEGMENTOR)


def head_pass(model: Any) -> Callable[[Tensor], Tensor]:
    """A segmentor's pass over (B, 3, H, W) normalized pixels, to (B, C, h, w) channels.

    They are as the head gives them where mmseg only resizes them afterwards, which
    ``ImageLogits`` does more cheaply; else they have the size of the image.
    """
    raw = predicts_like_mmseg(model) and _has_only(model.decode_head, _MMSEG_HEAD)

    def run(image: Tensor) -> Tensor:
        if raw:
            return model.decode_head.forward(model.extract_feat(image))
        shape = image.shape[2:]
        metas = [dict(img_shape=shape, ori_shape=shape, pad_shape=shape) for _ in image]
        return model.encode_decode(image, metas)

    return run


class LabelStep:
    """One batch, preprocessed once; every call predicts it with the stitch that is set.

    Modifications of ``BaseModel.test_step`` and ``EncoderDecoder.predict``: data samples carry
    ``pred_sem_seg`` but no ``seg_logits``, and each call returns new ones.

    Args:
        model: one for which ``predicts_like_mmseg`` holds.
        data_batch: as a data loader gives it.
    """

    def __init__(self, model: EncoderDecoder, data_batch: Any) -> None:
        self._model, self._head = model, model.decode_head
        data = model.data_preprocessor(data_batch, False)
        self._inputs: Tensor = data["inputs"]
        self._samples: Sequence[Any] = data["data_samples"]
        self._reads_head = _has_only(self._head, _MMSEG_HEAD)

    def __call__(self) -> list[Any]:
        """Data samples with (1, H, W) labels, as mmseg's argmax gives them."""
        metas = [sample.metainfo for sample in self._samples]
        count, slides = None, self._model.test_cfg.get("mode", "whole") == "slide"
        if slides:
            boxes = sliding_boxes(self._inputs.shape[2:], self._model.test_cfg)
            count = self._inputs.new_zeros(self._inputs.shape[2:])
            for box in boxes:
                count[box.area] += 1
            crops = [self._crop(box, metas) for box in boxes]
        else:
            crops = [self._decode(self._inputs, metas)]
        outputs = []
        for i, sample in enumerate(self._samples):
            logits = ImageLogits(
                crops,
                count,
                i,
                Target.of(sample.metainfo),
                self._model.align_corners,
                self._inputs.dtype,
            )
            found = sample.new()
            threshold = getattr(self._head, "threshold", None)
            found.set_data(dict(pred_sem_seg=PixelData(data=logits.labels(threshold))))
            outputs.append(found)
        return outputs

    def _crop(self, box: Box, metas: list[dict]) -> Crop:
        image = self._inputs[(..., *box.area)]
        metas[0]["img_shape"] = image.shape[2:]  # from it heads know the size of a crop
        crop = self._decode(image, metas)
        crop.box = box
        return crop

    def _decode(self, image: Tensor, metas: list[dict]) -> Crop:
        """Logits before or, for heads with a way of their own, after the resize to the image."""
        features = self._model.extract_feat(image)
        if not self._reads_head:
            logits = self._head.predict(features, metas, self._model.test_cfg)
            return Crop(logits, (logits.shape[2], logits.shape[3]))
        # The rule of BaseDecodeHead.predict_by_feat.
        shape = metas[0]["img_shape"]
        if not isinstance(shape, torch.Size) and "pad_shape" in metas[0]:
            shape = metas[0]["pad_shape"]
        return Crop(self._head.forward(features), (int(shape[0]), int(shape[1])))


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
        # Finite logits at the same size come out as they were: the weights are 1 and 0. Autocast
        # may change the type, which a threshold could notice.
        if (
            logits.shape[2:] == size
            and self._finite
            and not torch.is_autocast_enabled(logits.device.type)
        ):
            return logits
        return resize(logits, size, None, "bilinear", self._align_corners, warning=False)

    def streams(self) -> bool:
        """Is it exact, and worth it, to make the channels one by one?

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
    from at most 3 adjacent rows and columns, so it lies between their least and their largest
    value. A channel cannot win where its largest value is below another one's least.
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
    """Does resizing channels one by one give the bits of resizing them together?

    torch has several kernels and chooses by shape; some differ in the last bit. Which one runs is
    no promise of its, so every geometry is tried once.
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
