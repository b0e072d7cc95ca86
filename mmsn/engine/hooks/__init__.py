"""What happens before training and around each of its iterations."""

from mmsn.engine.hooks.checkpoint_hook import AtomicCheckpointHook
from mmsn.engine.hooks.cost_hook import TrainingCostHook
from mmsn.engine.hooks.finite_hook import FiniteHook
from mmsn.engine.hooks.label_hook import LabelHook
from mmsn.engine.hooks.matrix_init_hook import MatrixInitHook
from mmsn.engine.hooks.rank_check_hook import RankCheckHook
from mmsn.engine.hooks.sampling_hook import FLOPsConstrainedSamplingHook
from mmsn.engine.hooks.stitch_init_hook import StitchInitHook

__all__ = [
    "AtomicCheckpointHook",
    "FLOPsConstrainedSamplingHook",
    "FiniteHook",
    "LabelHook",
    "MatrixInitHook",
    "RankCheckHook",
    "StitchInitHook",
    "TrainingCostHook",
]
