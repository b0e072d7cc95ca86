"""Pictures of a Pareto report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from mmsn.evaluation.report import ParetoReport, frontier

KIND_STYLES = {  # colours of the Okabe-Ito palette, which colour-blind readers can tell apart
    "anchor": ("s", "#000000", "anchor"),
    "sl": ("^", "#0072B2", "small > large"),
    "ls": ("v", "#D55E00", "large > small"),
    "lsl": ("o", "#CC79A7", "large > small > large"),
    "sls": ("D", "#009E73", "small > large > small"),
}


def plot_pareto(
    report: ParetoReport,
    path: str | Path,
    metric: str | None = None,
    alone: Mapping[str, tuple[float, float]] | None = None,
    levels: Sequence[tuple[str, float]] = (),
) -> None:
    """Draw metric against GFLOPs: all stitches by kind, and the frontier as a line.

    Args:
        report: the results.
        path: of the picture; its ending names the format, for example .png or .svg.
        metric: name of the metric, by default the report's own choice.
        alone: individually trained networks as stars, by name: (GFLOPs, metric).
        levels: horizontal lines to compare with, as (name, metric).
    """
    metric = metric or report.default_metric()
    figure = Figure(figsize=(8.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    best = frontier(report.stitches, metric)
    axes.plot(
        [r.macs / 1e9 for r in best],
        [r.metrics[metric] for r in best],
        color="0.5",
        linewidth=1.2,
        zorder=1,
        label="Pareto frontier",
    )
    for kind, (marker, color, label) in KIND_STYLES.items():
        results = [r for r in report.stitches if r.kind == kind]
        if results:
            axes.scatter(
                [r.macs / 1e9 for r in results],
                [r.metrics[metric] for r in results],
                s=60 if kind == "anchor" else 28,
                marker=marker,
                color=color,
                edgecolors="white",
                linewidths=0.5,
                label=label,
                zorder=3 if kind == "anchor" else 2,
            )
    if alone:
        axes.scatter(
            [gflops for gflops, _ in alone.values()],
            [value for _, value in alone.values()],
            s=130,
            marker="*",
            color="#E69F00",
            edgecolors="black",
            linewidths=0.6,
            label="trained alone",
            zorder=4,
        )
    low, high = axes.get_ylim()  # before the lines, which may lie far from all points
    for name, value in levels:
        inside = low <= value <= high
        axes.axhline(
            value,
            color="0.5",
            linestyle=":" if inside else "",
            linewidth=1,
            label=f"{name}: {value:.1f}" + ("" if inside else " (out of view)"),
        )
    axes.set_ylim(low, high)
    axes.set_xlabel(
        f"GFLOPs (multiply-accumulates at {report.image_size[0]}x{report.image_size[1]})"
    )
    axes.set_ylabel(metric)
    axes.set_title(report.title, fontsize=10)
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(fontsize=8, frameon=False, loc="outside right upper")
    figure.savefig(path, dpi=150)
