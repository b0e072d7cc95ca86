"""Hook: start stitching layers from Learngene Pool's transformation matrices."""

from __future__ import annotations

from typing import Any

from mmengine.dist import broadcast
from mmengine.logging import print_log

from mmsn.engine.hooks.stitch_init_hook import StitchInitHook
from mmsn.models import stitched_backbone
from mmsn.registry import HOOKS
from mmsn.shrink.transposed import read_matrices, start_from_matrices


@HOOKS.register_module()
class MatrixInitHook(StitchInitHook):
    """Set the stitching layers that no checkpoint has filled, without images.

    Modifications of ``StitchInitHook``: a layer is the transposed transformation matrix of its
    source, times the matrix of its target, in place of the least-squares solution.

    Args:
        matrices: the file that ``tools/learngene_pool.py`` wrote beside the instances.
    """

    def __init__(self, matrices: str) -> None:
        super().__init__()
        self.matrices = matrices

    def before_train(self, runner: Any) -> None:
        """Set, and give every rank the same; weights are loaded by now."""
        backbone = stitched_backbone(runner.model)
        keys = backbone.uninitialized
        if not keys:
            return
        matrices = read_matrices(self.matrices, len(backbone.anchors))
        start_from_matrices(backbone, matrices, keys)
        print_log(
            f"Started {len(keys)} stitching layers from the matrices of {self.matrices}",
            logger="current",
        )
        # The matrices are the same on every rank, the random part of low-rank updates is not.
        for key in keys:
            for tensor in backbone.layer(key).state_dict().values():
                broadcast(tensor, src=0)
