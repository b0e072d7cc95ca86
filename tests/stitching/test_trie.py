"""The trie of stitches: its order, what it saves, and what it keeps."""

import pytest

from mmsn.stitching import StitchSpace
from mmsn.stitching.stitch import Run
from mmsn.stitching.trie import Trie, common_length, single_steps
from tests.stitching.expected import executed
from tests.stitching.test_cost import LARGE, SMALL, plain_vit


@pytest.fixture(scope="module")
def trie():
    """All stitches of (12, 24), with the level that a SETR head reads."""
    space = StitchSpace.two_way((12, 24))
    return Trie(space, space.ids, (9, 14, 19, 23), (3,))


def block_macs(steps):
    costs = [plain_vit(dim).blocks[0].macs(1025) for dim in (SMALL, LARGE)]
    return sum(costs[step.anchor] for step in steps if isinstance(step, Run))


def test_all_stitches_of_s_and_l_need_2_7_times_less(trie):
    apart = block_macs(step for route in trie.routes.values() for step in route)
    shared = block_macs(executed(trie))
    print(f"{apart / 1e9:.0f} against {shared / 1e9:.0f} GMACs: {apart / shared:.2f}")
    assert apart / 1e9 == pytest.approx(26306, rel=2e-3)
    assert shared / 1e9 == pytest.approx(9750, rel=2e-3)
    assert apart / shared == pytest.approx(2.70, abs=0.01)


def test_every_beginning_is_run_once(trie):
    beginnings = {
        (trie.first[i], route[:length])
        for i, route in trie.routes.items()
        for length in range(1, len(route) + 1)
    }
    assert len(executed(trie)) == len(beginnings)


@pytest.mark.parametrize("depths", [(12, 12), (12, 24), (24, 24), (6, 6, 12)])
def test_what_is_kept_is_bounded_by_depth_not_by_the_number_of_stitches(depths):
    space = StitchSpace.two_way(depths)
    trie = Trie(space, space.ids, (depths[-1] - 1,), (0,))
    longest = max(map(len, trie.routes.values()))
    assert trie.kept() <= max(depths) + 1 < longest < len(space)


def test_branches_are_the_lengths_that_later_stitches_share(trie):
    for n, stitch in enumerate(trie.order):
        for other in trie.order[n + 1 :]:
            if trie.first[other] == trie.first[stitch]:
                length = common_length(trie.routes[stitch], trie.routes[other])
                assert length in trie.branches[stitch]


def test_a_route_is_cut_into_single_blocks(trie):
    space = StitchSpace.two_way((12, 24))
    route = space.route(space[25], (9, 14, 19, 23), range(4))
    steps = single_steps(route)
    assert sum(isinstance(step, Run) for step in steps) == sum(
        step.stop - step.start for step in route if isinstance(step, Run)
    )
    assert [s for s in steps if not isinstance(s, Run)] == [
        s for s in route if not isinstance(s, Run)
    ]


@pytest.mark.parametrize("depths", [(12, 12), (12, 24)])
@pytest.mark.parametrize("levels", [(3,), (0, 1, 2, 3)])
def test_the_134_stitches_keep_at_most_eleven_states(depths, levels):
    space = StitchSpace.two_way(depths)
    out_indices = (9, 14, 19, 23) if depths[1] == 24 else (4, 7, 9, 11)
    assert Trie(space, space.ids, out_indices, levels).kept() == 11
