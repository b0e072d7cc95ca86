"""Modules whose traces take images of any size, in the place of those that would fix it.

``mmsn.deploy.exporting`` exchanges them in a copy of the segmentor; results stay the same.
"""

from __future__ import annotations

from typing import Any

import torch
from mmseg.models.utils import Upsample
from torch import Tensor, nn


class FreeUpsample(nn.Module):
    """mmseg's ``Upsample`` by a whole factor.

    Modifications: no ``int(...)`` of the new size, which would fix it in a trace.
    """

    def __init__(self, source: Upsample) -> None:
        super().__init__()
        self.factor = int(source.scale_factor)
        self.options = dict(mode=source.mode, align_corners=source.align_corners)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, factor * H, factor * W)."""
        size = [side * self.factor for side in maps.shape[-2:]]
        return nn.functional.interpolate(maps, size, **self.options)


class FreePool(nn.Module):
    """PyTorch's ``AdaptiveAvgPool2d`` to a fixed grid.

    Modifications: cells are computed from the size of the maps in each pass, because ONNX has no
    operator that pools maps of any size to a fixed grid. Means are sums over broadcast products:
    matrix products ask how maps lie in memory, which a trace with free sizes cannot answer.
    """

    def __init__(self, source: nn.AdaptiveAvgPool2d) -> None:
        super().__init__()
        size: Any = source.output_size
        sides: tuple[int, int] = (size, size) if isinstance(size, int) else size
        self.rows, self.columns = sides

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, rows, columns)."""
        height, width = maps.shape[-2:]
        across, down = _cells(width, self.columns, maps), _cells(height, self.rows, maps)
        maps = (maps[..., None, :] * across).sum(-1)  # (B, C, H, columns)
        return (maps[..., None, :, :] * down[..., None]).sum(-2)


def _cells(side: int, count: int, like: Tensor) -> Tensor:
    """(count, side): what each pixel of a side contributes to each cell; a row sums to one.

    A cell begins at floor(i * side / count) and ends before ceil((i + 1) * side / count).
    """
    cell, at = torch.arange(count)[:, None], torch.arange(side)
    begin, end = cell * side // count, ((cell + 1) * side + count - 1) // count
    inside = ((at >= begin) & (at < end)).to(like)
    return inside / (end - begin).to(like)


def free_modules(model: nn.Module) -> None:
    """Exchange, in place, modules that would fix the size of images in a trace."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            factor = getattr(child, "scale_factor", None)
            if isinstance(child, Upsample) and isinstance(factor, float) and factor.is_integer():
                setattr(parent, name, FreeUpsample(child))
            elif isinstance(child, nn.AdaptiveAvgPool2d):
                setattr(parent, name, FreePool(child))
