"""A Pareto report as one HTML page that needs no network.

Pointing at a stitch shows its segments, cost and metrics. Clicking it copies the line of Python
that selects it, and shows it below the picture. A click on a column's head sorts a table. The page
holds its own picture (``svg``) and some 40 lines of script; plotly is optional.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from mmsn.evaluation.curve import class_frontier, class_gains, frontier
from mmsn.evaluation.metric_names import shown
from mmsn.evaluation.report import Axis, ParetoReport, StitchResult
from mmsn.evaluation.svg import pareto_svg
from mmsn.evaluation.tables import Reference
from mmsn.files import write_text

_SCRIPT = """
const picture = document.getElementById('picture');
const info = document.getElementById('info');
function copy(text) {
  document.getElementById('chosen').textContent = text;
  // navigator.clipboard is missing on pages that are opened from a file in some browsers.
  const area = document.createElement('textarea');
  area.value = text;
  document.body.appendChild(area);
  area.select();
  const copied = document.execCommand('copy');
  area.remove();
  document.getElementById('hint').textContent = copied ? 'copied:' : 'select and copy:';
}
function show(event) {
  const point = event.target.closest('.point');
  if (point) info.textContent = point.querySelector('title').textContent.replaceAll('\\n', ' | ');
}
function choose(event) {
  const point = event.target.closest('[data-line]');
  if (point) copy(point.dataset.line);
}
if (picture) {
  picture.addEventListener('pointerover', show);
  picture.addEventListener('focusin', show);
  picture.addEventListener('click', choose);
  picture.addEventListener('keydown', event => { if (event.key === 'Enter') choose(event); });
}
for (const table of document.querySelectorAll('table')) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    head.addEventListener('click', () => {
      const text = head.classList.contains('text'), down = head.dataset.order !== 'down';
      for (const other of table.tHead.rows[0].cells) delete other.dataset.order;
      head.dataset.order = down ? 'down' : 'up';
      const value = row => {
        const cell = row.cells[column].textContent;
        // Empty cells and nan come last in either order.
        return text ? cell : isNaN(parseFloat(cell)) ? null : parseFloat(cell);
      };
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === null || y === null) return (x === null) - (y === null);
        return (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1);
      });
      table.tBodies[0].append(...rows);
    });
  });
}
"""
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; padding: 0 1rem;
  max-width: 60rem; color: #222; }
code { background: #f3f3f3; padding: .15rem .4rem; border-radius: .2rem; }
table { border-collapse: collapse; font-size: 13px; margin: 1rem 0; }
th, td { padding: .15rem .7rem; text-align: right; border-bottom: 1px solid #e5e5e5; }
th { cursor: pointer; }
th[data-order=up]::after { content: ' \\2191'; }
th[data-order=down]::after { content: ' \\2193'; }
td.text, th.text { text-align: left; }
#picture { width: 100%; font-size: 13px; }
#picture text { fill: #222; }
#info { min-height: 1.5em; margin: 0; font-size: 13px; }
.middle { text-anchor: middle; }
.end { text-anchor: end; }
.grid { stroke: #ececec; fill: none; }
.axis { stroke: #222; fill: none; }
.frontier { stroke-width: 1.6; fill: none; }
.point { opacity: .45; }
.point.best { opacity: 1; stroke: #000; stroke-width: .8; }
.point[data-line] { cursor: pointer; }
.point:hover, .point:focus { opacity: 1; stroke: #000; stroke-width: 2; outline: none; }
.legend span { margin-right: 1.2rem; white-space: nowrap; font-size: 13px; }
.legend svg { width: 15px; height: 15px; vertical-align: -2px; margin-right: .3rem; }
"""


def write_page(
    reports: Sequence[ParetoReport],
    path: str | Path,
    metric: str | None = None,
    axis: Axis = "macs",
    alone: Mapping[str, tuple[float, float]] | None = None,
    interactive: bool = False,
) -> None:
    """Write the page, whole or not at all.

    Args:
        reports: one or several runs, overlaid.
        path: of the .html file.
        metric: by default the first report's own choice.
        axis: "macs" or "latency".
        alone: individually trained networks as stars, by name: (GFLOPs, metric).
        interactive: a picture that zooms and pans, by plotly, which adds 4.8 MB.
    """
    reference = Reference.of(reports, metric)
    if interactive:
        from mmsn.evaluation.interactive import pareto_figure, plotly_html

        picture = plotly_html(pareto_figure(reports, reference.metric, axis, alone))
    else:
        picture = pareto_svg(reports, reference.metric, axis, alone)
    title = escape(" | ".join(report.title for report in reports))
    body = [
        f"<h1>{title}</h1>",
        picture,
        "<p id='info'></p>" if not interactive else "",
        "<p><span id='hint'>click a point to copy the line that selects it:</span> "
        "<code id='chosen'>model.backbone.set_stitch(...)</code></p>",
        *(_tables(report, reference) for report in reports),
        f"<script>{_SCRIPT}</script>",
    ]
    write_text(
        path,
        "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width'>"
        f"<title>{title}</title><style>{_STYLE}</style></head><body>{''.join(body)}</body></html>",
    )


def _tables(report: ParetoReport, reference: Reference) -> str:
    metric = reference.metric
    best = frontier(report.stitches, metric)
    every = sorted(report.stitches, key=lambda r: (r.macs, r.id))
    rows = [
        f"<h2>{escape(report.title)}</h2><p>{report.images} of {report.of_images} images; "
        f"FLOPs are multiply-accumulates at {report.image_size[0]}x{report.image_size[1]}.</p>",
        _results(best, metric),
        *(f"<p>{escape(line)}</p>" for line in reference.numbers(report)),
        f"<details><summary>all {len(every)} stitches</summary>{_results(every, metric)}</details>",
    ]
    gains = class_gains(report)
    if gains:
        heads = [
            ("class", True),
            *((f"{r.macs / 1e9:.4g} G", False) for r in class_frontier(report)),
        ]
        rows.append("<h3>IoU of each class along the frontier, largest gain first</h3>")
        rows.append(_table(heads, [[n, *(f"{v:.1f}" for v in values)] for n, values in gains]))
    return "".join(rows)


def _results(results: Sequence[StitchResult], metric: str) -> str:
    names = [metric, *(n for n in (results[0].metrics if results else ()) if n != metric)]
    timed = any(r.latency for r in results)
    heads = [("stitch", False), ("kind", True), ("segments", True), ("GFLOPs", False)]
    heads += [("M params", False), *((name, False) for name in names)]
    heads += [("p50 (ms)", False), ("p90 (ms)", False)] if timed else []
    rows = []
    for r in results:
        row = [str(r.id), r.kind, r.segment_text(), f"{r.macs / 1e9:.4g}", f"{r.params / 1e6:.4g}"]
        row += [shown(r.metrics[name]) for name in names]
        if timed:
            row += [f"{r.latency.p50_ms:.4g}", f"{r.latency.p90_ms:.4g}"] if r.latency else ["", ""]
        rows.append(row)
    return _table(heads, rows)


def _table(heads: Sequence[tuple[str, bool]], rows: Sequence[Sequence[str]]) -> str:
    """A table; heads are (name, whether the column is text)."""
    kinds = [" class='text'" if text else "" for _, text in heads]
    head = "".join(f"<th{k}>{escape(name)}</th>" for (name, _), k in zip(heads, kinds, strict=True))
    body = [
        "".join(f"<td{k}>{escape(cell)}</td>" for cell, k in zip(row, kinds, strict=True))
        for row in rows
    ]
    lines = "".join(f"<tr>{cells}</tr>" for cells in body)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"
