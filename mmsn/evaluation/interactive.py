"""The picture of a report drawn by plotly, which zooms and pans; it makes a page of 4.8 MB.

The page that needs no library, and the tables, are in ``page``.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

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
from mmsn.evaluation.report import Axis, ParetoReport, StitchResult

if TYPE_CHECKING:
    import plotly.graph_objects as go

_SYMBOLS = {
    "anchor": "square",
    "sl": "triangle-up",
    "ls": "triangle-down",
    "lsl": "circle",
    "sls": "diamond",
    "elastic": "cross",
}
# `copy` is the function of the page around the picture.
_CLICK = """
document.getElementById('{plot_id}').on('plotly_click', event => {
  const text = event.points[0].customdata;
  if (text) copy(text);
});
"""
# Nothing in the page may send the data anywhere.
_CONFIG = dict(
    displaylogo=False,
    responsive=True,
    plotlyServerURL="",
    showSendToCloud=False,
)


def pareto_figure(
    reports: Sequence[ParetoReport],
    metric: str | None = None,
    axis: Axis = "macs",
    alone: Mapping[str, tuple[float, float]] | None = None,
) -> go.Figure:
    """The picture; arguments as for ``page.write_page``."""
    import plotly.graph_objects as go  # slow to load, and only this picture needs it

    metric = metric or reports[0].default_metric()
    figure = go.Figure()
    for report, color in zip(reports, run_colors(len(reports)), strict=True):
        _add_run(figure, report, metric, axis, color, name_runs=len(reports) > 1)
    if alone and axis == "macs":
        figure.add_scatter(
            x=[gflops for gflops, _ in alone.values()],
            y=[value for _, value in alone.values()],
            mode="markers",
            marker=dict(symbol="star", size=15, color="#E69F00", line=dict(width=1, color="black")),
            name="trained alone",
            text=["<br>".join(map(html.escape, star_text(*item))) for item in alone.items()],
            hovertemplate="%{text}<extra></extra>",
        )
    figure.update_layout(
        template="simple_white",
        height=560,
        margin=dict(l=60, r=20, t=30, b=60),
        xaxis_title=axis_label(reports, axis),
        yaxis_title=metric_label(metric),
        hoverlabel=dict(align="left"),
        legend=dict(orientation="h", yanchor="bottom", y=1.02, groupclick="toggleitem"),
    )
    return figure


def plotly_html(figure: go.Figure) -> str:
    """The figure and all of plotly as a part of a page that sends nothing anywhere."""
    return figure.to_html(
        full_html=False, include_plotlyjs=True, post_script=_CLICK, config=_CONFIG
    )


def _add_run(
    figure: go.Figure,
    report: ParetoReport,
    metric: str,
    axis: Axis,
    color: str,
    name_runs: bool,
) -> None:
    title = html.escape(report.title)
    group = dict(legendgroup=title, legendgrouptitle_text=title) if name_runs else {}
    results = drawable(report, metric, axis)
    best = frontier(results, metric, axis)
    figure.add_scatter(
        x=[r.cost(axis) for r in best],
        y=[r.metrics[metric] for r in best],
        mode="lines",
        # A budget between two stitches buys the cheaper one.
        line=dict(color=color if name_runs else "gray", width=1.5, shape="hv"),
        name="Pareto frontier",
        hoverinfo="skip",
        **group,
    )
    on_frontier = {r.id for r in best}
    for kind, (_, kind_color, label) in KIND_STYLES.items():
        points = [r for r in results if r.kind == kind]
        if not points:
            continue
        figure.add_scatter(
            x=[r.cost(axis) for r in points],
            y=[r.metrics[metric] for r in points],
            mode="markers",
            marker=dict(
                symbol=_SYMBOLS[kind],
                size=12 if kind == "anchor" else 8,
                color=color if name_runs else kind_color,
                # As in the picture without plotly: networks off the frontier are paler.
                opacity=[1.0 if r.id in on_frontier else 0.45 for r in points],
                line=dict(width=[1.0 if r.id in on_frontier else 0.0 for r in points]),
            ),
            name=label,
            **group,
            text=[_hover(r) for r in points],
            hovertemplate="%{text}<extra></extra>",
            customdata=[f"model.backbone.set_stitch({r.id})" for r in points],
        )


def _hover(result: StitchResult) -> str:
    first, *rest = (html.escape(line) for line in point_text(result))
    return "<br>".join([f"<b>{first}</b>", *rest])
