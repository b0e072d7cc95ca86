"""Predictions that are labels only, for evaluation that never reads the logits of whole images.

mmseg resizes the logits of all classes to the full image and takes the argmax: at 39 classes and
480x640 pixels that is 48 MB for one image, and more time than a small backbone needs. Here the
classes pass one at a time under a running maximum, and a class that cannot win anywhere is
skipped. Labels are exactly those of mmseg's own functions.

What is left out: segmentors and heads that change how mmseg predicts (``predicts_like_mmseg``),
test-time augmentation, and everything that reads ``seg_logits``. These take mmseg's way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from mmengine.structures import PixelData
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.segmentors import EncoderDecoder
from torch import Tensor, nn

from mmsn.models.image_logits import Box, Crop, ImageLogits, Target, sliding_boxes

# What ``LabelStep`` does in their place. A model that has its own (or a test that replaces one)
# keeps its own way of predicting.
_SEGMENTOR = (
    *("test_step", "val_step", "_run_forward", "forward", "predict", "inference"),
    *("whole_inference", "slide_inference", "encode_decode", "postprocess_result"),
)
_HEAD = ("predict", "predict_by_feat")


def _methods(owner: type, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(owner, name) for name in names}


# Looked up now, so that later patches of mmseg count as overrides.
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

    They are as the head gives them where mmseg only resizes them afterward, which
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
