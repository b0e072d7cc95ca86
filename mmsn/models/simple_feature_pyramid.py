"""The simple feature pyramid of ViTDet (arXiv:2203.16527, Section 3): a pyramid from one map."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from mmsn.models.depth_heads import levels_for
from mmsn.models.prefix_sharing import Level
from mmsn.registry import MODELS


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """Maps of a quarter to twice the patch's stride, made from the last map of a plain ViT alone.

    For patches of 16 pixels: strides 4, 8, 16, 32, and 64 by subsampling. Works as a neck of mmdet
    and of mmseg.

    Args:
        in_channels: width of the last anchor.
        out_channels: of every map.
        num_outs: 4, or 5 with a subsampled map at the end, which RPNs read.
        in_index: the level to read.
    """

    def __init__(
        self, in_channels: int, out_channels: int = 256, num_outs: int = 5, in_index: int = -1
    ) -> None:
        super().__init__()
        self.num_outs, self.in_index = num_outs, in_index
        half, quarter = in_channels // 2, in_channels // 4
        self.scales = nn.ModuleList(
            [
                nn.Sequential(
                    nn.ConvTranspose2d(in_channels, half, 2, stride=2),
                    LayerNorm2d(half),
                    nn.GELU(),
                    nn.ConvTranspose2d(half, quarter, 2, stride=2),
                ),
                nn.ConvTranspose2d(in_channels, half, 2, stride=2),
                nn.Identity(),
                nn.MaxPool2d(2, stride=2),
            ]
        )
        self.outs = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, out_channels, 1, bias=False),
                LayerNorm2d(out_channels),
                nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
                LayerNorm2d(out_channels),
            )
            for width in (quarter, half, in_channels, in_channels)
        )

    def forward(self, levels: Sequence[Level]) -> tuple[Tensor, ...]:
        """(B, C, h, w) levels, of which one is read, to a pyramid, finest first."""
        level = levels_for(self, levels)[self.in_index]
        pyramid = [out(scale(level)) for scale, out in zip(self.scales, self.outs, strict=True)]
        while len(pyramid) < self.num_outs:
            pyramid.append(F.max_pool2d(pyramid[-1], 1, stride=2))
        return tuple(pyramid)
