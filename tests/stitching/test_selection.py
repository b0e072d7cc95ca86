"""Stitches by name and by budget."""

import pytest

from mmsn.stitching import StitchSpace, best_per_group, largest_within, resolve

SPACE = StitchSpace.two_way((2, 4))  # 0, 1 anchors; 2 sl; 4 ls; no lsl or sls
MACS = {0: 10, 1: 40, 2: 27, 4: 24}


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        ("all", (0, 1, 2, 4)),
        ("anchors", (0, 1)),
        ("middle", (4,)),
        (4, (4,)),
        (["anchors", "middle", 1, "sl"], (0, 1, 4, 2)),
        (("lsl",), ()),
    ],
)
def test_resolve(names, ids):
    assert resolve(SPACE, MACS, names) == ids


def test_the_middle_of_a_lone_anchor_is_that_anchor():
    assert resolve(StitchSpace.two_way((3,)), {0: 7}, ["anchors", "middle"]) == (0,)


@pytest.mark.parametrize("name", ["small", "3", 3])
def test_unknown_names_are_refused(name):
    with pytest.raises(LookupError, match="unknown"):
        resolve(SPACE, MACS, [name])


@pytest.mark.parametrize(("budget", "stitch"), [(10, 0), (26.9, 4), (27, 2), (1e9, 1)])
def test_largest_within(budget, stitch):
    assert largest_within(MACS, budget) == stitch


def test_best_per_group():
    groups = ((0,), (3, 2, 5), (1,))
    scores = {0: 1.0, 2: 9.0, 3: 7.0, 5: 9.0}
    assert best_per_group(groups, scores, 1) == (0, 2)
    assert best_per_group(groups, scores, 2) == (0, 2, 5)
    with pytest.raises(ValueError, match="count 0"):
        best_per_group(groups, scores, 0)


def test_a_budget_below_the_cheapest_names_it():
    with pytest.raises(ValueError, match=r"33\.52 GFLOPs"):
        largest_within({0: 33_522_505_728, 1: 363_157_291_008}, 20e9)
