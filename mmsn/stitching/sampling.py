"""FLOPs-constrained sampling: draw a budget first, then a stitch in it.

Drawing stitches uniformly would almost never train the two anchors, and would train crowded
budgets most. SN-Netv2 (Section 3.3) groups stitches by FLOPs, draws a group, then a member. A
draw here is a pure function of seed and iteration: the same on every rank and after a resume,
without communication and without any generator's state.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence

from mmsn.errors import UserError

Groups = tuple[tuple[int, ...], ...]


def default_step(macs: Mapping[int, int], units: int) -> float:
    """A step that separates stitches by the number of units they run in the large anchor.

    Moving one unit from the small to the large anchor costs ``(max - min) / units`` on average.
    A third of that is wider than the spread among equals (stitching layers) and narrower than the
    gap to the next, for small models as for large: 9.2 G for DeiT3-S+L at 512x512, where the
    reference's fixed 10 G gives the same 13 groups.
    """
    return (max(macs.values()) - min(macs.values())) / (3 * max(units, 1))


def count_units(segments: Iterable[tuple[int, int, int]]) -> int:
    """Units that stitches with these (anchor, start, stop) are cut into: the smallest depth."""
    depths: dict[int, int] = {}
    for anchor, _, stop in segments:
        depths[anchor] = max(stop, depths.get(anchor, 0))
    return min(depths.values())


def budget_groups(macs: Mapping[int, int], step: float) -> Groups:
    """Group stitches whose MACs lie within ``step`` of their group's cheapest member.

    Args:
        macs: multiply-accumulates of each stitch, by id.
        step: in multiply-accumulates, not negative.

    Returns:
        Groups in ascending order of MACs, each a tuple of ids in ascending order of MACs.
    """
    if not macs:
        raise UserError("there are no stitches to group")
    if not step >= 0:
        raise UserError(f"step {step} is not allowed: give multiply-accumulates of 0 or more")
    # From the cheapest on, and measured from a group's first member: no group is wider than a step,
    # where measuring from the last member could chain all stitches into one. Ids break ties, so
    # every rank forms the same groups.
    groups: list[list[int]] = []
    for stitch_id in sorted(macs, key=lambda i: (macs[i], i)):
        if groups and macs[stitch_id] - macs[groups[-1][0]] <= step:
            groups[-1].append(stitch_id)
        else:
            groups.append([stitch_id])
    return tuple(tuple(group) for group in groups)


def draw(groups: Sequence[Sequence[int]], seed: int, iteration: int) -> int:
    """The stitch to train at this iteration, as SN-Netv2 draws it (Section 3.3).

    A group uniformly, then a member uniformly.
    """
    generator = _generator(seed, iteration)
    return _member(groups[generator.randrange(len(groups))], generator)


def draw_parts(
    groups: Sequence[Sequence[int]], seed: int, iteration: int, parts: int
) -> tuple[int, ...]:
    """The stitches to train at this iteration, one for each part of the batch.

    One part is ``draw``. Of several, half (rounded down) are the ends, that is members of the
    last and the first group alternately, and the others are members of the groups between them,
    drawn without replacement. So every step holds the ends of the curve, which bound what all
    others can reach, and spreads the rest over budgets.

    Args:
        groups: as ``budget_groups`` gives them, from the cheapest.
        seed, iteration: what the draw depends on.
        parts: how many stitches, at least 1.
    """
    if parts < 1:
        raise UserError(f"parts {parts} is not allowed: give 1 or more stitches per iteration")
    if parts == 1:
        return (draw(groups, seed, iteration),)
    generator = _generator(seed, iteration)
    between = groups[1:-1] or groups  # of one or two groups, nothing lies between
    turn = generator.randrange(2)  # with an odd number of ends, which one has the extra part
    chosen = [groups[-1] if (turn + n) % 2 else groups[0] for n in range(parts // 2)]
    # Without replacement; where there are fewer groups than parts, all of them once more.
    while len(chosen) < parts:
        chosen += generator.sample(between, min(len(between), parts - len(chosen)))
    return tuple(_member(group, generator) for group in chosen)


def _generator(seed: int, iteration: int) -> random.Random:
    # A text seed is hashed with SHA-512: unrelated streams for neighboring iterations.
    return random.Random(f"{seed}/{iteration}")


def _member(group: Sequence[int], generator: random.Random) -> int:
    return group[generator.randrange(len(group))]
