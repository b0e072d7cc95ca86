"""Pictures of Pareto reports as files, and what all pictures of reports share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from mmsn.evaluation.curve import frontier
from mmsn.evaluation.metric_names import metric_label, shown
from mmsn.evaluation.report import Axis, ParetoReport, StitchResult
from mmsn.files import whole_file

KIND_STYLES = {  # colors of the Okabe-Ito palette, which color-blind readers can tell apart
    "anchor": ("s", "#000000", "anchor"),
    "sl": ("^", "#0072B2", "small > large"),
    "ls": ("v", "#D55E00", "large > small"),
    "lsl": ("o", "#CC79A7", "large > small > large"),
    "sls": ("D", "#009E73", "small > large > small"),
    "elastic": ("P", "#56B4E9", "blocks skipped"),
}
_RUN_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def run_colors(count: int) -> list[str]:
    """One color per run."""
    return [_RUN_COLORS[i % len(_RUN_COLORS)] for i in range(count)]


def axis_label(reports: Sequence[ParetoReport], axis: Axis) -> str:
    """What the cost axis shows, with its unit and conditions."""
    if axis == "macs":
        sizes = {f"{h}x{w}" for h, w in (report.image_size for report in reports)}
        return f"GFLOPs (multiply-accumulates at {', '.join(sorted(sizes))})"
    settings = {s for report in reports if (s := report.latency_setting)}
    texts = sorted(f"{s.device}, {s.dtype}, batch {s.batch_size}" for s in settings)
    return f"milliseconds per batch ({'; '.join(texts)})"


def drawable(report: ParetoReport, metric: str, axis: Axis) -> list[StitchResult]:
    """The stitches that can be drawn: they have a cost on this axis, and a finite metric."""
    costly = [r for r in report.stitches if r.cost(axis) is not None]
    return [r for r in costly if math.isfinite(r.metrics[metric])]


def point_text(result: StitchResult) -> list[str]:
    """The tooltip of a stitch, line by line."""
    lines = [f"stitch {result.id} ({result.kind})", result.segment_text()]
    lines.append(f"{result.macs / 1e9:.4g} GFLOPs, {result.params / 1e6:.4g} M parameters")
    lines += [f"{name} {shown(value)}" for name, value in result.metrics.items()]
    if result.latency:
        lines.append(f"{result.latency.p50_ms:.3g} ms (p90 {result.latency.p90_ms:.3g})")
    return lines


def star_text(name: str, point: tuple[float, float]) -> list[str]:
    """The same for a network trained alone, at (GFLOPs, metric)."""
    return [name, f"{point[0]:.4g} GFLOPs, {shown(point[1])}"]


def plot_pareto(
    reports: ParetoReport | Sequence[ParetoReport],
    path: str | Path,
    metric: str | None = None,
    alone: Mapping[str, tuple[float, float]] | None = None,
    levels: Sequence[tuple[str, float]] = (),
    axis: Axis = "macs",
) -> None:
    """Draw metric against cost: all stitches by kind, and the frontier as a line with their ids.

    Args:
        reports: the results of one run, or of several, which are overlaid by color.
        path: of the picture; its ending names the format, for example .png or .svg.
        metric: name of the metric, by default the first report's own choice.
        alone: individually trained networks as stars, by name: (GFLOPs, metric).
        levels: horizontal lines to compare with, as (name, metric).
        axis: "macs", or "latency" where it was measured.
    """
    from matplotlib.figure import Figure  # slow to load, and only pictures need it

    reports = [reports] if isinstance(reports, ParetoReport) else list(reports)
    metric = metric or reports[0].default_metric()
    figure = Figure(figsize=(8.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for report, color in zip(reports, run_colors(len(reports)), strict=True):
        _draw_run(axes, report, metric, axis, color if len(reports) > 1 else None)
    if alone and axis == "macs":
        axes.scatter(
            [gflops for gflops, _ in alone.values()],
            [value for _, value in alone.values()],
            s=130,
            marker="*",
            color="#E69F00",
            edgecolors="black",
            linewidths=0.6,
            # Their names as well: for how long they were trained decides what they say.
            label="\n".join(["trained alone:", *(_plain(fill(name, 40)) for name in alone)]),
            zorder=4,
        )
    low, high = axes.get_ylim()  # before the lines, which may lie far from all points
    for name, value in levels:
        # A level far away would squeeze the curve; its value is in the legend anyway.
        inside = low <= value <= high
        axes.axhline(
            value,
            color="0.5",
            linestyle=":" if inside else "",
            linewidth=1,
            label=f"{name}: {shown(value)}" + ("" if inside else " (out of view)"),
        )
    axes.set_ylim(low, high)
    axes.set_xlabel(axis_label(reports, axis))
    axes.set_ylabel(metric_label(metric))
    axes.set_title(_plain(reports[0].title) if len(reports) == 1 else "", fontsize=10)
    if len(reports) > 1:
        kinds = {r.kind for report in reports for r in report.stitches}
        for kind, (marker, _, label) in KIND_STYLES.items():
            if kind in kinds:
                # Empty, for the legend alone.
                axes.scatter([], [], s=28, marker=marker, color="0.4", label=label)
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(fontsize=8, frameon=False, loc="outside right upper")
    with whole_file(path) as part:
        figure.savefig(part, dpi=150)


def _plain(text: str) -> str:
    """Text escaped so that matplotlib does not read it as a formula."""
    return text.replace("$", r"\$")


def _draw_run(
    axes: Any, report: ParetoReport, metric: str, axis: Axis, run_color: str | None
) -> None:
    """One report; with ``run_color`` kinds differ by marker alone, and colors distinguish runs."""
    best = frontier(report.stitches, metric, axis)
    axes.plot(
        [r.cost(axis) for r in best],
        [r.metrics[metric] for r in best],
        # A budget between two stitches buys the cheaper one.
        drawstyle="steps-post",
        color=run_color or "0.5",
        linewidth=1.2,
        zorder=1,
        label=_plain(report.title) if run_color else "Pareto frontier",
    )
    for kind, (marker, color, label) in KIND_STYLES.items():
        results = [r for r in drawable(report, metric, axis) if r.kind == kind]
        style = dict(
            s=60 if kind == "anchor" else 28,
            marker=marker,
            color=run_color or color,
            linewidths=0.5,
        )
        for group, look in (
            ([r for r in results if r not in best], dict(alpha=0.35, zorder=2)),
            ([r for r in results if r in best], dict(edgecolors="black", zorder=3)),
        ):
            axes.scatter(
                [r.cost(axis) for r in group], [r.metrics[metric] for r in group], **style | look
            )
        # Empty, for one entry of the legend instead of one per group.
        if results and not run_color:
            axes.scatter([], [], **style, label=label)
    if not run_color:
        costs = [r.cost(axis) or 0.0 for r in report.stitches]
        too_near = 0.02 * (max(costs) - min(costs))
        for r, after in zip(best, [*best[1:], None], strict=True):
            cost = r.cost(axis) or 0.0
            if after and (after.cost(axis) or 0.0) - cost < too_near:
                continue  # its label would cover that of the better one
            at, style = (cost, r.metrics[metric]), dict(fontsize=7, ha="right")
            axes.annotate(str(r.id), at, (-3, 6), textcoords="offset points", **style)
