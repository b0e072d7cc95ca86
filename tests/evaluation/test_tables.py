"""Reports as text."""

import pytest

from mmsn.evaluation import Reference, markdown_table, text_table
from mmsn.evaluation.tables import class_table
from tests.evaluation.reports import depth_report, report, result


def test_the_table_lists_all_by_cost_and_stars_the_frontier():
    rows = text_table(report(result(3, 9_000_000_000, 2.0), result(1, 5_000_000_000, 4.25)))
    lines = [line for line in rows.splitlines() if "anchor" in line]
    assert "4.25" in lines[0]
    assert "*" in lines[0]
    assert "*" not in lines[1]


@pytest.mark.parametrize("prefix", ["", "depth/"])
def test_depth_is_shown_by_rmse_and_lower_is_better(prefix):
    mine = depth_report(prefix)
    assert [line.split("|")[-2].strip() for line in markdown_table(mine).splitlines()[2:4]] == [
        "0.5131",
        "0.3873",
    ]
    rows = [line for line in text_table(mine).splitlines() if "anchor" in line]
    assert [("*" in row) for row in rows] == [True, False, True]
    assert "0.5242" in rows[1]


def test_both_numbers_are_given_with_their_definitions():
    mine = report(result(0, 2 * 10**9, 10.0), result(1, 4 * 10**9, 20.0), result(2, 10**10, 40.0))
    mean = (
        "mean best mIoU within the budget: 17.50 (mean over all budgets from 2 to 10 GFLOPs of "
        "the best mIoU that the budget allows)"
    )
    volume = (
        "hypervolume: 140 GFLOPs x mIoU (area between the frontier and mIoU 0, up to 10 GFLOPs)"
    )
    assert text_table(mine).splitlines()[-2:] == [mean, volume]
    assert markdown_table(mine).splitlines()[-2:] == [f"- {mean}", f"- {volume}"]


def test_several_runs_are_compared_over_the_budgets_that_all_of_them_cover():
    one = report(result(0, 2 * 10**9, 10.0), result(1, 10 * 10**9, 20.0))
    other = report(result(0, 4 * 10**9, 5.0), result(1, 8 * 10**9, 30.0))
    reference = Reference.of([one, other])
    assert reference.budgets == (4e9, 10e9)
    assert "budget: 10.00 (mean over all budgets from 4 to 10" in reference.numbers(one)[0]
    assert "budget: 13.33 (" in reference.numbers(other)[0]  # (4 x 5 + 2 x 30) / 6


def test_a_report_without_both_anchors_has_no_mean_over_budgets():
    assert text_table(report(result(0, 10**9, 10.0))).splitlines()[-1].startswith("hypervolume")
    assert "mean best" not in text_table(report(result(0, 10**9, 10.0)))


def test_a_value_that_is_not_a_number_takes_no_part():
    mine = report(
        result(0, 10**9, float("nan")), result(1, 2 * 10**9, 5.0), result(2, 3 * 10**9, 7.0)
    )
    assert Reference.of([mine]).budgets == (2e9, 3e9)
    assert Reference.of([report(result(0, 5, float("nan")), result(1, 9, 1.0))]).budgets is None


def test_titles_and_metrics_are_shown_as_they_are():
    odd = report(result(0, 5, 1.5, "[red]x"), result(1, 9, 2.5, "[red]x"), title="a[/b] [red]")
    text = text_table(odd).replace("\n", "")
    assert "a[/b] [red]" in text
    assert "[red]x" in text


def test_classes_of_several_stitches_are_one_table():
    text = class_table(["sky", "boat [1]"], {0: [12.25, float("nan")], 25: [99.5, 0.0]})
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines()]
    assert [row for row in rows if row] == [["sky", "12.25", "99.50"], ["boat [1]", "nan", "0.00"]]
    assert "stitch 0" in text
    assert "stitch 25" in text
