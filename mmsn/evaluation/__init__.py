"""Results of many stitches: the report, its frontier, its picture."""

from mmsn.evaluation.plot import plot_pareto
from mmsn.evaluation.report import ParetoReport, StitchResult, frontier

__all__ = ["ParetoReport", "StitchResult", "frontier", "plot_pareto"]
