"""Depth regression: mmseg's decode heads with one output channel, in meters.

Left out on purpose: classification into depth bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmseg.models.decode_heads import DPTHead, FCNHead, FPNHead, UPerHead
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.utils import resize
from torch import Tensor, nn

from mmsn.errors import UserError
from mmsn.models.prefix_sharing import Level
from mmsn.registry import MODELS


class DepthRegression(BaseDecodeHead):
    """Mixin that turns a decode head of mmseg into one that regresses depth; inherit it first.

    Modifications of ``BaseDecodeHead``: one channel, mapped by a sigmoid to ``min_depth`` to
    ``max_depth``, instead of one channel per class; the loss compares with ``gt_depth_map``. The
    published head is ``relu(x) + min_depth`` and clamps at test time: pixels with a negative ``x``
    get no gradient. Here the gradient of the logarithm of depth is at most 1.

    Args:
        min_depth: meters; the smallest depth that can be predicted.
        max_depth: meters; the largest.
        loss_decode: ``mmsn.SILogLoss`` by default, whose range is that of the head by default.
        options: of the head; by default ``dropout_ratio`` is 0 and ``init_cfg`` is None, that is,
            PyTorch's own initialization.
    """

    def __init__(
        self,
        *,
        min_depth: float = 1e-3,
        max_depth: float = 10.0,
        loss_decode: dict[str, Any] | Sequence[dict[str, Any]] | None = None,
        **options: Any,
    ) -> None:
        silog = dict(type="mmsn.SILogLoss", min_depth=min_depth, max_depth=max_depth)
        given = [loss_decode] if isinstance(loss_decode, dict) else loss_decode or [silog]
        losses = [silog | loss if loss["type"] == silog["type"] else loss for loss in given]
        fixed = dict(num_classes=1, out_channels=1, threshold=0.0)  # without one, mmseg warns
        options = dict(dropout_ratio=0.0, init_cfg=None) | options | fixed
        super().__init__(loss_decode=losses, **options)
        self.min_depth, self.max_depth = min_depth, max_depth

    def cls_seg(self, feat: Tensor) -> Tensor:
        """(B, C, h, w) features to a (B, 1, h, w) map of meters."""
        span = self.max_depth - self.min_depth
        # In half precision, depths near 10 m would have steps of 5 mm (float16) or 4 cm (bfloat16).
        return self.min_depth + span * torch.sigmoid(super().cls_seg(feat).float())

    def loss_by_feat(self, depth: Tensor, data_samples: Sequence[Any]) -> dict[str, Tensor]:
        """Losses of a (B, 1, h, w) prediction, resized to the size of ``gt_depth_map``."""
        target = torch.stack([sample.gt_depth_map.data for sample in data_samples])
        depth = resize(depth, target.shape[2:], mode="bilinear", align_corners=self.align_corners)
        losses: dict[str, Tensor] = {}
        for loss in self.loss_decode:
            value = loss(depth, target)
            losses[loss.loss_name] = losses.get(loss.loss_name, 0) + value
        return losses


@MODELS.register_module()
class DPTDepthHead(DepthRegression, DPTHead):
    """The depth head of DPT (Ranftl et al., 2021), as SN-Netv2 uses it.

    Modifications of mmseg's ``DPTHead``, which is DPT's segmentation head: the last convolution is
    replaced by three, with upsampling by 2 after the first; there is no norm by default; and
    ``embed_dims`` is derived from ``in_channels``.

    Args:
        in_channels: width of each of the four levels; all are equal.
        options: of ``DPTHead`` and ``DepthRegression``.
    """

    def __init__(self, in_channels: Sequence[int], **options: Any) -> None:
        options = dict(norm_cfg=None, input_transform="multiple_select") | options
        super().__init__(in_channels=list(in_channels), embed_dims=in_channels[0], **options)
        width = self.channels // 2
        self.conv_seg = nn.Sequential(
            nn.Conv2d(self.channels, width, 3, padding=1),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
            nn.Conv2d(width, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 1, 1),
        )

    def forward(self, levels: Sequence[Level]) -> Tensor:
        """Pairs of a (B, C, h, w) map and a (B, C) class token to a (B, 1, H, W) map of meters."""
        if isinstance(levels[0], Tensor):  # mmseg would unpack a batch of two as a pair
            raise UserError(
                "DPT reads class tokens, but the levels are only maps: set "
                "backbone.output_cls_token=True, and no neck"
            )
        return super().forward(levels)


@MODELS.register_module()
class UPerDepthHead(DepthRegression, UPerHead):
    """UperNet's decoder (Xiao et al., 2018), regressing depth."""


@MODELS.register_module()
class FPNDepthHead(DepthRegression, FPNHead):
    """Semantic FPN's decoder (Kirillov et al., 2019), regressing depth."""


@MODELS.register_module()
class FCNDepthHead(DepthRegression, FCNHead):
    """Convolutions on one level, regressing depth; linear with a 1x1 kernel and no activation."""


def levels_for(head: nn.Module, levels: Sequence[Level]) -> Sequence[Level]:
    """Levels as a head reads them: with class tokens for DPT, only the maps for other heads."""
    if isinstance(head, DPTHead):
        return levels
    return tuple(level[0] if isinstance(level, tuple) else level for level in levels)
