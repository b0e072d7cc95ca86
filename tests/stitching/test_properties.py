"""What holds for every space: routes, costs, tries, draws and files of random anchors.

Each property is written from its definition, not from the code that it checks. ``MMSN_EXAMPLES``
says how many random cases each one gets.
"""

import math
import os
import tempfile
from itertools import pairwise
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsn.state_dict import read_checkpoint, write_checkpoint
from mmsn.stitching import StitchSpace, budget_groups, draw_parts
from mmsn.stitching.cost import AnchorCost, BlockCost, CostModel
from mmsn.stitching.space import Join, LayerKey, Run, Tap
from mmsn.stitching.trie import Trie
from tests.stitching.expected import executed, probabilities

EXAMPLES = int(os.environ.get("MMSN_EXAMPLES", "40"))
many = settings(max_examples=EXAMPLES, deadline=None)


@st.composite
def spaces(draw):
    """One to three anchors; of two neighbors, one depth divides the other."""
    depths = [draw(st.integers(1, 6))]
    for _ in range(draw(st.integers(0, 2))):
        factor, before = draw(st.integers(1, 3)), depths[-1]
        divisors = [d for d in range(1, before + 1) if before % d == 0]
        depths.append(draw(st.one_of(st.just(before * factor), st.sampled_from(divisors))))
    return StitchSpace(depths, draw(st.sampled_from(["one_way", "two_way"])))


@st.composite
def readings(draw):
    """A space, the blocks of its last anchor that are levels, and the levels that are read."""
    space = draw(spaces())
    blocks = st.integers(0, space.depths[-1] - 1)
    out_indices = tuple(sorted(draw(st.sets(blocks, min_size=1, max_size=4))))
    positions = st.integers(0, len(out_indices) - 1)
    levels = tuple(sorted(draw(st.sets(positions, min_size=1))))
    return space, out_indices, levels


def where(space, stitch, pair):
    """The anchor that runs each unit of a pair of neighbors."""
    anchors = []
    for anchor, start, stop in stitch.segments:
        size = space.depths[anchor] // min(space.depths[pair], space.depths[pair + 1])
        assert start % size == stop % size == 0
        anchors += [anchor] * ((stop - start) // size)
    return anchors


def pair_of(stitch, space):
    """The neighbors that a stitch is made of; for one anchor, any pair with it."""
    lowest = min(segment.anchor for segment in stitch.segments)
    return min(lowest, len(space.depths) - 2)


def operations(space, stitch, pair):
    """What a stitch does by definition: units in turn, and a layer wherever the anchor changes."""
    units = where(space, stitch, pair)
    done = []
    for unit, anchor in enumerate(units):
        if unit and units[unit - 1] != anchor:
            done.append(LayerKey(units[unit - 1], anchor, unit - 1))
        size = space.depths[anchor] // len(units)
        done += [(anchor, unit * size + i) for i in range(size)]
    return done


def level_by_definition(space, stitch, block):
    """The operations before a level: up to its block in the last anchor, or in its counterpart.

    The counterpart ends the unit that the block is in; layers lead up from there.
    """
    last = len(space.depths) - 1
    if last == 0:
        return [(0, b) for b in range(block + 1)]
    done, layers = operations(space, stitch, pair_of(stitch, space)), []
    anchor = last
    while (anchor, block) not in done:
        units = min(space.depths[anchor - 1], space.depths[anchor])
        unit = block // (space.depths[anchor] // units)
        layers.insert(0, LayerKey(anchor - 1, anchor, unit))
        block = (unit + 1) * (space.depths[anchor - 1] // units) - 1
        anchor -= 1
    return done[: done.index((anchor, block)) + 1] + layers


def levels_by_route(space, stitch, out_indices, levels):
    """The operations before each level, as the route has them."""
    done, found = [], {}
    for step in space.route(stitch, out_indices, levels):
        match step:
            case Run(anchor, start, stop):
                done += [(anchor, block) for block in range(start, stop)]
            case Join(key):
                done.append(key)
            case Tap(level, path):
                assert level not in found
                found[level] = done + list(path)
    return found


@many
@given(spaces())
def test_a_space_has_every_stitch_once(space):
    expected = len(space.depths)
    for pair in range(len(space.depths) - 1):
        cuts = min(space.depths[pair], space.depths[pair + 1]) - 1
        both = space.mode == "two_way"
        expected += cuts + both * (cuts + 2 * math.comb(cuts, 2))
    assert len(space) == expected == len({stitch.segments for stitch in space})
    assert [space[i].id for i in space.ids] == sorted(space.ids)
    for stitch in space:
        assert all(a.anchor != b.anchor for a, b in pairwise(stitch.segments))
        if len(space.depths) > 1:
            pair = pair_of(stitch, space)
            assert len(where(space, stitch, pair)) == min(space.depths[pair : pair + 2])
        assert set(space.joins(stitch)) <= set(space.layer_keys)


@many
@given(readings())
def test_a_route_finds_every_level_where_the_definition_has_it(reading):
    space, out_indices, levels = reading
    for stitch in space:
        found = levels_by_route(space, stitch, out_indices, levels)
        assert found == {
            level: level_by_definition(space, stitch, out_indices[level]) for level in levels
        }


@many
@given(readings(), st.integers(0, 8), st.randoms(use_true_random=False))
def test_costs_add_up_what_is_run_once(reading, rank, draw):
    space, out_indices, levels = reading
    anchors = tuple(
        AnchorCost(
            dim=draw.randint(1, 9),
            patch_size=(4, 8),
            prefix_tokens=1,
            embed_linear=draw.randint(1, 99),
            embed_norm=draw.randint(0, 9),
            embed_params=draw.randint(1, 99),
            blocks=tuple(BlockCost(*(draw.randint(1, 99) for _ in range(4))) for _ in range(depth)),
        )
        for depth in space.depths
    )
    costs = CostModel(space, anchors, rank, out_indices)
    tokens = 2 * 2 + 1  # of 8 x 16 pixels
    for stitch in space:
        done = {
            operation
            for level in levels
            for operation in level_by_definition(space, stitch, out_indices[level])
        }
        first = anchors[stitch.segments[0].anchor]
        macs = (tokens - 1) * first.embed_linear + 5 * tokens * first.embed_norm
        params = first.embed_params
        for operation in done:
            if isinstance(operation, LayerKey):
                a, b = anchors[operation.source].dim, anchors[operation.target].dim
                macs += tokens * (a * b + rank * (a + b))
                params += a * b + rank * (a + b) + b
            else:
                block = anchors[operation[0]].blocks[operation[1]]
                macs += tokens * block.linear + 2 * tokens**2 * block.attention_dim
                macs += 5 * tokens * block.norm
                params += block.params
        assert costs.macs(stitch, (8, 16), levels) == macs
        assert costs.params(stitch, levels) == params


@many
@given(readings(), st.randoms(use_true_random=False))
def test_a_trie_runs_each_shared_beginning_once(reading, draw):
    space, out_indices, levels = reading
    ids = draw.sample(space.ids, draw.randint(1, len(space.ids)))
    trie = Trie(space, ids, out_indices, levels)
    assert sorted(trie.order) == sorted(ids)
    beginnings = set()
    for i in ids:
        route = trie.routes[i]
        joined = []
        for step in route:  # the same work as the route of the space, block by block
            joined += [(step.anchor, step.start)] if isinstance(step, Run) else [step]
        whole = []
        for step in space.route(space[i], out_indices, levels):
            if isinstance(step, Run):
                whole += [(step.anchor, block) for block in range(step.start, step.stop)]
            else:
                whole.append(step)
        assert joined == whole
        first = space[i].segments[0].anchor
        beginnings |= {(first, route[:length]) for length in range(1, len(route) + 1)}
    assert len(executed(trie)) == len(beginnings)


@many
@given(
    st.dictionaries(st.integers(0, 200), st.integers(1, 10**12), min_size=1, max_size=40),
    st.floats(0, 1e12),
    st.integers(0, 10**6),
    st.integers(1, 6),
)
def test_draws_are_of_the_groups_and_depend_on_seed_and_iteration_alone(macs, step, seed, parts):
    groups = budget_groups(macs, step)
    assert sorted(i for group in groups for i in group) == sorted(macs)
    assert all(macs[group[-1]] - macs[group[0]] <= step for group in groups)
    assert math.isclose(sum(probabilities(groups).values()), 1.0)
    drawn = draw_parts(groups, seed, seed % 97, parts)
    assert len(drawn) == parts
    assert set(drawn) <= macs.keys()
    assert drawn == draw_parts(groups, seed, seed % 97, parts)


DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool)


@many
@given(
    st.dictionaries(
        st.text("abc._0123456789", min_size=1, max_size=12),
        st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 3), max_size=3)),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from([".pth", ".safetensors"]),
    st.lists(st.text(max_size=5), max_size=3),
)
def test_weights_come_back_to_the_bit(described, suffix, classes):
    tensors = {
        name: (torch.randn(shape) * 100).to(dtype) for name, (dtype, shape) in described.items()
    }
    meta = dict(classes=classes, palette=[[0, 1, 2]] * len(classes))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "weights" + suffix)
        write_checkpoint(path, tensors, meta)
        read, found = read_checkpoint(path)
    assert read.keys() == tensors.keys()
    for name, value in tensors.items():
        assert read[name].dtype == value.dtype
        assert torch.equal(read[name], value)
    assert found == meta
