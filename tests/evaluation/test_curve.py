"""The frontier, and the numbers that summarize a curve."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mmsn.errors import UserError
from mmsn.evaluation import (
    ParetoReport,
    class_gains,
    frontier,
    hypervolume,
    line_between,
    mean_best_within_budget,
)
from mmsn.evaluation.curve import common_budgets
from mmsn.evaluation.report import Latency
from tests.evaluation.reports import depth_report, report, result

ROOT = Path(__file__).parents[2]
points = st.lists(st.tuples(st.integers(1, 50), st.integers(0, 20)), min_size=1)


@given(points, st.sampled_from(["mIoU", "rmse"]))
def test_the_frontier_is_what_no_cheaper_or_equal_stitch_reaches(values, metric):
    results = [result(i, macs, float(v), metric) for i, (macs, v) in enumerate(values)]
    better = (lambda a, b: a < b) if metric == "rmse" else (lambda a, b: a > b)
    best = frontier(results, metric)
    for r in results:
        dominated = any(
            (o.macs <= r.macs and better(o.metrics[metric], r.metrics[metric]))
            or (o.macs < r.macs and o.metrics[metric] == r.metrics[metric])
            for o in results
        )
        on_it = any((r.macs, r.metrics) == (o.macs, o.metrics) for o in best)
        assert on_it != dominated
    assert [r.macs for r in best] == sorted({r.macs for r in best})


def test_hypervolume_is_the_area_to_the_reference_point():
    results = [result(0, 2_000_000_000, 10.0), result(1, 5_000_000_000, 30.0)]
    results.append(result(2, 6_000_000_000, 20.0))  # dominated
    assert hypervolume(results, "mIoU", 8e9, 0.0) == pytest.approx(3 * 10 + 3 * 30)
    assert hypervolume(results, "mIoU", 4e9, 5.0) == pytest.approx(2 * 5)
    errors = [result(0, 2_000_000_000, 0.6, "rmse"), result(1, 4_000_000_000, 0.4, "rmse")]
    assert hypervolume(errors, "rmse", 5e9, 0.7) == pytest.approx(2 * 0.1 + 1 * 0.3)


def test_a_frontier_of_nothing_has_no_volume():
    nothing = [result(0, 5, float("nan")), result(1, 50, 3.0)]
    assert hypervolume(nothing, "mIoU", max_macs=10, worst=0.0) == 0.0


def test_a_stitch_worse_than_the_reference_adds_nothing():
    results = [result(0, 10**9, 1.0), result(1, 2 * 10**9, 5.0)]
    assert hypervolume(results, "mIoU", max_macs=4 * 10**9, worst=2.0) == pytest.approx(2 * 3.0)


def test_the_frontier_by_latency_leaves_out_what_was_not_timed():
    timed = [result(0, 5, 1.0), result(1, 9, 2.0), result(2, 7, 3.0)]
    times = (4.0, 3.0, None)
    timed = [
        r.model_copy(update=dict(latency=t and Latency(p50_ms=t, p90_ms=t, repeats=3)))
        for r, t in zip(timed, times, strict=True)
    ]
    assert [r.id for r in frontier(timed, "mIoU", "latency")] == [1]


def test_class_gains_are_sorted_by_what_the_expensive_end_gains():
    ious = {0: [10.0, 50.0], 1: [40.0, 55.0]}
    results = [
        result(i, 5 + i, float(i)).model_copy(update=dict(class_iou=iou)) for i, iou in ious.items()
    ]
    mine = report(*results, classes=["lamp", "wall"])
    assert class_gains(mine) == [("lamp", [10.0, 40.0]), ("wall", [50.0, 55.0])]


def test_the_published_curve_comes_along():
    published = ParetoReport.load(ROOT / "docs" / "results" / "published_ade20k_deit3-s-l.json")
    assert len(published.stitches) == 134
    best = frontier(published.stitches, "mIoU")
    assert [r.id for r in best] == [0, 90, 108, 91, 109, 93, 94, 96, 20, 4, 3, 2, 1]
    golden = json.loads((ROOT / "tests" / "data" / "flops_ade20k_deit3_s_l.json").read_text())
    assert {str(r.id): r.macs for r in published.stitches} == golden


@pytest.mark.parametrize("prefix", ["", "depth/"])
def test_of_depth_less_is_better(prefix):
    mine = depth_report(prefix)
    metric = mine.default_metric()
    assert metric == f"{prefix}rmse"
    assert [r.id for r in frontier(mine.stitches, metric)] == [0, 2]
    assert hypervolume(mine.stitches, metric, 9e9, 0.6) == pytest.approx(4 * (0.6 - 0.51312))
    assert mean_best_within_budget(mine.stitches, metric) == pytest.approx(0.51312)
    assert class_gains(mine) == []


def test_the_mean_over_budgets_is_the_area_under_the_steps():
    results = [result(0, 2, 10.0), result(1, 10, 40.0), result(2, 4, 20.0), result(3, 6, 15.0)]
    # 10 for budgets from 2 to 4, 20 from 4 to 10; stitch 3 is never the best, 1 only at the end
    assert mean_best_within_budget(results, "mIoU") == pytest.approx((2 * 10 + 6 * 20) / 8)
    assert mean_best_within_budget(results, "mIoU", (3, 12)) == pytest.approx(
        (1 * 10 + 6 * 20 + 2 * 40) / 9
    )
    assert mean_best_within_budget(results, "mIoU", (5, 6)) == pytest.approx(20)
    assert mean_best_within_budget(results, "mIoU", (20, 30)) == pytest.approx(40)
    errors = [result(0, 2, 0.6, "rmse"), result(1, 4, 0.4, "rmse"), result(2, 3, 0.7, "rmse")]
    errors.append(result(3, 6, 0.1, "rmse"))
    assert mean_best_within_budget(errors, "rmse") == pytest.approx((2 * 0.6 + 2 * 0.4) / 4)


def test_the_mean_over_budgets_is_that_of_the_published_curve():
    """With a plain sum over 100,000 budgets beside it, which the integral is the limit of."""
    published = ParetoReport.load(ROOT / "docs" / "results" / "published_ade20k_deit3-s-l.json")
    mean = mean_best_within_budget(published.stitches, "mIoU")
    low, high = published.stitches[0].macs, published.stitches[1].macs
    budgets = [low + (high - low) * (k + 0.5) / 100_000 for k in range(100_000)]
    best = frontier(published.stitches, "mIoU")
    total, k = 0.0, 0
    for budget in budgets:
        while k + 1 < len(best) and best[k + 1].macs <= budget:
            k += 1
        total += best[k].metrics["mIoU"]
    assert mean == pytest.approx(total / len(budgets), abs=1e-4)
    assert round(mean, 1) == 48.5


runs = st.lists(st.tuples(st.integers(10, 90), st.floats(0, 100)), max_size=8).flatmap(
    lambda rest: st.tuples(st.floats(0, 100), st.floats(0, 100)).map(
        lambda ends: [(10, ends[0]), (90, ends[1]), *rest]
    )
)


@given(runs, st.tuples(st.integers(10, 200), st.floats(0, 100)), st.sampled_from(["mIoU", "rmse"]))
def test_another_stitch_never_makes_the_mean_worse(values, other, metric):
    results = [result(i, macs, v, metric) for i, (macs, v) in enumerate(values)]
    more = [*results, result(len(results), *other, metric)]
    before, after = (mean_best_within_budget(r, metric, (10, 120)) for r in (results, more))
    assert (before - after if metric == "mIoU" else after - before) <= 1e-9


@given(runs, st.sampled_from(["mIoU", "rmse"]), st.integers(10, 60), st.integers(1, 60))
def test_the_mean_lies_between_what_both_ends_of_the_range_buy(values, metric, low, width):
    results = [result(i, macs, v, metric) for i, (macs, v) in enumerate(values)]
    mean = mean_best_within_budget(results, metric, (low, low + width))
    best = max if metric == "mIoU" else min
    ends = sorted(
        best(r.metrics[metric] for r in results if r.macs <= budget)
        for budget in (low, low + width)
    )
    assert ends[0] - 1e-9 <= mean <= ends[1] + 1e-9


@given(runs, st.integers(11, 119))
def test_means_over_two_parts_of_a_range_join_to_that_of_the_whole(values, middle):
    results = [result(i, macs, v) for i, (macs, v) in enumerate(values)]
    parts = [
        (b - a) * mean_best_within_budget(results, "mIoU", (a, b))
        for a, b in ((10, middle), (middle, 120))
    ]
    whole = mean_best_within_budget(results, "mIoU", (10, 120))
    assert sum(parts) / 110 == pytest.approx(whole, abs=1e-9)


@pytest.mark.parametrize(
    ("budgets", "reason"),
    [
        ((1e9, 4e9), "a budget of 1 GFLOPs buys no stitch .* the cheapest one costs 2; begin"),
        ((4e9, 4e9), "budgets from 4 to 4 GFLOPs are not allowed"),
        ((5e9, 4e9), "give a range that rises"),
        ((5e9, math.inf), "give a range that rises"),
        ((math.nan, 4e9), "give a range that rises"),
    ],
)
def test_budgets_without_a_meaning_are_refused(budgets, reason):
    results = [result(0, 2 * 10**9, 1.0), result(1, 5 * 10**9, 2.0)]
    with pytest.raises(UserError, match=reason):
        mean_best_within_budget(results, "mIoU", budgets)


def test_a_range_needs_two_anchors_or_has_to_be_given():
    lone = [result(0, 2, 1.0), result(1, 2, 3.0)]
    with pytest.raises(UserError, match="of different cost, and the results hold 1"):
        mean_best_within_budget(lone, "mIoU")
    assert mean_best_within_budget(lone, "mIoU", (2, 5)) == 3.0
    with pytest.raises(UserError, match="there is none"):
        mean_best_within_budget([result(0, 2, math.inf)], "mIoU", (2, 5))
    assert common_budgets([report(*lone)], "mIoU") is None


def test_a_line_between_networks_trained_alone():
    assert line_between([(2, 10.0), (6, 30.0)]) == pytest.approx(20)
    assert line_between([(6, 30.0), (2, 10.0)], (3, 6)) == pytest.approx(22.5)
    assert line_between([(2, 10.0), (6, 30.0)], (4, 10)) == pytest.approx((2 * 25 + 4 * 30) / 6)
    assert line_between([(2, 10.0), (4, 30.0), (8, 10.0)], (3, 8)) == pytest.approx(
        (1 * 25 + 4 * 20) / 5
    )


@given(
    st.lists(
        st.tuples(st.integers(1, 99), st.floats(-50, 50)), min_size=2, unique_by=lambda p: p[0]
    )
)
def test_a_line_lies_between_its_lowest_and_its_highest_point(line):
    values = [value for _, value in line]
    assert min(values) - 1e-9 <= line_between(line) <= max(values) + 1e-9


@given(st.integers(1, 50), st.integers(1, 50), st.floats(0, 9), st.floats(0, 9), st.floats(0, 1))
def test_a_point_on_a_line_changes_nothing(start, width, low, high, share):
    assume(0.01 < share < 0.99)
    ends = [(start, low), (start + width, high)]
    middle = (start + share * width, low + share * (high - low))
    assert line_between([*ends, middle]) == pytest.approx(line_between(ends), abs=1e-9)


@pytest.mark.parametrize(
    ("points", "budgets", "reason"),
    [
        ([(2, 1.0)], None, "give two or more of different cost"),
        ([(2, 1.0), (2, 3.0)], None, "give two or more of different cost"),
        ([(2, 1.0), (3, math.nan)], None, "give finite numbers"),
        ([(2e9, 1.0), (3e9, 2.0)], (1e9, 3e9), "budgets from 1 GFLOPs .* the line begins at 2"),
    ],
)
def test_lines_without_a_meaning_are_refused(points, budgets, reason):
    with pytest.raises(UserError, match=reason):
        line_between(points, budgets)
