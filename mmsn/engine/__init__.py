"""What OpenMMLab's Runner calls: hooks and loops."""

from mmsn.engine.bf16 import Bf16OptimWrapper
from mmsn.engine.hooks import (
    AtomicCheckpointHook,
    FiniteHook,
    FLOPsConstrainedSamplingHook,
    LabelHook,
    MatrixInitHook,
    RankCheckHook,
    StitchInitHook,
    TrainingCostHook,
)
from mmsn.engine.initialize import solve_stitching_layers
from mmsn.engine.layer_decay import LayerDecayOptimizerConstructor
from mmsn.engine.loops import ParetoValLoop
from mmsn.engine.pareto import ParetoTestLoop

__all__ = [
    "AtomicCheckpointHook",
    "Bf16OptimWrapper",
    "FLOPsConstrainedSamplingHook",
    "FiniteHook",
    "LabelHook",
    "LayerDecayOptimizerConstructor",
    "MatrixInitHook",
    "ParetoTestLoop",
    "ParetoValLoop",
    "RankCheckHook",
    "StitchInitHook",
    "TrainingCostHook",
    "solve_stitching_layers",
]
