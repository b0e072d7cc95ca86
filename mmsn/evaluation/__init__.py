"""Metrics that mmseg lacks; results of many stitches: the report, its frontier, its pictures."""

from mmsn.evaluation.depth_metric import DEPTH_METRICS, DepthMetric, depth_errors
from mmsn.evaluation.page import pareto_figure, write_page
from mmsn.evaluation.plot import plot_pareto
from mmsn.evaluation.report import (
    LOWER_IS_BETTER,
    ParetoReport,
    StitchResult,
    class_gains,
    frontier,
    hypervolume,
    lower_is_better,
    shown,
)

__all__ = [
    "DEPTH_METRICS",
    "LOWER_IS_BETTER",
    "DepthMetric",
    "ParetoReport",
    "StitchResult",
    "class_gains",
    "depth_errors",
    "frontier",
    "hypervolume",
    "lower_is_better",
    "pareto_figure",
    "plot_pareto",
    "shown",
    "write_page",
]
