"""Results of many stitches: the report, its frontier, its pictures."""

from mmsn.evaluation.page import pareto_figure, write_page
from mmsn.evaluation.plot import plot_pareto
from mmsn.evaluation.report import (
    LOWER_IS_BETTER,
    ParetoReport,
    StitchResult,
    class_gains,
    frontier,
    hypervolume,
)

__all__ = [
    "LOWER_IS_BETTER",
    "ParetoReport",
    "StitchResult",
    "class_gains",
    "frontier",
    "hypervolume",
    "pareto_figure",
    "plot_pareto",
    "write_page",
]
