"""A picture of several methods on one family: curves with their spread, and the anchors alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsn.evaluation.curve import frontier
from mmsn.evaluation.methods import Family, split_alone, title
from mmsn.evaluation.metric_names import metric_label
from mmsn.evaluation.report import ParetoReport
from mmsn.files import whole_file

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]  # costs in GFLOPs, and the metric there

# Okabe and Ito's palette, which color-blind readers can tell apart, and three more. A known method
# keeps its color and its marker in every picture.
_LOOKS = {
    "snnet": ("#E69F00", "^"),
    "snnetv2": ("#0072B2", "s"),
    "elastic": ("#CC79A7", "P"),
    "ours": ("#009E73", "o"),
}
_OTHER_LOOKS = (
    ("#D55E00", "v"),
    ("#56B4E9", "D"),
    ("#000000", "X"),
    ("#999999", "<"),
    ("#8C510A", ">"),
    ("#5E3C99", "p"),
)
_LINE_GAP = 0.052  # of the height of the axes, between two labels


def plot_methods(
    family: Family,
    path: str | Path,
    methods: Sequence[str] | None = None,
    subject: str = "",
) -> None:
    """Draw the best metric within each budget, by method.

    A line is the mean over seeds, a band reaches from the lowest to the highest seed, and points
    are networks, averaged over seeds. Stars are the anchors trained alone, with the same spread as
    a bar, and the dashed line joins them; smaller ones were trained in another way. Their names say
    so where they trained for another compute than the methods.

    Args:
        family: what to draw.
        path: of the picture; its suffix names the format, for example .png or .svg.
        methods: which curves, by default all.
        subject: what the title adds to the family's name.
    """
    from matplotlib.figure import Figure  # slow to load, and only pictures need it

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.margins(y=0.1)  # the names of stars stand above or below them
    methods = family.curves if methods is None else methods
    others = itertools.cycle(_OTHER_LOOKS)
    # A little room on the right shows how high each curve ends.
    costs = [s.macs for runs in family.runs.values() for r in runs.values() for s in r.stitches]
    edge = max(costs) + 0.04 * (max(costs) - min(costs))
    labels, means = [], []
    for method in methods:
        color, marker = _LOOKS.get(method) or next(others)
        reports = list(family.runs[method].values())
        gflops, heights = envelopes(reports, family.metric, edge)
        means.append((gflops, heights.mean(0)))
        axes.step(*means[-1], where="post", color=color, linewidth=2, zorder=3)
        if len(reports) > 1:
            low, high = heights.min(0), heights.max(0)
            # Lowest and highest, as in the tables: too few seeds for a standard deviation.
            axes.fill_between(gflops, low, high, step="post", color=color, alpha=0.2, linewidth=0)
        x, y = _points(reports, family.metric)
        axes.scatter(x, y, s=16, marker=marker, color=color, alpha=0.6, linewidths=0, zorder=2)
        labels.append((float(heights[:, -1].mean()), title(method), color))
    _draw_alone(axes, family, means, methods)
    axes.set_xlabel("GFLOPs (multiply-accumulates)", fontsize=11)
    axes.set_ylabel(metric_label(family.metric), fontsize=11)
    axes.tick_params(labelsize=10)
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    _label_ends(axes, edge / 1e9, labels)
    seeds = sorted({len(family.runs[method]) for method in methods})
    axes.set_title(f"{family.name}{subject}: best within the budget, {_count(seeds)}", fontsize=11)
    with whole_file(path) as part:
        figure.savefig(part, dpi=200)


def envelopes(
    reports: Sequence[ParetoReport], metric: str, max_macs: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The best metric within a budget, at every budget where it changes in some report.

    Returns:
        GFLOPs (B,) from where all reports have a stitch, up to ``max_macs``; and the best metric
        (R, B) of each report there. Between two budgets it stays as at the lower one.
    """
    curves = [frontier(report.stitches, metric) for report in reports]
    start = max(curve[0].macs for curve in curves)
    # Step functions change only where some report has a network: no other budget matters.
    budgets = sorted({start, max_macs, *(r.macs for c in curves for r in c if r.macs > start)})
    heights = [
        [[r.metrics[metric] for r in curve if r.macs <= b][-1] for b in budgets] for curve in curves
    ]
    return np.array(budgets) / 1e9, np.array(heights)


def _points(reports: Sequence[ParetoReport], metric: str) -> tuple[list[float], list[float]]:
    """GFLOPs and mean metric of the networks that every report holds."""
    values = [{s.id: s.metrics[metric] for s in report.stitches} for report in reports]
    shared = [s for s in reports[0].stitches if all(s.id in v for v in values)]
    return (
        [s.macs / 1e9 for s in shared],
        [float(np.mean([v[s.id] for v in values])) for s in shared],
    )


def _draw_alone(axes: Any, family: Family, means: Sequence[Curve], methods: Sequence[str]) -> None:
    for how, names in itertools.groupby(family.anchors_alone, lambda name: split_alone(name)[1]):
        points = {name: family.alone(name) for name in names}
        x = [macs / 1e9 for macs, _ in points.values()]
        y = [spread.mean for _, spread in points.values()]
        color, linestyle, size, fontsize = ("0.7", ":", 70, 8) if how else ("0.45", "--", 170, 10)
        axes.plot(x, y, color=color, linestyle=linestyle, linewidth=1.3, zorder=2)
        axes.scatter(x, y, s=size, marker="*", color="white", edgecolors="black", zorder=5)
        for gflops, (name, (_, spread)) in zip(x, points.items(), strict=True):
            ends = [min(spread.values), max(spread.values)]
            axes.plot([gflops] * 2, ends, color="black", zorder=4)
            above = _has_room_above(family, name, means)
            anchor, _ = split_alone(name)
            axes.annotate(
                f"{anchor} alone{_share(family, name, methods)}",
                (gflops, spread.mean),
                (0, 11 if above else -11),
                textcoords="offset points",
                # The name stands between the anchors.
                ha="left" if anchor == "small" else "right",
                va="bottom" if above else "top",
                fontsize=fontsize,
                zorder=6,
                # Lines run behind the text.
                bbox=dict(facecolor="white", edgecolor="none", alpha=0.6, pad=0.5),
            )


def _has_room_above(family: Family, name: str, means: Sequence[Curve]) -> bool:
    """Is the next curve or star above that of an anchor alone farther than the next below?"""
    anchor, _ = split_alone(name)
    macs, spread = family.alone(name)
    near = [_beside(mean, macs / 1e9, right=anchor == "small") for mean in means]
    others = [other for other in family.anchors_alone if split_alone(other)[0] == anchor]
    near += [family.alone(other)[1].mean for other in others if other != name]
    above = min((height - spread.mean for height in near if height > spread.mean), default=math.inf)
    below = min(
        (spread.mean - height for height in near if height <= spread.mean), default=math.inf
    )
    return above >= below


def _share(family: Family, method: str, methods: Sequence[str]) -> str:
    """What an anchor trained for, where it is not what the methods did."""
    macs = family.trained(method, "train_macs")
    others = [count for m in methods if (count := family.trained(m, "train_macs"))]
    if not macs or not others:
        return ""
    share = round(100 * macs / np.mean(others))
    # Trainings of whole iterations are never quite as long as each other.
    return "" if abs(share - 100) < 10 else f", {share} % of the compute"


def _beside(mean: Curve, gflops: float, right: bool) -> float:
    """The height of a curve just to the right or left of a cost, or where it is nearest to it."""
    costs, heights = mean
    at = int(np.searchsorted(costs, gflops, side="right" if right else "left")) - 1
    return float(heights[max(at, 0)])


def _label_ends(axes: Any, x: float, labels: Sequence[tuple[float, str, str]]) -> None:
    """Name the curves at their right ends, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    heights = _apart([height for height, *_ in sorted(labels)], _LINE_GAP * (high - low))
    for at, (_, text, color) in zip(heights, sorted(labels), strict=True):
        style = dict(color=color, fontsize=11, fontweight="bold", va="center")
        axes.annotate(
            text, (x, at), (6, 0), textcoords="offset points", annotation_clip=False, **style
        )


def _apart(heights: Sequence[float], gap: float) -> list[float]:
    """Rising heights, moved as little as a simple rule allows so that each is ``gap`` higher."""
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + gap) if placed else height)
    # They were only moved up. Moving all of them down again centers the group on its true heights.
    shift = (sum(placed) - sum(heights)) / max(1, len(placed))
    return [height - shift for height in placed]


def _count(seeds: Sequence[int]) -> str:
    if seeds in ([], [1]):
        return "one seed"
    most = f"{seeds[-1]} seeds"
    return most if len(seeds) == 1 else f"{seeds[0]} to {most}"
