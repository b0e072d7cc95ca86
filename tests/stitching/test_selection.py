"""Stitches by name."""

import pytest

from mmsn.errors import UserError
from mmsn.stitching import StitchSpace, best_per_group, resolve

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


@pytest.mark.parametrize(("macs", "middle"), [({2: 27, 4: 12}, 2), ({2: 38, 4: 24}, 4)])
def test_the_middle_is_the_closest_from_either_side(macs, middle):
    assert resolve(SPACE, {0: 10, 1: 40, **macs}, "middle") == (middle,)


def test_the_middle_of_a_lone_anchor_is_that_anchor():
    assert resolve(StitchSpace.two_way((3,)), {0: 7}, ["anchors", "middle"]) == (0,)


@pytest.mark.parametrize("name", ["small", "3", 3])
def test_unknown_names_are_refused(name):
    with pytest.raises(UserError, match="unknown"):
        resolve(SPACE, MACS, [name])


def test_best_per_group():
    groups = ((0,), (3, 2, 5), (1,))
    scores = {0: 1.0, 2: 9.0, 3: 7.0, 5: 9.0}
    assert best_per_group(groups, scores, 1) == (0, 2)
    assert best_per_group(groups, scores, 2) == (0, 2, 5)
    with pytest.raises(UserError, match="count 0"):
        best_per_group(groups, scores, 0)
