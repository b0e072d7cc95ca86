"""A picture of several methods on one family: curves with their spread, and the anchors alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsn.evaluation.curve import frontier
from mmsn.evaluation.methods import ALONE, Family, title
from mmsn.evaluation.metric_names import metric_label
from mmsn.evaluation.report import ParetoReport
from mmsn.files import whole_file

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


def plot_methods(family: Family, path: str | Path, methods: Sequence[str] | None = None) -> None:
    """Draw the best metric within each budget, by method.

    A line is the mean over seeds, a band reaches from the lowest to the highest seed, and points
    are networks, averaged over seeds. Stars are the anchors trained alone, with the same spread as
    a bar, and the dashed line joins them.

    Args:
        family: what to draw.
        path: of the picture; its suffix names the format, for example .png or .svg.
        methods: which curves, by default all.
    """
    from matplotlib.figure import Figure  # slow to load, and only pictures need it

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.margins(y=0.1)  # the names of stars stand above them
    methods = family.curves if methods is None else methods
    others = itertools.cycle(_OTHER_LOOKS)
    # A little room on the right shows how high each curve ends.
    costs = [s.macs for runs in family.runs.values() for r in runs.values() for s in r.stitches]
    edge = max(costs) + 0.04 * (max(costs) - min(costs))
    labels = []
    for method in methods:
        color, marker = _LOOKS.get(method) or next(others)
        reports = list(family.runs[method].values())
        gflops, heights = envelopes(reports, family.metric, edge)
        axes.step(gflops, heights.mean(0), where="post", color=color, linewidth=2, zorder=3)
        if len(reports) > 1:
            low, high = heights.min(0), heights.max(0)
            # Lowest and highest, as in the tables: too few seeds for a standard deviation.
            axes.fill_between(gflops, low, high, step="post", color=color, alpha=0.2, linewidth=0)
        x, y = _points(reports, family.metric)
        axes.scatter(x, y, s=16, marker=marker, color=color, alpha=0.6, linewidths=0, zorder=2)
        labels.append((float(heights[:, -1].mean()), title(method), color))
    _draw_alone(axes, family)
    axes.set_xlabel("GFLOPs (multiply-accumulates)", fontsize=11)
    axes.set_ylabel(metric_label(family.metric), fontsize=11)
    axes.tick_params(labelsize=10)
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    _label_ends(axes, edge / 1e9, labels)
    seeds = sorted({len(family.runs[method]) for method in methods})
    axes.set_title(f"{family.name}: best within the budget, {_count(seeds)}", fontsize=11)
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


def _draw_alone(axes: Any, family: Family) -> None:
    points = {m: point for m in ALONE if (point := family.alone(m)) is not None}
    x = [macs / 1e9 for macs, _ in points.values()]
    y = [spread.mean for _, spread in points.values()]
    axes.plot(x, y, color="0.45", linestyle="--", linewidth=1.3, zorder=2)
    axes.scatter(x, y, s=170, marker="*", color="white", edgecolors="black", zorder=5)
    for gflops, (method, (_, spread)) in zip(x, points.items(), strict=True):
        axes.plot([gflops] * 2, [min(spread.values), max(spread.values)], color="black", zorder=4)
        axes.annotate(
            f"{method} alone",
            (gflops, spread.mean),
            (0, 11),
            textcoords="offset points",
            ha="left" if method == "small" else "right",
            fontsize=10,
            zorder=6,
            # Lines run behind the text.
            bbox=dict(facecolor="white", edgecolor="none", alpha=0.75, pad=1),
        )


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
