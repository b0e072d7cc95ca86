"""The Pareto frontier of a report's stitches, and one number per curve.

Every function here knows which metrics are better when lower. Stitches whose metric is not finite
are ignored everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

from mmsn.errors import UserError
from mmsn.evaluation.metric_names import lower_is_better
from mmsn.evaluation.report import Axis, ParetoReport, StitchResult

Budgets = tuple[float, float]


def frontier(
    results: Sequence[StitchResult], metric: str, axis: Axis = "macs"
) -> list[StitchResult]:
    """The stitches whose metric no cheaper stitch reaches, from smallest to largest.

    On the latency axis, stitches without a latency are ignored.
    """
    sign = _sign(metric)
    priced = [(cost, r) for r in results if (cost := r.cost(axis)) is not None]
    priced = [(cost, r) for cost, r in priced if math.isfinite(r.metrics[metric])]
    # Of equal costs the best comes first, so the others fail the comparison; ids make the choice
    # among equals the same in every run.
    best: list[StitchResult] = []
    for _, result in sorted(priced, key=lambda p: (p[0], -sign * p[1].metrics[metric], p[1].id)):
        if not best or sign * result.metrics[metric] > sign * best[-1].metrics[metric]:
            best.append(result)
    return best


def hypervolume(
    results: Sequence[StitchResult], metric: str, max_macs: float, worst: float
) -> float:
    """Area between the frontier and a reference point, in GFLOPs x metric.

    Sums, over all budgets up to ``max_macs``, how much better than ``worst`` the best affordable
    stitch is. Runs compare only with the same reference point.
    """
    best = [r for r in frontier(results, metric) if r.macs <= max_macs]
    if not best:
        return 0.0
    # Each stitch is the best from its own cost up to that of the next one.
    edges = [r.macs for r in best[1:]] + [max_macs]
    return sum(
        (edge - r.macs) / 1e9 * max(0.0, _sign(metric) * (r.metrics[metric] - worst))
        for r, edge in zip(best, edges, strict=True)
    )


def anchor_budgets(results: Iterable[StitchResult]) -> Budgets:
    """MACs of the cheapest and of the most expensive anchor: the range that a curve spans.

    Raises:
        UserError: fewer than two anchors of different cost.
    """
    # By cost, not by id: a report may hold the anchors in any order.
    costs = sorted({r.macs for r in results if r.kind == "anchor"})
    if len(costs) < 2:
        raise UserError(
            f"a range of budgets needs two anchors of different cost, and the results hold "
            f"{len(costs)}: test both anchors, or give the range"
        )
    return costs[0], costs[-1]


def common_budgets(reports: Sequence[ParetoReport], metric: str) -> Budgets | None:
    """A range of budgets over which the curves of all these reports are defined.

    It starts where each report's cheapest anchor is affordable and ends at the most expensive
    anchor of all. None if some report has no two anchors, or no finite metric.
    """
    ranges: list[Budgets] = []
    starts: list[float] = []
    for report in reports:
        best = frontier(report.stitches, metric)
        try:
            ranges.append(anchor_budgets(report.stitches))
        except UserError:
            return None
        if not best:
            return None
        starts.append(best[0].macs)
    # An anchor may have no finite metric, so the first stitch with one can be more expensive.
    low = max([low for low, _ in ranges] + starts, default=0)
    high = max((high for _, high in ranges), default=0)
    return (low, high) if low < high else None


def mean_best_within_budget(
    results: Sequence[StitchResult], metric: str, budgets: Budgets | None = None
) -> float:
    """One number per curve: the mean over budgets of the best metric within the budget.

    With ``v(b)`` the best metric among stitches of at most ``b`` MACs, it is the integral of
    ``v(b) db`` from ``low`` to ``high``, divided by ``high - low``. ``v`` is a step function, so
    the integral is exact: it is the limit of the mean over evenly spaced budgets, and no number of
    budgets has to be chosen. It has the metric's own unit, and it is better in the metric's own
    direction. Above the most expensive stitch, ``v`` stays constant.

    Args:
        results: of one run.
        metric: that each of them has.
        budgets: (low, high) in MACs, by default ``anchor_budgets``. Runs compare only over the
            same range.

    Raises:
        UserError: a range that does not rise, or that begins below the cheapest stitch, where
            nothing is affordable and ``v`` is not defined.
    """
    low, high = _checked(budgets or anchor_budgets(results))
    best = frontier(results, metric)
    if not best or best[0].macs > low:
        raise _nothing_affordable(best, metric, low)
    # Each stitch holds from its own cost to that of the next one on the frontier.
    starts = [max(low, min(high, r.macs)) for r in best]
    widths = [stop - start for start, stop in pairwise([*starts, high])]
    pairs = zip(best, widths, strict=True)
    return math.fsum(r.metrics[metric] * (width / (high - low)) for r, width in pairs)


def line_between(points: Iterable[tuple[float, float]], budgets: Budgets | None = None) -> float:
    """The same number for straight lines between networks trained alone, a baseline for curves.

    It is the mean over budgets of the line through the points. The line gives a budget between two
    networks a metric that no network reaches, so it is stricter than a step function of them.
    Above the most expensive point the line stays constant.

    Args:
        points: (MACs, metric) of two networks or more, all of different cost.
        budgets: (low, high) in MACs, by default from the cheapest to the most expensive point.

    Raises:
        UserError: fewer than two points, two of the same cost, values that are not finite, or a
            range that begins below the cheapest one.
    """
    line = sorted((float(macs), float(value)) for macs, value in points)
    if len({macs for macs, _ in line}) < max(2, len(line)):
        raise UserError(f"points {line} are not allowed: give two or more of different cost")
    if not all(math.isfinite(x) for point in line for x in point):
        raise UserError(f"points {line} are not allowed: give finite numbers")
    low, high = _checked(budgets or (line[0][0], line[-1][0]))
    if low < line[0][0]:
        raise UserError(
            f"budgets from {low / 1e9:.6g} GFLOPs are not allowed: the line begins at "
            f"{line[0][0] / 1e9:.6g}"
        )

    def height(macs: float) -> float:
        for (x0, y0), (x1, y1) in pairwise(line):
            if macs <= x1:
                share = (macs - x0) / (x1 - x0)
                return (1 - share) * y0 + share * y1
        return line[-1][1]

    # Between two knots the line is straight, so the trapezoidal rule is exact.
    knots = [low, *(macs for macs, _ in line if low < macs < high), high]
    return math.fsum(
        # Halved before the sum, which could overflow.
        (height(a) / 2 + height(b) / 2) * ((b - a) / (high - low))
        for a, b in pairwise(knots)
    )


def class_frontier(report: ParetoReport) -> list[StitchResult]:
    """The frontier of mIoU, where IoU per class was measured."""
    known = [r for r in report.stitches if r.class_iou]
    names = [n for n in (known[0].metrics if known else ()) if n.rpartition("/")[2] == "mIoU"]
    return frontier(known, names[0]) if names else []


def class_gains(report: ParetoReport) -> list[tuple[str, list[float]]]:
    """IoU of each class along ``class_frontier``, sorted by what the expensive end gains.

    Classes that do not occur come last; their IoU is not a number.
    """
    columns = [r.class_iou for r in class_frontier(report) if r.class_iou]
    rows = [(n, [c[k] for c in columns]) for k, n in enumerate(report.classes)] if columns else []

    # Sorting by loss puts the largest gain first, and infinity puts NaN last.
    def loss(row: tuple[str, list[float]]) -> float:
        value = row[1][0] - row[1][-1]
        return math.inf if math.isnan(value) else value

    return sorted(rows, key=loss)


def _sign(metric: str) -> float:
    return -1.0 if lower_is_better(metric) else 1.0


def _checked(budgets: Budgets) -> Budgets:
    low, high = budgets
    if not 0 < low < high < math.inf:
        raise UserError(
            f"budgets from {low / 1e9:.6g} to {high / 1e9:.6g} GFLOPs are not allowed: give a "
            "range that rises"
        )
    return low, high


def _nothing_affordable(best: Sequence[StitchResult], metric: str, macs: float) -> UserError:
    cheapest = f"the cheapest one costs {best[0].macs / 1e9:.6g}" if best else "there is none"
    return UserError(
        f"a budget of {macs / 1e9:.6g} GFLOPs buys no stitch with a finite {metric}: {cheapest}; "
        "begin the range there"
    )
