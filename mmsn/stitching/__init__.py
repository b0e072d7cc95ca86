"""The method, in plain PyTorch and plain Python: one idea of the paper per file."""

from mmsn.stitching.cost import AnchorCost, BlockCost, CostModel, Costs
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
from mmsn.stitching.space import StitchSpace
from mmsn.stitching.staged_cost import StagedCost, WindowBlockCost
from mmsn.stitching.stitch import LayerKey, Segment, Stitch

__all__ = [
    "AnchorCost",
    "BlockCost",
    "CostModel",
    "Costs",
    "GramAccumulator",
    "LayerKey",
    "Segment",
    "Solution",
    "StagedCost",
    "Stitch",
    "StitchSpace",
    "StitchingLayer",
    "WindowBlockCost",
    "best_per_group",
    "budget_groups",
    "count_units",
    "default_step",
    "draw",
    "draw_parts",
    "resolve",
    "solve_shared",
]
