"""BEiT's relative position bias, which the published SN-Netv2 segmentors train with.

Each block owns a table with one value per head for every offset between two patches, and three
more for the class token. The index from token pairs to offsets depends on the grid alone, so it is
made once per grid and shared by all blocks; a table is resampled when the grid is not the one it
was trained on, so that a converted model runs at any size. The bias goes to timm's fused
attention as its mask.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmsn.models.grid_cache import Grid, GridCache


def num_relative_positions(grid: Grid) -> int:
    """Rows of a table: offsets of a (rows, columns) grid, and three for the class token."""
    return (2 * grid[0] - 1) * (2 * grid[1] - 1) + 3


def relative_position_index(grid: Grid) -> Tensor:
    """(N, N) rows of the table for each pair of query and key, the class token first.

    A pair of patches (dy, dx) apart has row ``(dy + h - 1) · (2w - 1) + dx + w - 1``; the last
    three rows are class to patch, patch to class, and class to class.
    """
    height, width = grid
    rows = torch.arange(height).repeat_interleave(width)
    columns = torch.arange(width).repeat(height)
    dy = rows[:, None] - rows[None, :] + height - 1
    dx = columns[:, None] - columns[None, :] + width - 1
    size = num_relative_positions(grid)
    index = torch.empty(height * width + 1, height * width + 1, dtype=torch.long)
    index[1:, 1:] = dy * (2 * width - 1) + dx
    index[0, :] = size - 3
    index[:, 0] = size - 2
    index[0, 0] = size - 1
    return index


class RelativePositionBias(nn.Module):
    """One table per block, zero at first, and the bias they give on any grid.

    Args:
        depth: number of blocks.
        num_heads: heads of a block.
        grid: (rows, columns) of patches that the tables are for.
    """

    def __init__(self, depth: int, num_heads: int, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        # By name, not a list: an anchor that lost blocks has gaps.
        self.tables = nn.ParameterDict(
            {
                str(block): nn.Parameter(torch.zeros(num_relative_positions(grid), num_heads))
                for block in range(depth)
            }
        )
        self._indices = GridCache()

    def forward(self, block: int, grid: Grid) -> Tensor:
        """(1, heads, N, N) bias of a block on a (rows, columns) grid, N with the class token."""
        table = self.tables[str(block)]
        if grid != self.grid:
            table = resize_table(table, self.grid, grid)
        device = table.device
        index = self._indices.get((grid, device), lambda: relative_position_index(grid).to(device))
        return table[index].permute(2, 0, 1).unsqueeze(0)


def resize_table(table: Tensor, old: Grid, new: Grid) -> Tensor:
    """Resample a (T, heads) table to another grid; the farthest offsets stay the farthest."""
    offsets, class_rows = table[:-3], table[-3:]
    image = offsets.T.reshape(1, -1, 2 * old[0] - 1, 2 * old[1] - 1)
    size = (2 * new[0] - 1, 2 * new[1] - 1)
    for axis in (0, 1):
        if new[axis] == 1:  # only the middle offset, zero, is left
            image = image.narrow(2 + axis, old[axis] - 1, 1)
    image = F.interpolate(image, size=size, mode="bicubic", align_corners=True)
    return torch.cat([image.flatten(2)[0].T, class_rows])
