"""The method, in plain PyTorch and plain Python: one idea of the paper per file."""

from mmsn.stitching.cost import AnchorCost, BlockCost, CostModel
from mmsn.stitching.layer import StitchingLayer
from mmsn.stitching.least_squares import GramAccumulator, Solution, solve_shared
from mmsn.stitching.sampling import (
    budget_groups,
    count_units,
    default_step,
    draw,
    draw_parts,
)
from mmsn.stitching.selection import best_per_group, resolve
from mmsn.stitching.space import LayerKey, Segment, Stitch, StitchSpace

__all__ = [
    "AnchorCost",
    "BlockCost",
    "CostModel",
    "GramAccumulator",
    "LayerKey",
    "Segment",
    "Solution",
    "Stitch",
    "StitchSpace",
    "StitchingLayer",
    "best_per_group",
    "budget_groups",
    "count_units",
    "default_step",
    "draw",
    "draw_parts",
    "resolve",
    "solve_shared",
]
