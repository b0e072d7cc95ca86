"""Smaller anchors made from larger ones: fewer blocks, a smaller width, distilled from the parent.

``child`` decides the child's shape and its first weights, ``width`` narrows weights, ``images``
reads unlabeled images, ``distill`` trains the child, ``unexplained`` measures it.
``tools/shrink_anchor.py`` is the command. ``learngene`` and ``transposed`` are another method:
instances of one ancestor, and stitching layers made from what their distillation learned.
"""

from mmsn.shrink.child import (
    ChildPlan,
    child_options,
    load_parent,
    native_size,
    plan_child,
    start_child,
)
from mmsn.shrink.distill import Distillation, DistillSettings, fingerprint
from mmsn.shrink.images import UnlabeledImages, find_images, held_out_split, normalization_of
from mmsn.shrink.unexplained import UnitError, measure

__all__ = [
    "ChildPlan",
    "DistillSettings",
    "Distillation",
    "UnitError",
    "UnlabeledImages",
    "child_options",
    "find_images",
    "fingerprint",
    "held_out_split",
    "load_parent",
    "measure",
    "native_size",
    "normalization_of",
    "plan_child",
    "start_child",
]
