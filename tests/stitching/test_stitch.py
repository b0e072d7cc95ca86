"""What a stitch says of itself."""

import dataclasses

import pytest

from mmsn.stitching.stitch import Segment, Stitch


def test_a_stitch_is_a_value_that_prints_its_segments():
    stitch = Stitch(2, "sl", (Segment(0, 0, 3), Segment(1, 6, 24)))
    assert str(stitch) == "0[0:3] > 1[6:24]"
    assert stitch == Stitch(2, "sl", ((0, 0, 3), (1, 6, 24)))
    assert len({stitch, Stitch(3, "sl", stitch.segments)}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        stitch.id = 3
