"""From supernet to product: choosing a stitch at run time, or extracting one as a small model."""

from mmsn.deploy.budget import Budget, BudgetError, parse_budget
from mmsn.deploy.calibration import calibration_windows
from mmsn.deploy.comparison import Comparison, compare
from mmsn.deploy.controller import LatencyController
from mmsn.deploy.exporting import export, open_exported
from mmsn.deploy.extraction import extract, open_stitch, save
from mmsn.deploy.inference_spec import InferenceSpec
from mmsn.deploy.menu import Selection, StitchMenu, select, use_budget
from mmsn.deploy.plain_anchor import plain
from mmsn.deploy.predictor import Prediction, Predictor
from mmsn.deploy.quantization import quantize
from mmsn.evaluation.latency import LatencyTable

__all__ = [
    "Budget",
    "BudgetError",
    "Comparison",
    "InferenceSpec",
    "LatencyController",
    "LatencyTable",
    "Prediction",
    "Predictor",
    "Selection",
    "StitchMenu",
    "calibration_windows",
    "compare",
    "export",
    "extract",
    "open_exported",
    "open_stitch",
    "parse_budget",
    "plain",
    "quantize",
    "save",
    "select",
    "use_budget",
]
