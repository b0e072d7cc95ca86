"""Metrics that mmseg lacks; results of many stitches: the report, its frontier, its pictures."""

from mmsn.evaluation.curve import (
    class_gains,
    frontier,
    hypervolume,
    line_between,
    mean_best_within_budget,
)
from mmsn.evaluation.depth_metric import DEPTH_METRICS, DepthMetric, depth_errors
from mmsn.evaluation.interactive import pareto_figure
from mmsn.evaluation.metric_names import LOWER_IS_BETTER, lower_is_better, shown
from mmsn.evaluation.page import write_page
from mmsn.evaluation.plot import plot_pareto
from mmsn.evaluation.report import ParetoReport, StitchResult, Training
from mmsn.evaluation.tables import Reference, markdown_table, text_table

__all__ = [
    "DEPTH_METRICS",
    "LOWER_IS_BETTER",
    "DepthMetric",
    "ParetoReport",
    "Reference",
    "StitchResult",
    "Training",
    "class_gains",
    "depth_errors",
    "frontier",
    "hypervolume",
    "line_between",
    "lower_is_better",
    "markdown_table",
    "mean_best_within_budget",
    "pareto_figure",
    "plot_pareto",
    "shown",
    "text_table",
    "write_page",
]
