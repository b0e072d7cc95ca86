"""SN-Net's joins, written out; all published ones are compared in test_space.py."""

from mmsn.stitching.windows import Crossing, crossings


def test_windows_of_plain_anchors_overlap_and_each_pair_belongs_to_the_first():
    (found,) = crossings((3,), (3,))
    assert [(c.stop - 1, c.start, c.unit) for c in found] == [
        *((0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0)),
        *((1, 2, 1), (2, 1, 1), (2, 2, 1)),
    ]


def test_depths_that_differ_have_a_join_for_each_block_but_the_first():
    (found,) = crossings((2,), (4,))
    assert found == (Crossing(1, 1, 0), Crossing(2, 2, 0), Crossing(2, 3, 1))


def test_stages_count_blocks_on_and_the_last_has_none():
    assert crossings((2, 1, 2), (2, 3, 2)) == (
        (Crossing(1, 1, 0),),
        (Crossing(3, 3, 2), Crossing(3, 4, 2)),
        (),
    )


def test_one_block_each_is_one_join():
    assert crossings((1,), (1,)) == ((Crossing(1, 0, 0),),)
    assert crossings((1,), (3,)) == ((Crossing(1, 1, 0), Crossing(1, 2, 0)),)
