"""The stitching space against the reference's ids, and its invariants for any depths."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsn.errors import UserError
from mmsn.stitching import LayerKey, StitchSpace
from mmsn.stitching.stitch import Join, Run, Tap

DATA = Path(__file__).parents[1] / "data"
OUT_INDICES = ((9, 14, 19, 23), (4, 11, 17, 23))

depths = st.builds(
    lambda base, ratio, flip: (base, base * ratio)[:: -1 if flip else 1],
    st.integers(1, 12),
    st.integers(1, 4),
    st.booleans(),
)


@pytest.mark.parametrize("large", [12, 24])
def test_ids_segments_and_layers_are_the_references(large):
    golden = json.loads((DATA / "stitches_12_24.json").read_text())
    space = StitchSpace.two_way((12, large))
    assert list(space.ids) == golden["all_cfgs"]
    if large == 12:
        return
    for stitch in space:
        config = golden["configs"][str(stitch.id)]
        if stitch.kind == "anchor":
            assert config["comb"] == [stitch.id]
            continue
        inclusive = zip(config["comb"], config["route"], strict=True)
        expected = tuple((a, b, min(e + 1, space.depths[a])) for a, (b, e) in inclusive)
        assert stitch.segments == expected
        assert [key.unit for key in space.joins(stitch)] == config["layers"][:-1]


@pytest.mark.parametrize(
    ("depths", "count"),
    [((6, 12), 32), ((12, 12), 134), ((12, 36), 134), ((24, 24), 554), ((24, 12), 134), ((5,), 1)],
)
def test_counts_for_depths_that_the_reference_gets_wrong(depths, count):
    assert len(StitchSpace.two_way(depths)) == count


@pytest.mark.parametrize("name", ["deit_ti_s_b", "swin_ti_s_b"])
def test_one_way_ids_joins_and_layers_are_those_that_sn_net_published(name):
    published = json.loads((DATA / "snnet_v1.json").read_text())[name]
    stages = dict(deit_ti_s_b=[12] * 3, swin_ti_s_b=[(2, 2, 6, 2), *[(2, 2, 18, 2)] * 2])[name]
    space = StitchSpace.one_way(stages)
    assert space.ids == tuple(row["id"] for row in published)
    before = {(pair, block): 0 for pair in (0, 1) for block in range(24)}
    for row in published:
        stitch = space[row["id"]]
        assert sorted({anchor for anchor, _, _ in stitch.segments}) == row["anchors"]
        assert (stitch.segments[0].start, stitch.segments[-1].stop) == (
            0,
            space.depths[row["anchors"][-1]],
        )
        if not row["joins"]:
            assert len(stitch.segments) == 1
            continue
        (join,), (small, large), (key,) = row["joins"], stitch.segments, space.joins(stitch)
        stage = next(s for s in range(3) if key.unit < sum(space.stages[small.anchor][: s + 1]))
        first = [sum(space.stages[segment.anchor][:stage]) for segment in stitch.segments]
        assert small.stop - 1 - first[0] == join["last_block_run"]
        assert large.start - first[1] == join["first_block_entered"]
        assert key == (*row["anchors"], first[0] + join["layer"])
        before[small.anchor, key.unit] += 1
    shared = sorted(set(before.values()))
    assert shared == ([0, 3, 4] if name == "deit_ti_s_b" else [0, 1, 2, 3])


def test_layers_of_a_window_fit_each_join_and_the_last_one_the_end():
    space = StitchSpace.one_way((12, 12))
    assert len(space.layer_keys) == 12
    # What is left, and what the entered block reads; block -1 is the embedding.
    assert sorted(space.matches(LayerKey(0, 1, 0))) == [(0, -1), (0, 0), (1, -1), (1, 0)]
    assert sorted(space.matches(LayerKey(0, 1, 10))) == [(10, 10), (11, 9), (11, 10)]
    assert space.matches(LayerKey(0, 1, 11)) == ((11, 11),)  # only a level needs it
    swin = StitchSpace.one_way([(2, 2, 6, 2), (2, 2, 18, 2)])
    assert [key.unit for key in swin.layer_keys] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11]
    assert swin.matches(LayerKey(0, 1, 3)) == ((3, 3),)  # the end of the second stage
    assert swin.matches(LayerKey(0, 1, 9)) == ((9, 19), (9, 20))
    two_way = StitchSpace.two_way((12, 24))
    assert two_way.matches(LayerKey(1, 0, 3)) == ((7, 3),)


@given(depths)
def test_a_one_way_stitch_leaves_no_unit_out(depths):
    small, large = sorted(depths)
    space = StitchSpace.one_way((small, large))
    for stitch in space:
        if stitch.kind == "sl":
            (_, _, stop), (_, start, _) = stitch.segments
            assert start <= stop * (large // small) <= large


def test_where_a_unit_runs_twice_the_level_is_that_of_the_large_anchor():
    space = StitchSpace.one_way((12, 12))
    stitch = next(s for s in space if s.segments == ((0, 0, 6), (1, 4, 12)))  # blocks 4 and 5 twice
    taps = [s for s in space.route(stitch, (3, 4, 5, 11), range(4)) if isinstance(s, Tap)]
    assert taps == [Tap(0, (LayerKey(0, 1, 3),)), Tap(1, ()), Tap(2, ()), Tap(3, ())]


@pytest.mark.parametrize(
    ("depths", "mode", "message"),
    [
        ((24, 12), "one_way", "depths 24 and 12 cannot be stitched one way"),
        ([(2, 6), (2, 6)], "two_way", "hierarchical anchors .* use 'one_way'"),
        ([(2, 6), 8], "one_way", "the same number of stages"),
        ([(2, 6), (2, 7)], "one_way", "depths 6 and 7 cannot be stitched"),
    ],
)
def test_depths_that_do_not_fit_the_mode_are_refused(depths, mode, message):
    with pytest.raises(UserError, match=message):
        StitchSpace(depths, mode)


@given(depths)
def test_every_unit_runs_once_and_something_runs_after_the_last_join(depths):
    space = StitchSpace.two_way(depths)
    assert len({stitch.segments for stitch in space}) == len(space)
    for stitch in space:
        done = [False] * space.units(0)
        for anchor, start, stop in stitch.segments:
            assert start < stop
            blocks = space.blocks_per_unit(anchor, 0)
            assert start % blocks == stop % blocks == 0
            for unit in range(start // blocks, stop // blocks):
                assert not done[unit]
                done[unit] = True
        assert all(done)
        assert set(space.joins(stitch)) <= set(space.layer_keys)


@given(depths, st.data())
def test_a_route_gives_every_wanted_level_once_and_runs_each_segment_in_order(depths, data):
    space = StitchSpace.two_way(depths)
    blocks = st.lists(st.integers(0, depths[-1] - 1), min_size=1, max_size=5, unique=True)
    out_indices = tuple(sorted(data.draw(blocks)))
    levels = data.draw(st.sets(st.integers(0, len(out_indices) - 1), min_size=1))
    stitch = data.draw(st.sampled_from(list(space)))
    route = space.route(stitch, out_indices, sorted(levels))

    taps = [step for step in route if isinstance(step, Tap)]
    assert sorted(tap.level for tap in taps) == sorted(levels)
    assert isinstance(route[-1], Tap)
    assert all(set(tap.path) <= set(space.layer_keys) for tap in taps)
    at, anchor = 0, stitch.segments[0].anchor
    for step in route:
        if isinstance(step, Run):
            assert (step.anchor, step.start) == (anchor, at)
            at = step.stop
        elif isinstance(step, Join):
            unit_end = at // space.blocks_per_unit(anchor, 0) - 1
            assert step.key == LayerKey(anchor, 1 - anchor, unit_end)
            anchor = 1 - anchor
            at = (unit_end + 1) * space.blocks_per_unit(anchor, 0)


@pytest.mark.parametrize("out_indices", OUT_INDICES)
def test_levels_come_from_the_matching_small_block(out_indices):
    space = StitchSpace.two_way((12, 24))
    small = space.route(space[0], out_indices, range(4))
    assert [s.stop - 1 for s in small if isinstance(s, Run)] == [i // 2 for i in out_indices]
    for stitch in space:
        taps = [s for s in space.route(stitch, out_indices, range(4)) if isinstance(s, Tap)]
        assert [tap.level for tap in taps] == [0, 1, 2, 3]


def test_blocks_after_the_last_wanted_level_are_left_out():
    space = StitchSpace.two_way((12, 24))
    route = space.route(space[25], (9, 14, 19, 23), (0,))  # L[0:2] S[1:2] L[4:24]
    assert route[-2:] == (Run(1, 4, 10), Tap(0, ()))


def test_a_chain_is_stitched_pairwise_and_projects_through_the_middle():
    space = StitchSpace.two_way((12, 12, 24))
    assert len(space) == 3 + 2 * 132
    assert len(space.layer_keys) == 2 * 23
    anchors = {tuple(sorted({s.anchor for s in stitch.segments})) for stitch in space}
    assert anchors == {(0,), (1,), (2,), (0, 1), (1, 2)}
    last = space.route(space[0], (9, 14, 19, 23), (3,))[-1]
    assert last == Tap(3, (LayerKey(0, 1, 11), LayerKey(1, 2, 11)))


def test_ids_of_a_chain_follow_those_of_its_pairs():
    """Anchors first, then the joined stitches of the first pair, then those of the second."""
    chain = StitchSpace.two_way((12, 12, 24))
    pairs = (StitchSpace.two_way((12, 12)), StitchSpace.two_way((12, 24)))
    offset = 3 - 2  # a pair counts its stitches from 2
    for first, pair in enumerate(pairs):
        for stitch in [s for s in pair if s.kind != "anchor"]:
            twin = chain[stitch.id + offset]
            assert twin.kind == stitch.kind
            assert twin.segments == tuple((a + first, i, j) for a, i, j in stitch.segments)
        offset += pair.ids[-1] + 1 - 2
    assert chain.ids[-1] == 2 * (pairs[0].ids[-1] - 1) + 2


@pytest.mark.parametrize(
    "depths", [(12, 18), (0, 12), (), (12, 12, 30), (12, 1.5), (12, "24"), ((), ())]
)
def test_depths_that_do_not_divide_are_refused(depths):
    with pytest.raises(UserError, match="depth"):
        StitchSpace.two_way(depths)


@pytest.mark.parametrize("stitch_id", [13, 135, -1, "x", None, [1]])
def test_an_unknown_id_says_which_exist(stitch_id):
    with pytest.raises(UserError, match="0 to 134 without 13"):
        StitchSpace.two_way((12, 24))[stitch_id]


def test_an_elastic_space_is_one_anchor_and_its_beginnings():
    space = StitchSpace.elastic(12)
    assert [(s.id, s.kind, s.segments[0].stop) for s in space] == [
        (0, "anchor", 12),
        *((i, "elastic", 12 - i) for i in range(1, 12)),
    ]
    assert space.layer_keys == ()
    route = space.route(space[5], out_indices=(2, 5, 8, 11), levels=(0, 1, 2, 3))
    ends = [(step.start, step.stop) for step in route if isinstance(step, Run)]
    assert ends == [(0, 1), (1, 3), (3, 5), (5, 7)]  # 3, 6, 9 and 12 twelfths of seven blocks
    assert [step.level for step in route if isinstance(step, Tap)] == [0, 1, 2, 3]
    route = space.route(space[11], out_indices=(2, 5, 8, 11), levels=(0, 1, 2, 3))
    assert [step.level for step in route if isinstance(step, Tap)] == [0, 1, 2, 3]  # of one block


def test_the_ladder_counts_steps_of_cost():
    assert StitchSpace.two_way((12, 24)).ladder == 12
    assert StitchSpace.two_way((12, 12, 24)).ladder == 24
    assert StitchSpace((9,), "elastic").ladder == 8


def test_several_anchors_are_not_elastic():
    with pytest.raises(UserError, match="an elastic space has one anchor, not 2"):
        StitchSpace((6, 12), "elastic")
