"""Inference of depth: sliding windows, flip averaging and test-time augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.structures import PixelData
from mmseg.models.decode_heads import DPTHead
from mmseg.models.segmentors import DepthEstimator as MmsegDepthEstimator
from mmseg.models.segmentors import EncoderDecoder, SegTTAModel
from torch import Tensor

from mmsn.errors import UserError
from mmsn.registry import MODELS


@MODELS.register_module()
class DepthEstimator(MmsegDepthEstimator):
    """A backbone and a depth head.

    Modifications of mmseg's ``DepthEstimator``: ``test_cfg.mode='slide'`` returns the prediction of
    the sliding window (mmseg discards it and returns that of the whole image, at the size of a
    window), and ``test_cfg.flip=True`` averages with the mirrored image in both modes, as in the
    published results. Flipping doubles the work; reports give FLOPs and time of one pass.

    Raises:
        UserError: class tokens for a neck, or for a head that reads only maps.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if getattr(self.backbone, "output_cls_token", False):
            reader = "neck" if self.with_neck else self._reader_of_maps()
            if reader:
                raise UserError(
                    f"output_cls_token=True, but the {reader} reads only maps: set "
                    "backbone.output_cls_token=False"
                )

    def _reader_of_maps(self) -> str | None:
        """Name of a head that would receive class tokens but does not read them, or None."""
        name = type(self.decode_head).__name__
        return None if isinstance(self.decode_head, DPTHead) else name

    def inference(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """(B, 3, H, W) images to predictions of the same size."""
        output = EncoderDecoder.inference(self, inputs, batch_img_metas)
        if self.test_cfg.get("flip", False):
            mirrored = EncoderDecoder.inference(self, inputs.flip(-1), batch_img_metas)
            output = (output + mirrored.flip(-1)) / 2
        return output


@MODELS.register_module()
class DepthTTAModel(SegTTAModel):
    """Test-time augmentation of depth, and of segmentation if the model predicts both.

    Modifications of ``SegTTAModel``: ``pred_depth_map`` is the mean over the views. Do not use
    views that zoom, because a zoomed image looks closer.
    """

    def merge_preds(self, data_samples_list: list[list[Any]]) -> list[Any]:
        """Merge the views of each image: a list of views per image to one data sample per image."""
        depths = [_mean_depth(views) for views in data_samples_list]
        if "seg_logits" in data_samples_list[0][0]:
            merged = super().merge_preds(data_samples_list)
        else:
            merged = [views[0] for views in data_samples_list]
        for sample, depth in zip(merged, depths, strict=True):
            sample.set_data(dict(pred_depth_map=PixelData(data=depth)))
        return merged


def _mean_depth(views: Sequence[Any]) -> Tensor:
    return torch.stack([view.pred_depth_map.data for view in views]).mean(dim=0)
