"""What happens before training and around each of its iterations."""

from mmsn.engine.hooks.cost_hook import TrainingCostHook
from mmsn.engine.hooks.sampling_hook import FLOPsConstrainedSamplingHook
from mmsn.engine.hooks.stitch_init_hook import StitchInitHook

__all__ = ["FLOPsConstrainedSamplingHook", "StitchInitHook", "TrainingCostHook"]
