"""What OpenMMLab's Runner calls: hooks and loops."""

from mmsn.engine.hooks import (
    AtomicCheckpointHook,
    FiniteHook,
    FLOPsConstrainedSamplingHook,
    LabelHook,
    RankCheckHook,
    StitchInitHook,
)
from mmsn.engine.initialize import solve_stitching_layers
from mmsn.engine.loops import ParetoValLoop
from mmsn.engine.pareto import ParetoTestLoop

__all__ = [
    "AtomicCheckpointHook",
    "FLOPsConstrainedSamplingHook",
    "FiniteHook",
    "LabelHook",
    "ParetoTestLoop",
    "ParetoValLoop",
    "RankCheckHook",
    "StitchInitHook",
    "solve_stitching_layers",
]
