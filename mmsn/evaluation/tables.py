"""A Pareto report as text: a table for the terminal, a table in Markdown, and its two numbers."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mmsn.evaluation.curve import (
    Budgets,
    common_budgets,
    frontier,
    hypervolume,
    mean_best_within_budget,
)
from mmsn.evaluation.metric_names import lower_is_better, shown
from mmsn.evaluation.report import ParetoReport


@dataclass(frozen=True)
class Reference:
    """What several runs are compared by: one metric, one range of budgets, one reference point.

    Numbers taken with different references cannot be compared.
    """

    metric: str
    budgets: Budgets | None  # None where the curves share no range, see `common_budgets`
    max_macs: int
    worst: float

    @classmethod
    def of(cls, reports: Sequence[ParetoReport], metric: str | None = None) -> Reference:
        """The range that all reports cover; the worst value is 0, or the highest where low is good.

        Args:
            reports: at least one.
            metric: by default the first report's own choice.
        """
        metric = metric or reports[0].default_metric()
        results = [r for report in reports for r in report.stitches]
        values = [v for r in results if math.isfinite(v := r.metrics[metric])]
        return cls(
            metric,
            common_budgets(reports, metric),
            max((r.macs for r in results), default=0),
            # A reference no better than any result, so that no area is negative.
            max(values, default=0.0) if lower_is_better(metric) else 0.0,
        )

    def numbers(self, report: ParetoReport) -> list[str]:
        """The curve's numbers, one line each, with their definitions."""
        lines = []
        if self.budgets is not None:
            mean = mean_best_within_budget(report.stitches, self.metric, self.budgets)
            low, high = (macs / 1e9 for macs in self.budgets)
            lines.append(
                f"mean best {self.metric} within the budget: {shown(mean)} (mean over all budgets "
                f"from {low:.4g} to {high:.4g} GFLOPs of the best {self.metric} that the budget "
                "allows)"
            )
        volume = hypervolume(report.stitches, self.metric, self.max_macs, self.worst)
        lines.append(
            f"hypervolume: {volume:.5g} GFLOPs x {self.metric} (area between the frontier and "
            f"{self.metric} {self.worst:.4g}, up to {self.max_macs / 1e9:.4g} GFLOPs)"
        )
        return lines


def markdown_table(report: ParetoReport, reference: Reference | None = None) -> str:
    """The Pareto frontier as a Markdown table, and the curve's numbers below it."""
    reference = reference or Reference.of([report])
    metric = reference.metric
    lines = [
        f"| stitch | kind | segments | GFLOPs | M params | {metric} |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {r.id} | {r.kind} | {r.segment_text()} | {r.macs / 1e9:.4g} "
        f"| {r.params / 1e6:.4g} | {shown(r.metrics[metric])} |"
        for r in frontier(report.stitches, metric)
    ]
    lines += ["", *(f"- {line}" for line in reference.numbers(report))]
    return "\n".join(lines) + "\n"


def text_table(report: ParetoReport, reference: Reference | None = None) -> str:
    """All stitches by cost, the Pareto frontier starred, and the curve's numbers below."""
    reference = reference or Reference.of([report])
    metric = reference.metric
    best = {result.id for result in frontier(report.stitches, metric)}
    title = f"{report.title}: FLOPs are multiply-accumulates at {report.image_size}"
    table = Table(title=escape(title))
    for name in ("stitch", "kind", "segments", "GFLOPs", "params (M)", metric, "frontier"):
        # Names from files may hold brackets, which rich would read as markup.
        table.add_column(escape(name), justify="left" if name in ("kind", "segments") else "right")
    for result in sorted(report.stitches, key=lambda r: (r.macs, r.id)):
        table.add_row(
            str(result.id),
            result.kind,
            result.segment_text(),
            f"{result.macs / 1e9:.4g}",
            f"{result.params / 1e6:.4g}",
            shown(result.metrics[metric]),
            "*" if result.id in best else "",
        )
    text = io.StringIO()
    Console(file=text, width=110).print(table)
    return text.getvalue() + "".join(f"{line}\n" for line in reference.numbers(report))


def class_table(classes: Sequence[str], ious: Mapping[int, Sequence[float]]) -> str:
    """IoU of each class in percent, one column for each stitch id."""
    table = Table()
    for name in ("class", *(f"stitch {stitch_id}" for stitch_id in ious)):
        table.add_column(name, justify="left" if name == "class" else "right")
    for name, *row in zip(classes, *ious.values(), strict=True):
        table.add_row(escape(name), *(f"{value:.2f}" for value in row))
    text = io.StringIO()
    Console(file=text, width=110).print(table)
    return text.getvalue().rstrip()
