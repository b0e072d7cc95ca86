"""Activation memory of every stitch in inference, in closed form.

Counted are the tensors that a pass under ``torch.no_grad`` holds at the moment when they take most:
the image, tokens inside the present block with all that its attention and its MLP keep, levels
given out, tokens that a stitching layer carried over, and the same of neck and decode head. Not
counted are weights, the workspace of kernels (attention is taken to be fused, so its N x N scores
never exist as a tensor), what the allocator keeps, and resizing the prediction to the image.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from mmsn.models.anchor import Anchor
from mmsn.models.complexity import stitched_backbone, trace_head, unwrap
from mmsn.models.stitched_vit import StitchedViT
from mmsn.stitching import LayerKey, Stitch
from mmsn.stitching.space import Join, Run, Tap


def activation_bytes(
    model: Any, image_size: tuple[int, int], batch_size: int = 1, dtype: torch.dtype = torch.float32
) -> dict[int, int]:
    """Bytes of activations at their peak, by stitch id, for (height, width) images."""
    backbone = stitched_backbone(unwrap(model))
    weights = next(backbone.parameters()).element_size()
    head = trace_head(model, image_size)[1] // weights
    image = 3 * image_size[0] * image_size[1]
    peaks = {s.id: max(_backbone_elements(backbone, s, image_size), head) for s in backbone.space}
    return {i: batch_size * dtype.itemsize * (image + peak) for i, peak in peaks.items()}


def _backbone_elements(backbone: StitchedViT, stitch: Stitch, image_size: tuple[int, int]) -> int:
    """Elements beside the image at their peak, for one image."""
    tokens = backbone.costs.anchors[0].tokens(image_size)
    patches = tokens - backbone.anchor(0).prefix_tokens
    widths = [anchor.dim for anchor in backbone.costs.anchors]
    # Padding to whole patches copies the image, whether or not there is anything to pad.
    first = backbone.anchor(stitch.segments[0].anchor)
    peak = 3 * math.prod(first.token_layout[0]) * patches + patches * first.dim
    levels = 0
    carried: set[LayerKey] = set()
    is_carried = False  # do the present tokens count as carried ones?

    def kept() -> int:
        return levels + tokens * sum(widths[key.target] for key in carried)

    def carry(path: tuple[LayerKey, ...], is_carried: bool) -> None:
        nonlocal peak
        for key in path:
            source = 0 if is_carried else tokens * widths[key.source]
            if key not in carried:  # the map, and its low-rank update before and after scaling
                target = tokens * widths[key.target] * (3 if backbone.layer(key).rank else 1)
                peak = max(peak, kept() + source + target)
                carried.add(key)
            is_carried = True

    for step in backbone.space.route(stitch, backbone.out_indices, backbone.eval_levels):
        match step:
            case Run(anchor, start, stop):
                # The tokens before the first block stay until the last one has run.
                before = 0 if is_carried or stop - start == 1 else tokens * widths[anchor]
                shared = tokens * widths[anchor] if is_carried and stop - start == 1 else 0
                block = _block_elements(backbone.anchor(anchor), tokens) - shared
                peak = max(peak, kept() + before + block)
                is_carried = False
            case Join(key):
                carry((key,), is_carried)
                is_carried = True
            case Tap(_, path):
                carry(path, is_carried)
                here = 0 if is_carried else tokens * widths[path[0].source if path else -1]
                levels += patches * widths[-1]
                peak = max(peak, kept() + here)
    return peak


def _block_elements(anchor: Anchor, tokens: int) -> int:
    """Elements that one block holds at its peak, its (N, C) input included.

    Attention: input, normalized input, queries, keys and values, result, its projection. MLP:
    input, sum with the attention, the same normalized, hidden layer before and after its
    activation. Beside both the (heads, N, N) bias, where there is one.
    """
    # An anchor of a few stitches may lack its first blocks.
    block = next(block for block in anchor.vit.blocks if not isinstance(block, nn.Identity))
    attention_dim = block.attn.num_heads * block.attn.head_dim
    attention = tokens * (3 * anchor.dim + 4 * attention_dim)
    linear = [m.out_features for m in block.mlp.modules() if isinstance(m, nn.Linear)]
    mlp = tokens * (3 * anchor.dim + 2 * sum(linear[:-1]))
    bias = 0 if anchor.rel_pos is None else block.attn.num_heads * tokens * tokens
    return bias + max(attention, mlp)
