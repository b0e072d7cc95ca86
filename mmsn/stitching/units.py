"""How two neighboring anchors are cut into units: equal groups of blocks, stage by stage.

Of two stages whose depths divide, the smaller depth is the number of units. Blocks and units are
counted from the first stage on. Plain anchors have one stage.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True)
class Units:
    """The units of a pair of anchors; ``sides`` are the depths of each stage, small and large."""

    sides: tuple[tuple[int, ...], tuple[int, ...]]

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of units of each stage."""
        return tuple(map(min, *self.sides))

    @property
    def ends(self) -> tuple[int, ...]:
        """The last unit of each stage."""
        return tuple(end - 1 for end in accumulate(self.counts))

    def blocks(self, side: int, stage: int = 0) -> int:
        """Number of blocks in one unit; ``side`` is 0 for the small anchor, 1 for the large one."""
        return self.sides[side][stage] // self.counts[stage]

    def end(self, side: int, unit: int) -> int:
        """The block (inclusive) with which a unit ends."""
        block = 0
        for stage, count in enumerate(self.counts):
            if unit < count:
                return block + self.blocks(side, stage) * (unit + 1) - 1
            unit, block = unit - count, block + self.sides[side][stage]
        raise IndexError(f"there are {sum(self.counts)} units")

    def of(self, side: int, block: int) -> int:
        """The unit in which a block lies."""
        unit = 0
        for stage, count in enumerate(self.counts):
            if block < self.sides[side][stage]:
                return unit + block // self.blocks(side, stage)
            unit, block = unit + count, block - self.sides[side][stage]
        raise IndexError(f"there are {sum(self.sides[side])} blocks")
