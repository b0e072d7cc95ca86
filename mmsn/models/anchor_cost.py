"""What an anchor costs, read from its modules: weights per token, norms, attention, parameters.

Nothing here depends on timm's class: a linear layer is one multiply-accumulate per weight and
token, wherever it stands, so SwiGLU, gates and separate projections need no special case.
Rotary position embeddings are elementwise, which is free as fvcore counts.
"""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from mmsn.models.rel_pos import RelativePositionBias
from mmsn.models.timm_vits import EMBEDDING_PARAMETERS, PlainViT
from mmsn.stitching import AnchorCost, BlockCost


def count(plain: PlainViT, rel_pos: RelativePositionBias | None) -> AnchorCost:
    """The cost of a whole anchor."""
    vit, layout = plain.vit, plain.layout
    embedding = [vit.patch_embed, vit.norm_pre]
    loose = [getattr(vit, name, None) for name in EMBEDDING_PARAMETERS]
    extra = plain.params_per_block()
    if rel_pos is not None:
        extra += rel_pos.tables["0"].numel()
    return AnchorCost(
        dim=vit.embed_dim,
        patch_size=layout.patch_size,
        prefix_tokens=layout.prefix_tokens,
        embed_linear=sum(map(_weights, embedding)),
        embed_norm=sum(map(_normalized, embedding)),
        embed_params=sum(map(_params, embedding)) + sum(p.numel() for p in loose if p is not None),
        blocks=tuple(
            BlockCost(
                linear=_weights(block),
                norm=_normalized(block),
                params=_params(block) + extra,
                attention_dim=_widths(block.attn)[0],
            )
            for block in vit.blocks
        ),
    )


def _params(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _weights(module: nn.Module) -> int:
    """Weights of linear layers and patch convolutions: multiply-accumulates per token."""
    layers = (m for m in module.modules() if isinstance(m, (nn.Linear, nn.Conv2d)))
    return sum(layer.weight.numel() for layer in layers)


def _widths(attention: Any) -> tuple[int, int]:
    """Widths of queries and of keys, summed over heads."""
    if getattr(attention, "qkv", None) is not None:
        width = attention.qkv.out_features // 3
        return width, width
    return attention.q_proj.out_features, attention.k_proj.out_features


def _normalized(module: nn.Module) -> int:
    """Elements per token that layer norms read; those of queries and keys repeat for each head."""
    total = 0
    for name, norm in module.named_modules():
        if not isinstance(norm, nn.LayerNorm):  # the only norm of a ViT that fvcore counts
            continue
        if name.endswith(("attn.q_norm", "attn.k_norm")):
            total += _widths(module.get_submodule("attn"))[name.endswith("k_norm")]
        else:
            total += math.prod(norm.normalized_shape)
    return total
