"""Units of plain and of hierarchical anchors, against a list of which block lies in which."""

import pytest

from mmsn.stitching.units import Units


@pytest.mark.parametrize(
    ("sides", "lies_in", "ends"),
    [
        (((3,), (6,)), ([0, 1, 2], [0, 0, 1, 1, 2, 2]), (2,)),
        (((4,), (2,)), ([0, 0, 1, 1], [0, 1]), (1,)),
        (((2, 1), (2, 3)), ([0, 1, 2], [0, 1, 2, 2, 2]), (1, 2)),
    ],
)
def test_blocks_lie_in_units(sides, lies_in, ends):
    units = Units(sides)
    assert units.ends == ends
    for side, of in enumerate(lies_in):
        assert [units.of(side, block) for block in range(len(of))] == of
        last = [max(b for b, unit in enumerate(of) if unit == u) for u in range(max(of) + 1)]
        assert [units.end(side, unit) for unit in range(len(last))] == last
        with pytest.raises(IndexError):
            units.of(side, len(of))
        with pytest.raises(IndexError):
            units.end(side, len(last))
    assert units.blocks(1) == lies_in[1].count(0)
