"""What a hierarchical anchor with windowed attention costs, in closed form.

As in ``mmsn.stitching.cost``, with two differences: the grid of tokens is halved from stage to
stage, and attention runs in windows, for which each block pads its grid. Padding costs what tokens
cost in attention, and nothing elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain

from mmsn.stitching.cost import NORM_MACS_PER_ELEMENT

Grid = tuple[int, int]


@dataclass(frozen=True)
class WindowBlockCost:
    """The shapes of one block that its cost depends on, the merging of patches before it included.

    ``attention_linear`` and ``mlp_linear`` are weights of linear layers, that is MACs per token,
    ``norm`` is normalized elements per token and ``attention_dim`` the width of queries, summed
    over heads. ``window`` is (height, width) in tokens. Merging is of the first block of a stage.
    """

    attention_linear: int
    mlp_linear: int
    norm: int
    params: int
    attention_dim: int
    window: Grid
    shifted: bool
    merge_linear: int = 0
    merge_norm: int = 0
    merge_params: int = 0

    def macs(self, grid: Grid) -> int:
        """MACs for an (h, w) grid of tokens."""
        tokens, area = math.prod(grid), math.prod(self.window)
        windows = math.prod(
            math.ceil(side / window) for side, window in zip(grid, self.window, strict=True)
        )
        attention = windows * area * (self.attention_linear + 2 * area * self.attention_dim)
        norms = NORM_MACS_PER_ELEMENT * (self.norm + self.merge_norm)
        return attention + tokens * (self.mlp_linear + self.merge_linear + norms)


@dataclass(frozen=True)
class StagedCost:
    """The shapes of one hierarchical anchor that its cost depends on.

    ``dims`` and ``stages`` have one entry per stage: its width and its blocks. The others are as in
    ``AnchorCost``. Blocks are counted from the first stage on.
    """

    patch_size: tuple[int, int]
    embed_linear: int
    embed_norm: int
    embed_params: int
    dims: tuple[int, ...]
    stages: tuple[tuple[WindowBlockCost, ...], ...]

    @property
    def blocks(self) -> tuple[WindowBlockCost, ...]:
        """All blocks, stage after stage."""
        return tuple(chain.from_iterable(self.stages))

    def stage_of(self, block: int) -> int:
        """The stage of a block; the embedding, -1, has the shape of stage 0."""
        for stage, blocks in enumerate(self.stages):
            if block < len(blocks):
                return stage
            block -= len(blocks)
        raise IndexError(f"there are {len(self.blocks)} blocks")

    def grid_after(self, block: int, image_size: tuple[int, int]) -> Grid:
        """(rows, columns) of tokens after a block, for an image of (height, width) pixels."""
        # Merging rounds up; rounding up once is the same as after each stage.
        scale = 2 ** self.stage_of(block)
        (height, width), (patch_h, patch_w) = image_size, self.patch_size
        return math.ceil(height / (patch_h * scale)), math.ceil(width / (patch_w * scale))

    def tokens_after(self, block: int, image_size: tuple[int, int]) -> int:
        """Tokens after a block."""
        return math.prod(self.grid_after(block, image_size))

    def dim_after(self, block: int) -> int:
        """Width of the tokens after a block."""
        return self.dims[self.stage_of(block)]

    def embed_macs(self, image_size: tuple[int, int]) -> int:
        """MACs of the patch embedding and its norm."""
        per_token = self.embed_linear + NORM_MACS_PER_ELEMENT * self.embed_norm
        return self.tokens_after(-1, image_size) * per_token

    def block_macs(self, block: int, image_size: tuple[int, int]) -> int:
        """MACs of a block and of the merging before it."""
        return self.blocks[block].macs(self.grid_after(block, image_size))

    def block_params(self, block: int) -> int:
        """Parameters of a block and of the merging before it."""
        return self.blocks[block].params + self.blocks[block].merge_params
