"""Depth regression: mmseg's decode heads, one output channel, in meters.

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
    """Turns a decode head of mmseg into one that regresses depth, when inherited before it.

    Modifications of ``BaseDecodeHead``: one channel, squashed by a sigmoid into ``min_depth`` to
    ``max_depth``, instead of a class for each pixel; the loss compares with ``gt_depth_map``. The
    published head is ``relu(x) + min_depth`` and clamps at test; where its ReLU dies, a pixel
    stops learning. Here the logarithm's slope is at most 1.

    Args:
        min_depth: meters; the smallest depth that can be predicted.
        max_depth: meters; the largest.
        loss_decode: ``mmsn.SILogLoss`` by default, over the same range unless it names its own.
        options: of the head; ``dropout_ratio`` is 0 and ``init_cfg`` None (PyTorch's own
            initialization) by default.
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
        return self.min_depth + span * torch.sigmoid(super().cls_seg(feat).float())

    def loss_by_feat(self, depth: Tensor, data_samples: Sequence[Any]) -> dict[str, Tensor]:
        """Losses of a (B, 1, h, w) prediction, resized to the ``gt_depth_map`` of the samples."""
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

    Modifications of mmseg's ``DPTHead``, which is the one for segmentation: the last convolution
    is DPT's three with a doubling of the resolution between them, no norm is the default, and
    ``embed_dims`` is known from ``in_channels``.

    Args:
        in_channels: width of each of the four levels, which is the same.
        options: as ``DPTHead`` and ``DepthRegression``.
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
        if isinstance(levels[0], Tensor):  # mmseg would take a batch of two for such a pair
            raise UserError(
                "DPT reads class tokens, but the levels are maps alone: set "
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
    """Convolutions on one level, regressing depth; linear with one of size 1 and no activation."""


def levels_for(head: nn.Module, levels: Sequence[Level]) -> Sequence[Level]:
    """Levels as a head reads them: DPT with class tokens, every other head the maps alone."""
    if isinstance(head, DPTHead):
        return levels
    return tuple(level[0] if isinstance(level, tuple) else level for level in levels)
