"""Naming stitches: by id, by kind, or by a few words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmsn.errors import UserError
from mmsn.stitching.space import StitchSpace

StitchNames = str | int | Sequence[str | int]
WORDS = ("all", "anchors", "middle", "sl", "ls", "lsl", "sls")


def middle(space: StitchSpace, macs: Mapping[int, int]) -> int:
    """The stitch, not an anchor, whose cost is closest to the middle between the extremes."""
    half = (min(macs.values()) + max(macs.values())) / 2
    joined = [stitch.id for stitch in space if stitch.kind != "anchor"] or list(space.ids)
    return min(joined, key=lambda i: (abs(macs[i] - half), i))


def resolve(space: StitchSpace, macs: Mapping[int, int], names: StitchNames) -> tuple[int, ...]:
    """Ids that the names stand for, without repeats, in the order of the names.

    Args:
        space: the stitches to choose from.
        macs: cost of each stitch by id; only "middle" looks at it.
        names: an id, a word, or a sequence of both. Words: "all", "anchors", "middle" or a kind.

    Raises:
        UserError: an unknown id or word.
    """
    ids: list[int] = []
    for name in [names] if isinstance(names, (str, int)) else names:
        match name:
            case "all":
                ids += space.ids
            case "anchors":
                ids += [stitch.id for stitch in space if stitch.kind == "anchor"]
            case "middle":
                ids.append(middle(space, macs))
            case "sl" | "ls" | "lsl" | "sls":
                ids += [stitch.id for stitch in space if stitch.kind == name]
            case str():
                raise UserError(f"stitches {name!r} are unknown: use an id or one of {WORDS}")
            case _:
                ids.append(space[name].id)
    return tuple(dict.fromkeys(ids))  # without repeats, in order


def best_per_group(
    groups: Sequence[Sequence[int]], scores: Mapping[int, float], count: int
) -> tuple[int, ...]:
    """The ``count`` stitches of each budget group that score highest, in order of the groups.

    Stitches without a score are left out.
    """
    if count < 1:
        raise UserError(f"count {count} is not allowed: give 1 or more stitches per group")
    chosen: list[int] = []
    for group in groups:
        scored = [i for i in group if i in scores]
        chosen += sorted(scored, key=lambda i: (-scores[i], i))[:count]
    return tuple(chosen)
