"""Activation memory of every stitch in inference, measured on shapes.

The count is the peak of the tensors that a pass under ``torch.no_grad`` holds: the image, tokens
and the intermediate results of a block, levels, tokens that a stitching layer projected, and the
same of neck and decode head. Attention is assumed to be fused, so its N x N scores are never a
tensor. Not counted: weights, tables that are made once per grid, the workspace of kernels, the
allocator's cache, and resizing the prediction to the image.

The forward pass itself runs, on PyTorch's meta device, so there is no second description of it to
keep in sync. A run of equal blocks is measured once.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from mmsn.models.complexity import stitched_backbone, trace_head, unwrap
from mmsn.models.stitched_vit import StitchedViT
from mmsn.models.tracing import LiveBytes, on_meta
from mmsn.stitching import Stitch
from mmsn.stitching.space import Run


class FusedAttention(TorchFunctionMode):
    """Attention as one operator, as kernels run it; on the meta device it would be decomposed."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if function is not F.scaled_dot_product_attention:
            return function(*args, **(kwargs or {}))
        query, _, value = args[:3]
        batch, heads, tokens, _ = query.shape
        # (B, N, H, d) in memory, as kernels lay it out: no copy is needed before the projection.
        return value.new_empty(batch, tokens, heads, value.shape[-1]).transpose(1, 2)


@torch.no_grad()
def activation_bytes(
    model: Any, image_size: tuple[int, int], batch_size: int = 1, dtype: torch.dtype = torch.float32
) -> dict[int, int]:
    """Bytes of activations at their peak, by stitch id, for (height, width) images."""
    own = stitched_backbone(unwrap(model))
    head = trace_head(model, image_size)[1] // next(own.parameters()).element_size()
    backbone = cast(StitchedViT, on_meta(own).to(dtype))
    image = torch.empty(batch_size, 3, *image_size, dtype=dtype, device="meta")
    head_bytes = image.nbytes + batch_size * dtype.itemsize * head
    measure = _Measure(backbone, image)
    return {stitch.id: max(measure.peak(stitch), head_bytes) for stitch in backbone.space}


class _Measure:
    """Peaks of the stitches of a backbone on the meta device, for one batch of images."""

    def __init__(self, backbone: StitchedViT, image: Tensor) -> None:
        self.backbone, self.image = backbone, image
        self.grid = backbone.grid((image.shape[2], image.shape[3]))
        self._runs: dict[tuple, int] = {}
        for index in range(len(backbone.anchors)):
            backbone.anchor(index).prepare(self.grid)

    def peak(self, stitch: Stitch) -> int:
        """Bytes that the image and all that is made from it hold, at most."""
        backbone = self.backbone
        route = backbone.space.route(stitch, backbone.out_indices, backbone.eval_levels)
        extra = {step: self._run(step) for step in route if isinstance(step, Run)}
        with LiveBytes() as memory:
            memory.add(self.image)
            state = backbone.begin(self.image, stitch.segments[0].anchor)
            for step in route:
                if isinstance(step, Run):
                    # The input of a run is alive until it ends, whatever else is.
                    memory.hold(extra[step])
                    state.tokens = torch.empty_like(state.tokens)
                else:
                    backbone.advance(state, step)
        return memory.peak

    def _run(self, step: Run) -> int:
        """Bytes that blocks hold at their peak, in addition to their input tokens."""
        costs = self.backbone.costs.anchors[step.anchor]
        blocks, stop = costs.blocks[step.start : step.stop], step.stop
        if len(set(blocks)) == 1:
            # A second block adds the tokens between the two; a third holds what the second does.
            stop = min(stop, step.start + 2)
        key = (step.anchor, costs.blocks[step.start : stop])
        if key not in self._runs:
            tokens = self.image.new_empty(
                self.image.shape[0], costs.prefix_tokens + math.prod(self.grid), costs.dim
            )
            with FusedAttention(), LiveBytes() as memory:
                memory.add(tokens)
                self.backbone.anchor(step.anchor).run(tokens, step.start, stop, self.grid)
            self._runs[key] = memory.peak - tokens.nbytes
        return self._runs[key]
