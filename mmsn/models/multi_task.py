"""Segmentation and depth from one pass of the backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.structures import PixelData
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS as MMSEG_MODELS
from mmseg.utils import add_prefix
from torch import Tensor

from mmsn.models.depth_estimator import DepthEstimator
from mmsn.models.depth_heads import levels_for
from mmsn.models.prefix_sharing import Level
from mmsn.registry import MODELS


@MODELS.register_module()
class MultiTaskSegmentor(DepthEstimator):
    """One backbone with a segmentation head and a depth head, trained and evaluated together.

    Modifications of ``DepthEstimator``: ``decode_head`` segments and ``depth_head`` regresses
    depth, from the same features; a data sample has ``pred_sem_seg``, ``seg_logits`` and
    ``pred_depth_map``. Losses are summed; weight them with ``loss_weight`` in each head's
    ``loss_decode``. Internally, logits and depth are channels of one map, so that sliding windows,
    flip averaging and padding apply to both.

    Args:
        depth_head: any head that is a ``DepthRegression``.
        args: of ``DepthEstimator``.
        kwargs: of ``DepthEstimator``; ``auxiliary_head`` segments.
    """

    def __init__(self, *args: Any, depth_head: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.depth_head = MMSEG_MODELS.build(depth_head)
        self.out_channels = self.decode_head.out_channels + self.depth_head.out_channels

    def _reader_of_maps(self) -> None:
        """None: each head receives what it reads."""

    def _decode_head_forward_train(
        self, inputs: Sequence[Level], data_samples: Sequence[Any]
    ) -> dict[str, Tensor]:
        seg = self.decode_head.loss(
            levels_for(self.decode_head, inputs), data_samples, self.train_cfg
        )
        depth = self.depth_head.loss(
            levels_for(self.depth_head, inputs), data_samples, self.train_cfg
        )
        return add_prefix(seg, "decode") | add_prefix(depth, "depth")

    def _auxiliary_head_forward_train(
        self, inputs: Sequence[Level], data_samples: Sequence[Any]
    ) -> dict[str, Tensor]:
        return super()._auxiliary_head_forward_train(
            levels_for(self.auxiliary_head, inputs), data_samples
        )

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """(B, 3, H, W) images to (B, classes + 1, H, W): logits, then meters."""
        features = self.extract_feat(inputs)
        outputs = [
            head.predict(levels_for(head, features), batch_img_metas, self.test_cfg)
            for head in (self.decode_head, self.depth_head)
        ]
        return torch.cat(outputs, dim=1)

    def _forward(
        self, inputs: Tensor, data_samples: Sequence[Any] | None = None
    ) -> tuple[Tensor, Tensor]:
        features = self.extract_feat(inputs)
        seg, depth = self.decode_head, self.depth_head
        return seg(levels_for(seg, features)), depth(levels_for(depth, features))

    def postprocess_result(
        self, output: Tensor, data_samples: Sequence[Any] | None = None
    ) -> Sequence[Any]:
        """Split the output of ``encode_decode`` into data samples, at the original size.

        It is (B, classes + 1, H, W): logits, then meters.
        """
        logits, depth = output[:, :-1], output[:, -1:]
        samples = EncoderDecoder.postprocess_result(self, logits, data_samples)
        if data_samples is not None:  # metadata of padding, flips and resizing
            return super().postprocess_result(depth, samples)
        for sample, own in zip(samples, depth, strict=True):
            sample.set_data(dict(pred_depth_map=PixelData(data=own)))
        return samples
