"""A Pareto report as one HTML page that needs no network.

Hovering a point shows its id, segments, cost and metrics. Clicking it copies the line of Python
that selects the stitch, and shows it below the picture.
"""

from __future__ import annotations

import html
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import plotly.graph_objects as go

from mmsn.evaluation.curve import class_frontier, class_gains, frontier
from mmsn.evaluation.metric_names import metric_label, shown
from mmsn.evaluation.plot import KIND_STYLES, axis_label, run_colors
from mmsn.evaluation.report import Axis, ParetoReport, StitchResult
from mmsn.evaluation.tables import Reference

_SYMBOLS = {
    "anchor": "square",
    "sl": "triangle-up",
    "ls": "triangle-down",
    "lsl": "circle",
    "sls": "diamond",
    "elastic": "cross",
}
_CLICK = """
const plot = document.getElementById('{plot_id}');
plot.on('plotly_click', function (event) {
  const text = event.points[0].customdata;
  if (!text) return;
  document.getElementById('chosen').textContent = text;
  const area = document.createElement('textarea');
  area.value = text;
  document.body.appendChild(area);
  area.select();
  const copied = document.execCommand('copy');
  area.remove();
  document.getElementById('hint').textContent = copied ? 'copied:' : 'select and copy:';
});
"""
# Nothing in the page may send the data anywhere.
_CONFIG = dict(
    displaylogo=False,
    responsive=True,
    plotlyServerURL="",
    showSendToCloud=False,
)
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; color: #222; }
code { background: #f3f3f3; padding: .15rem .4rem; border-radius: .2rem; }
table { border-collapse: collapse; font-size: 13px; margin: 1rem 0; }
th, td { padding: .15rem .7rem; text-align: right; border-bottom: 1px solid #e5e5e5; }
td.text, th.text { text-align: left; }
"""


def pareto_figure(
    reports: Sequence[ParetoReport],
    metric: str | None = None,
    axis: Axis = "macs",
    alone: Mapping[str, tuple[float, float]] | None = None,
) -> go.Figure:
    """The page's picture; arguments as for ``write_page``."""
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
            text=[
                f"{html.escape(name)}<br>{gflops:.4g} GFLOPs, {shown(value)}"
                for name, (gflops, value) in alone.items()
            ],
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


def write_page(
    reports: Sequence[ParetoReport],
    path: str | Path,
    metric: str | None = None,
    axis: Axis = "macs",
    alone: Mapping[str, tuple[float, float]] | None = None,
) -> None:
    """Write the page, whole or not at all.

    Args:
        reports: one or several runs, overlaid.
        path: of the .html file.
        metric: by default the first report's own choice.
        axis: "macs" or "latency".
        alone: individually trained networks as stars, by name: (GFLOPs, metric).
    """
    figure = pareto_figure(reports, metric, axis, alone)
    metric = metric or reports[0].default_metric()
    plot = figure.to_html(
        full_html=False, include_plotlyjs=True, post_script=_CLICK, config=_CONFIG
    )
    reference = Reference.of(reports, metric)
    title = html.escape(" | ".join(report.title for report in reports))
    body = [
        f"<h1>{title}</h1>",
        plot,
        "<p><span id='hint'>click a point to copy the line that selects it:</span> "
        "<code id='chosen'>model.backbone.set_stitch(...)</code></p>",
        *(_tables(report, reference) for report in reports),
    ]
    text = (
        "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'>"
        f"<title>{title}</title><style>{_STYLE}</style></head><body>{''.join(body)}</body></html>"
    )
    part = Path(f"{path}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


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
    results = [r for r in report.stitches if r.cost(axis) is not None]
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
    lines = [f"<b>stitch {result.id}</b> ({result.kind})", html.escape(result.segment_text())]
    lines.append(f"{result.macs / 1e9:.4g} GFLOPs, {result.params / 1e6:.4g} M parameters")
    lines += [f"{name} {shown(value)}" for name, value in result.metrics.items()]
    if result.latency:
        lines.append(f"{result.latency.p50_ms:.3g} ms (p90 {result.latency.p90_ms:.3g})")
    return "<br>".join(lines)


def _tables(report: ParetoReport, reference: Reference) -> str:
    metric = reference.metric
    rows = [
        f"<h2>{html.escape(report.title)}</h2><p>{report.images} of {report.of_images} images; "
        f"FLOPs at {report.image_size[0]}x{report.image_size[1]}.</p>",
        "<table><tr><th>stitch</th><th class='text'>segments</th><th>GFLOPs</th>"
        f"<th>M params</th><th>{html.escape(metric)}</th></tr>",
    ]
    for r in frontier(report.stitches, metric):
        rows.append(
            f"<tr><td>{r.id}</td><td class='text'>{html.escape(r.segment_text())}</td>"
            f"<td>{r.macs / 1e9:.4g}</td><td>{r.params / 1e6:.4g}</td>"
            f"<td>{shown(r.metrics[metric])}</td></tr>"
        )
    rows.append("</table>")
    rows += [f"<p>{html.escape(line)}</p>" for line in reference.numbers(report)]
    gains = class_gains(report)
    if gains:
        heads = "".join(f"<th>{r.macs / 1e9:.4g} G</th>" for r in class_frontier(report))
        rows.append(
            "<h3>IoU of each class along the frontier, what gains most first</h3>"
            f"<table><tr><th class='text'>class</th>{heads}</tr>"
        )
        for name, values in gains:
            cells = "".join(f"<td>{value:.1f}</td>" for value in values)
            rows.append(f"<tr><td class='text'>{html.escape(name)}</td>{cells}</tr>")
        rows.append("</table>")
    return "".join(rows)
