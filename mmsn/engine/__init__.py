"""What OpenMMLab's Runner calls: hooks and loops."""

from mmsn.engine.bf16 import Bf16OptimWrapper
from mmsn.engine.hooks import FLOPsConstrainedSamplingHook, StitchInitHook, TrainingCostHook
from mmsn.engine.initialize import solve_stitching_layers
from mmsn.engine.loops import ParetoValLoop
from mmsn.engine.pareto import ParetoTestLoop

__all__ = [
    "Bf16OptimWrapper",
    "FLOPsConstrainedSamplingHook",
    "ParetoTestLoop",
    "ParetoValLoop",
    "StitchInitHook",
    "TrainingCostHook",
    "solve_stitching_layers",
]
