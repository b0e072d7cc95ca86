"""From supernet to product: choosing a stitch at run time."""

from mmsn.deploy.budget import Budget, BudgetError, parse_budget
from mmsn.deploy.controller import LatencyController
from mmsn.deploy.latency_table import LatencyTable
from mmsn.deploy.menu import Selection, StitchMenu, select, use_budget

__all__ = [
    "Budget",
    "BudgetError",
    "LatencyController",
    "LatencyTable",
    "Selection",
    "StitchMenu",
    "parse_budget",
    "select",
    "use_budget",
]
