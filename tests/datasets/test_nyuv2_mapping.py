"""The table of 894 names to 40 classes."""

import numpy as np

from mmsn.datasets.nyuv2_mapping import FURNITURE, OWN_CLASS, STRUCTURE, mapping40


def test_mapping_has_one_name_for_each_own_class():
    table = mapping40()
    assert table.shape == (895,)
    assert table[0] == 0
    counts = np.bincount(table, minlength=41)
    assert counts.tolist() == [1] + [1] * 37 + [68, 82, 707]
    assert (table[21], table[11], table[5], table[331], table[55]) == (1, 2, 5, 31, 37)
    assert not set(OWN_CLASS) & set(STRUCTURE)
    assert not set(STRUCTURE) & set(FURNITURE)
