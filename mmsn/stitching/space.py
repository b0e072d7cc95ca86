"""The stitching space: every stitch of a chain of anchors, as plain data.

A stitch runs each *unit* of the network in exactly one anchor. Two neighboring anchors whose
depths divide are cut into ``units = min(depths)`` equal groups of blocks, and a stitch may change
sides only between two units. All of SN-Netv2's rules (Section 3.1, two-way stitching) follow from
that one sentence, for any depths, and so do its ids.

Not here, on purpose: tensors, costs, sampling. This file needs no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

from mmsn.errors import UserError

Kind = Literal["anchor", "sl", "ls", "lsl", "sls", "elastic"]
Mode = Literal["one_way", "two_way", "elastic"]


class Segment(NamedTuple):
    """Blocks ``start`` to ``stop`` (half-open) of one anchor."""

    anchor: int
    start: int
    stop: int


class LayerKey(NamedTuple):
    """Name of one stitching layer: it maps ``source`` to ``target`` after unit ``unit``."""

    source: int
    target: int
    unit: int


class Run(NamedTuple):
    """Step of a route: run blocks ``start`` to ``stop`` of an anchor."""

    anchor: int
    start: int
    stop: int


class Join(NamedTuple):
    """Step of a route: carry the tokens to another anchor through a stitching layer."""

    key: LayerKey


class Tap(NamedTuple):
    """Step of a route: return the present tokens as a feature level.

    ``path`` names the stitching layers that project them to the last anchor's width; it is empty
    when they have it already.
    """

    level: int
    path: tuple[LayerKey, ...]


Step = Run | Join | Tap


class Parts(NamedTuple):
    """What stitches are made of: anchors that embed the image, (anchor, block) pairs, layers."""

    embeddings: frozenset[int]
    blocks: frozenset[tuple[int, int]]
    layers: frozenset[LayerKey]


@dataclass(frozen=True)
class Stitch:
    """One sub-network: segments joined by stitching layers.

    ``kind`` is ``anchor``, the order of sizes visited, for example ``lsl`` for large, small,
    large, or ``elastic`` for the beginning of one anchor. ``id`` is the one SN-Netv2's code gives
    the stitch.
    """

    id: int
    kind: Kind
    segments: tuple[Segment, ...]

    def __str__(self) -> str:
        return " > ".join(f"{a}[{start}:{stop}]" for a, start, stop in self.segments)


class StitchSpace:
    """All stitches of anchors that are listed from smallest to largest, by id.

    Ids: one per anchor; then, for each pair of neighbors, ``sl``, ``ls``, ``lsl`` and ``sls`` in
    SN-Netv2's order. The last ``sl`` of a pair would run no block after its join, so it is left
    out, but keeps its number: for depths (12, 12) and (12, 24) that is id 13, as in the reference.

    ``space[id]`` looks up by id; iteration goes in order of ids; ``len`` counts stitches.

    Args:
        depths: number of blocks of each anchor. Of two neighbors, one must divide the other.
        mode: ``one_way`` goes from small to large only (SN-Net), ``two_way`` both ways (SN-Netv2).
            ``elastic`` is what a single network does without stitching: its first blocks, from
            half of them to all, for comparison.

    Raises:
        UserError: depths that do not divide, or are not positive; several anchors that are to be
            elastic.
    """

    def __init__(self, depths: Iterable[int], mode: Mode = "two_way") -> None:
        self.depths = tuple(depths)
        self.mode = mode
        if mode not in get_args(Mode):
            raise UserError(f"space {mode!r} is unknown: use one of {', '.join(get_args(Mode))}")
        if not self.depths or any(not isinstance(d, int) or d < 1 for d in self.depths):
            raise UserError(f"depths {self.depths}: give one positive whole number per anchor")
        if mode == "elastic" and len(self.depths) > 1:
            raise UserError(
                f"an elastic space has one anchor, not {len(self.depths)}: use 'two_way' to stitch"
            )
        for small, large in pairwise(self.depths):
            if max(small, large) % min(small, large):
                raise UserError(
                    f"anchors of depths {small} and {large} cannot be stitched: one depth must "
                    f"divide the other; choose for example {small} and {2 * small}"
                )
        self._by_id = {stitch.id: stitch for stitch in self._enumerate()}
        self._is_subset = False  # only for the message about an unknown id

    @classmethod
    def one_way(cls, depths: Iterable[int]) -> StitchSpace:
        """The space of SN-Net: anchors, and stitches from small to large."""
        return cls(depths, "one_way")

    @classmethod
    def two_way(cls, depths: Iterable[int]) -> StitchSpace:
        """The space of SN-Netv2: both directions, at most two joins."""
        return cls(depths, "two_way")

    @classmethod
    def elastic(cls, depth: int) -> StitchSpace:
        """One anchor and its beginnings of half its depth and more: a baseline of stitching."""
        return cls((depth,), "elastic")

    def subset(self, ids: Iterable[int]) -> StitchSpace:
        """The space with these stitches alone; they keep their ids.

        Raises:
            UserError: an id that this space does not have.
            UserError: no ids.
        """
        chosen = sorted({self[stitch_id].id for stitch_id in ids})
        if not chosen:
            raise UserError("a subset of no stitches is not allowed: give at least one id")
        smaller = StitchSpace(self.depths, self.mode)
        smaller._by_id = {stitch_id: self[stitch_id] for stitch_id in chosen}
        smaller._is_subset = True
        return smaller

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Stitch]:
        return iter(self._by_id.values())

    def __contains__(self, stitch: object) -> bool:
        return (stitch.id if isinstance(stitch, Stitch) else stitch) in self._by_id

    def __getitem__(self, stitch_id: int) -> Stitch:
        """The stitch of this id; UserError names the ids that exist."""
        try:
            return self._by_id[stitch_id]
        except (KeyError, TypeError):
            if self._is_subset:
                known = ", ".join(map(str, self._by_id))
                raise UserError(
                    f"stitch {stitch_id!r} is not in this subset: it holds {known}"
                ) from None
            top = max(self._by_id)
            gaps = [str(i) for i in range(top) if i not in self._by_id]
            less = f" without {', '.join(gaps)} (no block after the last join)" if gaps else ""
            raise UserError(f"stitch {stitch_id!r} is unknown: ids are 0 to {top}{less}") from None

    @property
    def ids(self) -> tuple[int, ...]:
        """All ids, ascending."""
        return tuple(self._by_id)

    @property
    def ladder(self) -> int:
        """The number of equal steps of cost from the cheapest stitch to the largest."""
        if self.mode == "elastic":
            return self.depths[0] // 2
        return sum(self.units(pair) for pair in range(len(self.depths) - 1))

    def units(self, pair: int) -> int:
        """Number of units that anchors ``pair`` and ``pair + 1`` are cut into."""
        return min(self.depths[pair], self.depths[pair + 1])

    def blocks_per_unit(self, anchor: int, pair: int) -> int:
        """Number of blocks of ``anchor`` in one unit of ``pair``."""
        return self.depths[anchor] // self.units(pair)

    def unit_end(self, anchor: int, pair: int, unit: int) -> int:
        """The block (inclusive) with which ``anchor`` ends ``unit``."""
        return self.blocks_per_unit(anchor, pair) * (unit + 1) - 1

    @property
    def layer_keys(self) -> tuple[LayerKey, ...]:
        """Every stitching layer that these depths allow: 12 up and 11 down for (12, 24).

        They are shared by all stitches; ``parts`` names those that some of them use. The last one
        upwards joins nothing; it only projects the small anchor's last features.
        """
        keys = []
        for pair in range(len(self.depths) - 1):
            keys += [LayerKey(pair, pair + 1, unit) for unit in range(self.units(pair))]
            if self.mode == "two_way":
                keys += [LayerKey(pair + 1, pair, unit) for unit in range(self.units(pair) - 1)]
        return tuple(keys)

    def joins(self, stitch: Stitch) -> tuple[LayerKey, ...]:
        """The stitching layers between the segments of a stitch, in order."""
        keys = []
        for left, right in pairwise(stitch.segments):
            pair = min(left.anchor, right.anchor)
            # Segments end where units end, so the division leaves no remainder.
            unit = left.stop // self.blocks_per_unit(left.anchor, pair) - 1
            keys.append(LayerKey(left.anchor, right.anchor, unit))
        return tuple(keys)

    def level_tap(self, block: int, anchor: int) -> tuple[int, tuple[LayerKey, ...]]:
        """Where ``anchor`` replaces ``block`` of the last anchor as a feature level.

        Returns the block of ``anchor`` after which its tokens are taken, and the stitching layers
        that carry them to the last anchor's width, applied left to right.
        """
        # From the last anchor down to this one: the block's unit, and in the next smaller anchor
        # the block that ends the same unit. The path is collected back to front.
        path: tuple[LayerKey, ...] = ()
        for pair in reversed(range(anchor, len(self.depths) - 1)):
            unit = block // self.blocks_per_unit(pair + 1, pair)
            block = self.unit_end(pair, pair, unit)
            path = (LayerKey(pair, pair + 1, unit), *path)
        return block, path

    def route(
        self, stitch: Stitch, out_indices: Sequence[int], levels: Sequence[int]
    ) -> tuple[Step, ...]:
        """What running a stitch means, step by step: the forward pass and the costs both read it.

        Every unit runs in exactly one anchor, so each feature level is found exactly once. Blocks
        and joins after the last level that is read are left out.

        Args:
            stitch: a stitch of this space.
            out_indices: blocks of the last anchor whose outputs are the feature levels.
            levels: positions in ``out_indices`` that are read.
        """
        steps: list[Step] = []
        joins = self.joins(stitch)
        for position, (anchor, start, stop) in enumerate(stitch.segments):
            if position:
                steps.append(Join(joins[position - 1]))
            at = start
            for level in sorted(levels, key=lambda level: out_indices[level]):
                block, path = self.level_tap(out_indices[level], anchor)
                if stitch.kind == "elastic":
                    # The levels move forward in proportion to the depth that remains.
                    block = max(0, (block + 1) * stop // self.depths[anchor] - 1)
                if start <= block < stop:
                    if at <= block:  # else two levels share this block
                        steps.append(Run(anchor, at, block + 1))
                        at = block + 1
                    steps.append(Tap(level, path))
            if at < stop:
                steps.append(Run(anchor, at, stop))
        # What runs after the last tap would be thrown away.
        while steps and not isinstance(steps[-1], Tap):
            steps.pop()
        return tuple(steps)

    def parts(
        self, stitches: Iterable[Stitch], out_indices: Sequence[int], levels: Sequence[int]
    ) -> Parts:
        """Everything that at least one of these stitches runs; arguments as for ``route``."""
        embeddings: set[int] = set()
        blocks: set[tuple[int, int]] = set()
        layers: set[LayerKey] = set()
        for stitch in stitches:
            embeddings.add(stitch.segments[0].anchor)
            for step in self.route(stitch, out_indices, levels):
                match step:
                    case Run(anchor, start, stop):
                        blocks.update((anchor, block) for block in range(start, stop))
                    case Join(key):
                        layers.add(key)
                    case Tap(_, path):
                        layers.update(path)
        return Parts(frozenset(embeddings), frozenset(blocks), frozenset(layers))

    def _enumerate(self) -> Iterator[Stitch]:
        for anchor, depth in enumerate(self.depths):
            yield Stitch(anchor, "anchor", (Segment(anchor, 0, depth),))
        next_id = len(self.depths)
        if self.mode == "elastic":
            (depth,) = self.depths
            for stop in range(depth - 1, depth - self.ladder - 1, -1):
                yield Stitch(depth - stop, "elastic", (Segment(0, 0, stop),))
        for pair in range(len(self.depths) - 1):
            units = self.units(pair)
            # A stitch of this pair is given by the side it starts on and the units it changes at.
            up = [(i,) for i in range(1, units + 1)]
            down = [(i,) for i in range(1, units)]
            there_and_back = [(i, j) for i in range(1, units) for j in range(i + 1, units)]
            kinds: list[tuple[Kind, int, list]] = [("sl", 0, up)]
            if self.mode == "two_way":
                kinds += [("ls", 1, down), ("lsl", 1, there_and_back), ("sls", 0, there_and_back)]
            for kind, first, all_cuts in kinds:
                for cuts in all_cuts:
                    if cuts[-1] < units:  # else no block would run after the last join
                        segments = self._segments(pair, first, cuts)
                        yield Stitch(next_id, kind, segments)
                    next_id += 1  # also for the one left out, so that ids are those of SN-Netv2

    def _segments(self, pair: int, first: int, cuts: tuple[int, ...]) -> tuple[Segment, ...]:
        bounds = (0, *cuts, self.units(pair))
        segments = []
        for position, (start, stop) in enumerate(pairwise(bounds)):
            anchor = pair + (first + position) % 2
            blocks = self.blocks_per_unit(anchor, pair)
            segments.append(Segment(anchor, start * blocks, stop * blocks))
        return tuple(segments)
