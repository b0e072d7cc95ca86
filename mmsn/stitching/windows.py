"""Where SN-Net joins two anchors: its sliding windows over positions, and its published numbering.

A window of two neighboring positions slides over both anchors, and one stitching layer serves
all joins of a window. A join may enter the large anchor at a block that the small one has stood
for, so some units run in both anchors; none is left out.

Three rules, all as the published code has them:

- Plain anchors of equal depth: every pair of positions of a window, in both orders.
- Stages of equal depth, of hierarchical anchors: only the pair that goes one position forward.
- Unequal depths: one join for each block of the large anchor but the first. It leaves the small
  anchor after the block that stands for the entered one. The code hands out layers in the order of
  joins, ``ratio`` joins a layer, which is one join behind the blocks of the small anchor.

The last stage of hierarchical anchors has no joins.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

KERNEL = 2  # positions of a window; it slides by one


class Crossing(NamedTuple):
    """A join of two anchors: blocks before ``stop`` of the small one, then ``start`` and on.

    ``unit`` numbers the stitching layer among the small anchor's blocks.
    """

    stop: int
    start: int
    unit: int


def crossings(small: Sequence[int], large: Sequence[int]) -> tuple[tuple[Crossing, ...], ...]:
    """The joins of each stage in the published order; blocks are counted from the first stage on.

    Args:
        small, large: blocks of each stage; of a plain anchor, its depth alone.
    """
    stages = []
    for stage, depths in enumerate(zip(small, large, strict=True)):
        if len(small) == 1:
            found = _paired(*depths) if depths[0] == depths[1] else _unpaired(*depths)
        elif stage == len(small) - 1:
            found = ()
        elif depths[0] == depths[1]:
            found = tuple(c for c in _paired(*depths) if c.stop == c.start)
        else:
            found = _unpaired(*depths)
        before, after = sum(small[:stage]), sum(large[:stage])
        stages.append(tuple(Crossing(a + before, b + after, u + before) for a, b, u in found))
    return tuple(stages)


def _paired(depth: int, same: int) -> tuple[Crossing, ...]:
    seen: dict[tuple[int, int], int] = {}
    for window in range(max(1, depth - KERNEL + 1)):
        positions = range(window, min(window + KERNEL, depth))
        for last, entered in product(positions, repeat=2):
            seen.setdefault((last, entered), window)  # windows overlap: the first one counts
    return tuple(Crossing(last + 1, entered, window) for (last, entered), window in seen.items())


def _unpaired(small: int, large: int) -> tuple[Crossing, ...]:
    ratio = large // small
    return tuple(
        Crossing(entered // ratio + 1, entered, (entered - 1) // ratio)
        for entered in range(1, large)
    )
