"""Tables of methods: every method with its spread, and the best of each group."""

import pytest

from mmsn.evaluation.methods import load_families
from mmsn.evaluation.methods_table import methods_markdown
from tests.evaluation.reports import report, stitches


def test_the_tables_hold_every_method_with_its_spread(folder):
    (family,) = load_families(folder)
    text = methods_markdown(family)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert ["small anchor alone", "2", "10.50 ± 1.00", "", "", "30 T", "12,000"] in rows
    assert ["large anchor alone", "2", "", "20.50 ± 1.00", "", "30 T", "12,000"] in rows
    assert ["straight line between them", "", "", "", "15.62 ± 1.00", "", ""] in rows
    mine = ["ours", "2", "12.50 ± 1.00", "22.00 ± 0.00", "14.88 ± 0.75", "30 T", "12,000"]
    assert mine in rows
    assert ["4", "10.00 ± 0.00", "**16.50 ± 1.00**"] in rows
    assert "from 2 to 6 GFLOPs of the best mIoU within the budget" in text
    assert "largest minus smallest" in text


def test_of_depth_the_lowest_is_the_best(tmp_path):
    report(*stitches([0.9, 0.8, 0.7], "rmse"), images=4).save(tmp_path / "d_ours_0.json")
    report(*stitches([0.8, 0.9, 0.75], "rmse"), images=4).save(tmp_path / "d_snnet_0.json")
    (family,) = load_families(tmp_path)
    assert family.mean_best("snnet").values == pytest.approx((0.8,))
    assert family.mean_best("ours").values == pytest.approx((0.85,))
    text = methods_markdown(family)
    assert "| 2 | **0.8000** | 0.9000 |" in text
    assert "| 3 | 0.9000 | **0.8000** |" in text
    assert "straight line" not in text


def test_a_method_without_a_network_in_a_group_has_no_value_there(tmp_path):
    whole, some = stitches([1.0, 2.0, 3.0, 4.0]), stitches([1.5, 2.5, 3.5, 4.5])
    report(*whole, images=4).save(tmp_path / "d_ours_0.json")
    report(some[0], some[3], images=4).save(tmp_path / "d_part_0.json")
    (family,) = load_families(tmp_path)
    assert [list(best) for _, best in family.groups()] == [
        ["ours", "part"], ["ours"], ["ours"], ["ours", "part"],
    ]  # fmt: skip
    assert "| 3 | **2.000** | - |" in methods_markdown(family)
