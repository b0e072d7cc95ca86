"""The stitching space: every stitch of a chain of anchors, as plain data.

Two neighboring anchors whose depths divide are cut into ``units = min(depths)`` equal groups of
blocks. In a two-way space a stitch runs each unit in exactly one anchor and may change sides only
between two units. All of SN-Netv2's rules (Section 3.1, two-way stitching) follow from that one
sentence, for any depths, and so do its ids. The one-way space is SN-Net's, whose joins stand in
``mmsn.stitching.windows``. Anchors may be hierarchical: their depths are then counted by stage.

Not here, on purpose: tensors, costs, sampling. This file needs no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Literal, get_args

from mmsn.errors import UserError
from mmsn.stitching.stitch import (
    Join,
    Kind,
    LayerKey,
    Parts,
    Run,
    Segment,
    Step,
    Stitch,
    Tap,
)
from mmsn.stitching.units import Units
from mmsn.stitching.windows import crossings

Mode = Literal["one_way", "two_way", "elastic"]


class StitchSpace:
    """All stitches of anchors that are listed from smallest to largest, by id.

    Two-way ids: one per anchor; then, for each pair of neighbors, ``sl``, ``ls``, ``lsl`` and
    ``sls`` in SN-Netv2's order. The last ``sl`` of a pair would run no block after its join, so it
    is left out, but keeps its number: for depths (12, 12) and (12, 24) that is id 13, as in the
    reference. One-way ids: one per anchor; then, for each stage and in it each pair of neighbors,
    the joins of ``mmsn.stitching.windows``.

    ``space[id]`` looks up by id; iteration goes in order of ids; ``len`` counts stitches.

    Args:
        depths: number of blocks of each anchor; of hierarchical anchors, one for each stage. Of
            two neighbors, one must divide the other.
        mode: ``one_way`` goes from small to large only, by sliding windows (SN-Net), ``two_way``
            both ways (SN-Netv2). ``elastic`` is what a single network does without stitching: its
            first blocks, any number of them, for comparison.

    Attributes:
        depths: blocks of each anchor, over all stages.
        stages: blocks of each stage of each anchor; plain anchors have one stage.

    Raises:
        UserError: depths that do not divide, are not positive, or do not fit the mode.
    """

    def __init__(self, depths: Iterable[int | Sequence[int]], mode: Mode = "two_way") -> None:
        given = tuple(depths)
        self.stages = tuple(tuple(d) if isinstance(d, Sequence) else (d,) for d in given)
        self.mode = mode
        _check(given, self.stages, mode)
        self.depths = tuple(sum(stages) for stages in self.stages)
        self._units = [Units(pair) for pair in pairwise(self.stages)]
        # Joins of a one-way space for each pair and stage; a two-way space joins between units.
        one_way = pairwise(self.stages) if mode == "one_way" else ()
        self._windows = [crossings(*pair) for pair in one_way]
        self._by_id = {stitch.id: stitch for stitch in self._enumerate()}
        self._is_subset = False  # only for the message about an unknown id

    @classmethod
    def one_way(cls, depths: Iterable[int | Sequence[int]]) -> StitchSpace:
        """The space of SN-Net: anchors, and stitches from small to large by sliding windows."""
        return cls(depths, "one_way")

    @classmethod
    def two_way(cls, depths: Iterable[int]) -> StitchSpace:
        """The space of SN-Netv2: both directions, at most two joins."""
        return cls(depths, "two_way")

    @classmethod
    def elastic(cls, depth: int) -> StitchSpace:
        """One anchor and its beginnings: a baseline of stitching. Id i runs all but i blocks."""
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
        smaller = StitchSpace(self.stages, self.mode)
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
            return self.depths[0] - 1
        return sum(self.units(pair) for pair in range(len(self.depths) - 1))

    def units(self, pair: int) -> int:
        """Number of units that anchors ``pair`` and ``pair + 1`` are cut into, over all stages."""
        return sum(self._units[pair].counts)

    def blocks_per_unit(self, anchor: int, pair: int) -> int:
        """Number of blocks of ``anchor`` in one unit of ``pair``, in its first stage."""
        return self._units[pair].blocks(anchor - pair)

    def unit_end(self, anchor: int, pair: int, unit: int) -> int:
        """The block (inclusive) with which ``anchor`` ends ``unit``."""
        return self._units[pair].end(anchor - pair, unit)

    @property
    def layer_keys(self) -> tuple[LayerKey, ...]:
        """Every stitching layer that these depths allow: 12 up and 11 down for (12, 24).

        They are shared by all stitches; ``parts`` names those that some of them use. The last one
        upwards joins nothing; it only projects the small anchor's last features. So does, for
        hierarchical anchors, that of each stage's end. In a one-way space of unequal depths, the
        last joins have these layers.
        """
        keys = []
        for pair in range(len(self.depths) - 1):
            units = list(range(self.units(pair)))
            if len(self.stages[0]) > 1:
                # Feature levels are the ends of stages; elsewhere, only joins need a layer.
                joins = {crossing.unit for stage in self._windows[pair] for crossing in stage}
                units = sorted(joins.union(self._units[pair].ends))
            keys += [LayerKey(pair, pair + 1, unit) for unit in units]
            if self.mode == "two_way":
                keys += [LayerKey(pair + 1, pair, unit) for unit in range(self.units(pair) - 1)]
        return tuple(keys)

    def joins(self, stitch: Stitch) -> tuple[LayerKey, ...]:
        """The stitching layers between the segments of a stitch, in order."""
        keys = []
        for left, right in pairwise(stitch.segments):
            pair = min(left.anchor, right.anchor)
            if self.mode == "one_way":
                at = (left.stop, right.start)
                (unit,) = (c.unit for stage in self._windows[pair] for c in stage if c[:2] == at)
            else:
                # Segments end where units end, so the division leaves no remainder.
                unit = left.stop // self.blocks_per_unit(left.anchor, pair) - 1
            keys.append(LayerKey(left.anchor, right.anchor, unit))
        return tuple(keys)

    def matches(self, key: LayerKey) -> tuple[tuple[int, int], ...]:
        """Which tokens a layer should map to which, for least squares to fit.

        Pairs (block of ``source``, block of ``target``), after which the tokens are taken; block -1
        is the embedding. Usually both end the unit. A layer that several joins of a one-way space
        share has one pair for each: what the join leaves, and what the entered block should read.
        """
        pair = min(key.source, key.target)
        shared: list[tuple[int, int]] = []
        if self.mode == "one_way":
            every = [c for stage in self._windows[pair] for c in stage]
            shared = [(c.stop - 1, c.start - 1) for c in every if c.unit == key.unit]
        ends = tuple(self.unit_end(a, pair, key.unit) for a in (key.source, key.target))
        return tuple(shared) or ((ends[0], ends[1]),)

    def level_tap(self, block: int, anchor: int) -> tuple[int, tuple[LayerKey, ...]]:
        """Where ``anchor`` replaces ``block`` of the last anchor as a feature level.

        Returns the block of ``anchor`` after which its tokens are taken, and the stitching layers
        that carry them to the last anchor's width, applied left to right.
        """
        # From the last anchor down to this one: the block's unit, and in the next smaller anchor
        # the block that ends the same unit. The path is collected back to front.
        path: tuple[LayerKey, ...] = ()
        for pair in reversed(range(anchor, len(self.depths) - 1)):
            unit = self._units[pair].of(1, block)
            block = self.unit_end(pair, pair, unit)
            path = (LayerKey(pair, pair + 1, unit), *path)
        return block, path

    def route(
        self, stitch: Stitch, out_indices: Sequence[int], levels: Sequence[int]
    ) -> tuple[Step, ...]:
        """What running a stitch means, step by step: the forward pass and the costs both read it.

        Each feature level is found exactly once. Where a unit runs in two anchors, the level is
        that of the later one, the larger. Blocks and joins after the last level that is read are
        left out.

        Args:
            stitch: a stitch of this space.
            out_indices: blocks of the last anchor whose outputs are the feature levels.
            levels: positions in ``out_indices`` that are read.
        """
        taps: list[list[tuple[int, Tap]]] = [[] for _ in stitch.segments]
        for level in sorted(levels, key=lambda level: out_indices[level]):
            found = []
            for position, (anchor, start, stop) in enumerate(stitch.segments):
                block, path = self.level_tap(out_indices[level], anchor)
                if stitch.kind == "elastic":
                    # The levels move forward in proportion to the depth that remains.
                    block = max(0, (block + 1) * stop // self.depths[anchor] - 1)
                if start <= block < stop:
                    found.append((position, block, Tap(level, path)))
            position, block, tap = found[-1]
            taps[position].append((block, tap))
        steps: list[Step] = []
        joins = self.joins(stitch)
        for position, (anchor, at, stop) in enumerate(stitch.segments):
            if position:
                steps.append(Join(joins[position - 1]))
            for block, tap in taps[position]:
                if at <= block:  # else two levels share this block
                    steps.append(Run(anchor, at, block + 1))
                    at = block + 1
                steps.append(tap)
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

    @staticmethod
    def layer_runs(route: Iterable[Step]) -> tuple[LayerKey, ...]:
        """Every run of a stitching layer in a route: once for a join and a level at one place."""
        runs: list[LayerKey] = []
        here: set[LayerKey] = set()  # since the last block
        for step in route:
            keys: Sequence[LayerKey] = ()
            match step:
                case Run():
                    here.clear()
                case Join(key):
                    keys = (key,)
                case Tap(_, path):
                    keys = path
            runs += [key for key in keys if key not in here]
            here.update(keys)
        return tuple(runs)

    def _enumerate(self) -> Iterator[Stitch]:
        for anchor, depth in enumerate(self.depths):
            yield Stitch(anchor, "anchor", (Segment(anchor, 0, depth),))
        next_id = len(self.depths)
        if self.mode == "elastic":
            (depth,) = self.depths
            for stop in range(depth - 1, 0, -1):
                yield Stitch(depth - stop, "elastic", (Segment(0, 0, stop),))
        if self.mode == "one_way":
            # Stage by stage, and in each stage pair by pair: the published order.
            for stage in range(len(self.stages[0])):
                for pair, windows in enumerate(self._windows):
                    for stop, start, _ in windows[stage]:
                        ends = (
                            Segment(pair, 0, stop),
                            Segment(pair + 1, start, self.depths[pair + 1]),
                        )
                        yield Stitch(next_id, "sl", ends)
                        next_id += 1
            return
        for pair in range(len(self.depths) - 1):
            units = self.units(pair)
            # A stitch of this pair is given by the side it starts on and the units it changes at.
            up = [(i,) for i in range(1, units + 1)]
            down = [(i,) for i in range(1, units)]
            there_and_back = [(i, j) for i in range(1, units) for j in range(i + 1, units)]
            kinds: list[tuple[Kind, int, list]] = [
                *(("sl", 0, up), ("ls", 1, down)),
                *(("lsl", 1, there_and_back), ("sls", 0, there_and_back)),
            ]
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


def _check(given: tuple, stages: tuple[tuple[int, ...], ...], mode: Mode) -> None:
    """Refuse depths that cannot be stitched in this mode; ``given`` is as the user wrote them."""
    if mode not in get_args(Mode):
        raise UserError(f"space {mode!r} is unknown: use one of {', '.join(get_args(Mode))}")
    flat = [depth for anchor in stages for depth in anchor]
    if not flat or any(not isinstance(d, int) or d < 1 for d in flat):
        raise UserError(f"depths {given}: give one positive whole number per anchor")
    if len({len(anchor) for anchor in stages}) > 1:
        raise UserError(f"depths {given}: give the same number of stages for every anchor")
    if mode != "one_way" and len(stages[0]) > 1:
        raise UserError(
            f"space {mode!r} of hierarchical anchors with depths {given} is not supported: use "
            "'one_way'"
        )
    if mode == "elastic" and len(stages) > 1:
        raise UserError(
            f"an elastic space has one anchor, not {len(stages)}: use 'two_way' to stitch"
        )
    for pair in pairwise(stages):
        for small, large in zip(*pair, strict=True):
            if max(small, large) % min(small, large):
                raise UserError(
                    f"anchors of depths {small} and {large} cannot be stitched: one depth must "
                    f"divide the other; choose for example {small} and {2 * small}"
                )
            if mode == "one_way" and small > large:
                raise UserError(
                    f"anchors of depths {small} and {large} cannot be stitched one way, which "
                    "needs depths that do not fall from small to large: use 'two_way'"
                )
