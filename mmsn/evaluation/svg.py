"""The picture of a report as an SVG element of a page: some 50 kB, and no library.

Every point has a ``<title>``, which browsers show as a tooltip, and carries the line of Python that
selects its stitch as ``data-line``. Zooming and panning are left to ``interactive``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from mmsn.evaluation.curve import frontier
from mmsn.evaluation.metric_names import metric_label
from mmsn.evaluation.plot import (
    KIND_STYLES,
    axis_label,
    drawable,
    point_text,
    run_colors,
    star_text,
)
from mmsn.evaluation.report import Axis, ParetoReport

WIDTH, HEIGHT = 900, 540  # of the drawing; the page scales it
LEFT, RIGHT, TOP, BOTTOM = 70, 880, 16, 480  # of the axes
# Outlines around (0, 0) by kind, of about equal area.
_SHAPES = {
    "anchor": "M-6,-6H6V6H-6Z",
    "sl": "M0,-6L6,5H-6Z",
    "ls": "M0,6L6,-5H-6Z",
    "lsl": "M-5,0A5,5 0 1 0 5,0A5,5 0 1 0 -5,0Z",
    "sls": "M0,-6L6,0L0,6L-6,0Z",
    "elastic": "M-2,-6H2V-2H6V2H2V6H-2V2H-6V-2H-2Z",
}
_STAR = "M0,-9L2.6,-3.2L9,-2.8L4.2,1.6L5.6,8L0,4.6L-5.6,8L-4.2,1.6L-9,-2.8L-2.6,-3.2Z"


@dataclass(frozen=True)
class Scale:
    """Maps values linearly from [low, high] to pixels from ``start`` to ``stop``."""

    low: float
    high: float
    start: float
    stop: float

    @classmethod
    def around(cls, values: Sequence[float], start: float, stop: float) -> Scale:
        """With a margin of 5 %, so that no marker is cut off; also around one value or none."""
        low, high = min(values, default=0.0), max(values, default=1.0)
        # A single value has no range: its own size sets the margin then.
        margin = 0.05 * (high - low) or 0.05 * abs(low) or 1.0
        return cls(low - margin, high + margin, start, stop)

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        # A tenth of a pixel is not visible, and more digits make the page larger.
        return round(self.start + share * (self.stop - self.start), 1)

    def ticks(self, most: int = 9) -> list[float]:
        """Round values inside, steps of 1, 2 or 5 times a power of ten."""
        rough = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(k * power for k in (1, 2, 5, 10) if k * power >= rough)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [k * step for k in range(first, last + 1)]


def pareto_svg(
    reports: Sequence[ParetoReport],
    metric: str,
    axis: Axis = "macs",
    alone: Mapping[str, tuple[float, float]] | None = None,
) -> str:
    """Draw all stitches by kind, and the frontier in steps; arguments as for ``write_page``."""
    alone = alone if alone and axis == "macs" else {}
    drawn = [drawable(report, metric, axis) for report in reports]
    points = [(r.cost(axis) or 0.0, r.metrics[metric]) for results in drawn for r in results]
    points += alone.values()
    x = Scale.around([cost for cost, _ in points], LEFT, RIGHT)
    y = Scale.around([value for _, value in points], BOTTOM, TOP)
    several = len(reports) > 1  # then colors distinguish runs, and shapes kinds
    parts = [_axes(x, y, axis_label(reports, axis), metric_label(metric))]
    for results, color in zip(drawn, run_colors(len(reports)), strict=True):
        best = frontier(results, metric, axis)
        # A budget between two stitches buys the cheaper one, so the line runs right, then up.
        corners = [(x(r.cost(axis) or 0.0), y(r.metrics[metric])) for r in best]
        steps = [
            f"{'M' if k == 0 else 'H'}{px}{',' if k == 0 else 'V'}{py}"
            for k, (px, py) in enumerate(corners)
        ]
        line_color = color if several else "#888888"
        parts.append(f"<path class='frontier' d='{''.join(steps)}' stroke='{line_color}'/>")
        on_frontier = {r.id for r in best}
        # Frontier points are drawn last, so that no other point hides them.
        for r in sorted(results, key=lambda r: r.id in on_frontier):
            fill = color if several else KIND_STYLES[r.kind][1]
            look = "point best" if r.id in on_frontier else "point"
            at = (x(r.cost(axis) or 0.0), y(r.metrics[metric]))
            line = f"model.backbone.set_stitch({r.id})"
            parts.append(_marker(_SHAPES[r.kind], at, fill, look, point_text(r), line))
    for name, (gflops, value) in alone.items():
        at, text = (x(gflops), y(value)), star_text(name, (gflops, value))
        parts.append(_marker(_STAR, at, "#E69F00", "point best", text))
    name = f"{metric} against {'FLOPs' if axis == 'macs' else 'latency'}"
    return (
        f"<svg id='picture' viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='{escape(name)}'>"
        f"{''.join(parts)}</svg>{_legend(reports, bool(alone))}"
    )


def _axes(x: Scale, y: Scale, x_label: str, y_label: str) -> str:
    parts = []
    for value in x.ticks():
        parts.append(f"<path class='grid' d='M{x(value)},{BOTTOM}V{TOP}'/>")
        parts.append(f"<text x='{x(value)}' y='{BOTTOM + 18}' class='middle'>{value:.6g}</text>")
    for value in y.ticks():
        parts.append(f"<path class='grid' d='M{LEFT},{y(value)}H{RIGHT}'/>")
        parts.append(f"<text x='{LEFT - 8}' y='{y(value) + 5}' class='end'>{value:.6g}</text>")
    parts.append(f"<path class='axis' d='M{LEFT},{TOP}V{BOTTOM}H{RIGHT}'/>")
    middle = (TOP + BOTTOM) / 2
    parts.append(
        f"<text x='{(LEFT + RIGHT) / 2}' y='{HEIGHT - 16}' class='middle'>{escape(x_label)}</text>"
        f"<text transform='translate(16,{middle}) rotate(-90)' class='middle'>{escape(y_label)}"
        "</text>"
    )
    return "".join(parts)


def _marker(
    shape: str,
    at: tuple[float, float],
    fill: str,
    look: str,
    text: Sequence[str],
    line: str | None = None,
) -> str:
    data = f" data-line='{escape(line)}' tabindex='0'" if line else ""
    title = escape("\n".join(text))
    return (
        f"<path class='{look}' d='{shape}' transform='translate({at[0]},{at[1]})' fill='{fill}'"
        f"{data}><title>{title}</title></path>"
    )


def _legend(reports: Sequence[ParetoReport], stars: bool) -> str:
    """Names of kinds by shape, and of runs by color where there are several."""
    several = len(reports) > 1
    kinds = {r.kind for report in reports for r in report.stitches}
    entries = [
        (_SHAPES[kind], "#666666" if several else color, label)
        for kind, (_, color, label) in KIND_STYLES.items()
        if kind in kinds
    ]
    line = "M-9,0H9V1.6H-9Z"
    if several:
        colors = run_colors(len(reports))
        entries += [(line, c, r.title) for r, c in zip(reports, colors, strict=True)]
    else:
        entries.append((line, "#888888", "Pareto frontier"))
    if stars:
        entries.append((_STAR, "#E69F00", "trained alone"))
    items = [
        f"<span><svg viewBox='-10 -10 20 20'><path d='{shape}' fill='{color}'/></svg>"
        f"{escape(label)}</span>"
        for shape, color, label in entries
    ]
    return f"<p class='legend'>{''.join(items)}</p>"
