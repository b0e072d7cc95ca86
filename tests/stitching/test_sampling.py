"""Budget groups of the published FLOPs, and draws as a pure function of seed and iteration."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsn.errors import UserError
from mmsn.stitching import (
    StitchSpace,
    budget_groups,
    count_units,
    default_step,
    draw,
    draw_parts,
)
from tests.stitching.expected import probabilities

DATA = Path(__file__).parents[1] / "data"
costs = st.dictionaries(st.integers(0, 200), st.integers(1, 10**12), min_size=1)


@pytest.fixture(scope="module")
def published():
    file = DATA / "flops_ade20k_deit3_s_l.json"
    return {int(i): macs for i, macs in json.loads(file.read_text()).items()}


@pytest.mark.parametrize("step", ["default", 10e9])
def test_published_flops_form_13_groups(published, step):
    step = default_step(published, units=12) if step == "default" else step
    groups = budget_groups(published, step)
    assert [len(group) for group in groups] == [1, *[12] * 11, 1]
    assert groups[0] == (0,)
    assert groups[-1] == (1,)


def test_the_same_default_groups_a_model_a_thousand_times_smaller(published):
    small = {i: macs // 1000 for i, macs in published.items()}
    assert budget_groups(small, default_step(small, 12)) == budget_groups(
        published, default_step(published, 12)
    )


@given(costs, st.floats(0, 1e12))
def test_groups_are_a_partition_within_the_step(macs, step):
    groups = budget_groups(macs, step)
    assert sorted(i for group in groups for i in group) == sorted(macs)
    flat = [macs[i] for group in groups for i in group]
    assert flat == sorted(flat)
    for group in groups:
        assert macs[group[-1]] - macs[group[0]] <= step
    for left, right in pairwise(groups):
        assert macs[right[0]] - macs[left[0]] > step
    assert sum(probabilities(groups).values()) == pytest.approx(1)


def test_draws_repeat_for_the_same_seed_and_iteration_and_need_no_state(published):
    groups = budget_groups(published, 10e9)
    draws = [draw(groups, seed=3, iteration=i) for i in range(50)]
    assert [draw(groups, seed=3, iteration=i) for i in reversed(range(50))] == draws[::-1]
    assert draws != [draw(groups, seed=4, iteration=i) for i in range(50)]
    # Pinned: a change of the generator would change every resumed run.
    assert draws[:8] == [68, 67, 66, 1, 28, 97, 21, 131]


def test_frequencies_are_uniform_over_groups_then_members(published):
    groups = budget_groups(published, 10e9)
    draws = 26_000
    counts = Counter(draw(groups, 0, i) for i in range(draws))
    assert set(counts) == set(published)
    per_group = [sum(counts[i] for i in group) for group in groups]
    chi2 = sum((n - draws / 13) ** 2 / (draws / 13) for n in per_group)
    assert chi2 < 32.9  # 99.9 % quantile with 12 degrees of freedom
    chance = probabilities(groups)
    chi2 = sum((counts[i] - draws * p) ** 2 / (draws * p) for i, p in chance.items())
    assert chi2 < 189  # 99.9 % quantile with 133 degrees of freedom


def split(groups, drawn):
    """How many parts are of the first group, of the last, and the groups of the others."""
    index = {i: n for n, group in enumerate(groups) for i in group}
    at = [index[i] for i in drawn]
    top = len(groups) - 1
    return at.count(0), at.count(top), [n for n in at if 0 < n < top]


def test_one_part_is_the_draw_of_sn_netv2(published):
    groups = budget_groups(published, 10e9)
    for iteration in range(50):
        assert draw_parts(groups, 3, iteration, 1) == (draw(groups, 3, iteration),)


def test_parts_repeat_for_the_same_seed_and_iteration_and_need_no_state(published):
    groups = budget_groups(published, 10e9)
    drawn = [draw_parts(groups, 3, i, 4) for i in range(50)]
    assert [draw_parts(groups, 3, i, 4) for i in reversed(range(50))] == drawn[::-1]
    assert drawn != [draw_parts(groups, 4, i, 4) for i in range(50)]
    # Pinned: a change of the generator would change every resumed run.
    assert drawn[:3] == [(1, 0, 37, 34), (1, 0, 127, 34), (1, 0, 45, 87)]


@pytest.mark.parametrize("parts", [2, 3, 4, 5, 8, 16, 22])
def test_half_of_the_parts_are_ends_by_turns_and_no_group_between_comes_twice(published, parts):
    groups = budget_groups(published, 10e9)  # 11 groups lie between the ends
    extra = Counter()
    for iteration in range(200):
        drawn = draw_parts(groups, 0, iteration, parts)
        first, last, between = split(groups, drawn)
        assert first + last == parts // 2
        assert abs(first - last) == parts // 2 % 2
        assert len(between) == parts - parts // 2
        assert len(set(between)) == len(between)
        extra[first - last] += 1
    if parts // 2 % 2:  # neither end is trained more: 200 throws of a coin, six sigma
        assert abs(extra[1] - extra[-1]) < 85


def test_groups_between_come_again_only_when_all_have_come(published):
    groups = budget_groups(published, 10e9)
    _, _, between = split(groups, draw_parts(groups, 0, 7, 50))
    assert sorted(Counter(between).values()) == [2] * 8 + [3] * 3  # 25 parts, 11 groups


def test_groups_between_and_their_members_are_drawn_uniformly(published):
    groups = budget_groups(published, 10e9)
    counts = Counter(i for n in range(13_000) for i in draw_parts(groups, 0, n, 4))
    assert counts[0] == counts[1] == 13_000
    members = [i for group in groups[1:-1] for i in group]
    expected = 2 * 13_000 / len(members)
    chi2 = sum((counts[i] - expected) ** 2 / expected for i in members)
    assert chi2 < 186  # 99.9 % quantile with 131 degrees of freedom


@pytest.mark.parametrize("groups", [((5,),), ((5,), (6, 7))])
@pytest.mark.parametrize("parts", [2, 3, 5])
def test_fewer_than_three_groups_leave_nothing_between_the_ends(groups, parts):
    seen = Counter()
    for iteration in range(100):
        drawn = draw_parts(groups, 0, iteration, parts)
        assert len(drawn) == parts
        seen.update(drawn)
    assert set(seen) == {i for group in groups for i in group}


@pytest.mark.parametrize("parts", [0, -2])
def test_no_parts_are_refused(parts):
    with pytest.raises(UserError, match=f"parts {parts} is not allowed: give 1 or more stitches"):
        draw_parts(((0,), (1,)), 0, 0, parts)


@pytest.mark.parametrize("step", [-1, float("nan")])
def test_a_step_below_zero_is_refused(step):
    with pytest.raises(UserError, match=r"step .* 0 or more"):
        budget_groups({0: 1}, step)


def test_units_are_counted_from_segments_alone():
    space = StitchSpace.two_way((4, 8))
    assert count_units(s for stitch in space for s in stitch.segments) == space.units(0)


@pytest.mark.parametrize(("units", "step"), [(0, 10), (1, 10), (2, 5)])
def test_the_default_step_is_a_third_of_a_unit(units, step):
    assert default_step({0: 10, 1: 40}, units) == step
