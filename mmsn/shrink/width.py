"""Weights of a narrower ViT out of those of a wide one.

Tokens are projected onto their principal directions, as SliceGPT (arXiv:2401.15024, Section 3)
does for networks with RMSNorm. LayerNorm also removes the mean over channels; the basis here is
chosen so that projected tokens have none, which makes the two norms agree up to the lost energy.
Heads and hidden units with the largest weights stay. Only the weights are read; what is lost is
left to distillation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from timm.layers import Attention, Mlp
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from mmsn.errors import UserError


def principal_basis(outputs: Iterable[Tensor], width: int) -> Tensor:
    """The (width, C) projection that keeps most of all tokens (B, N, C) in ``outputs``.

    Every element of ``outputs`` has the same weight, whatever its scale. Rows span ``width - 1``
    orthonormal directions, chosen so that projected tokens sum to zero over channels.
    """
    moments: Tensor | None = None
    for tokens in outputs:
        rows = tokens.detach().reshape(-1, tokens.shape[-1]).double()
        rows = rows - rows.mean(1, keepdim=True)  # a LayerNorm reads nothing else
        gram = rows.T @ rows
        gram = gram / gram.trace()  # late blocks have longer tokens than early ones
        moments = gram if moments is None else moments + gram
    if moments is None:
        raise UserError("principal directions need at least one image")
    kept = torch.linalg.eigh(moments).eigenvectors[:, -(width - 1) :]  # (C, width - 1)
    return (_zero_sum_basis(width).to(kept.device) @ kept.T).float()


def _zero_sum_basis(width: int) -> Tensor:
    """(width, width - 1): orthonormal columns, each orthogonal to the vector of ones."""
    square = torch.eye(width, dtype=torch.float64)
    square[:, 0] = 1.0
    return torch.linalg.qr(square).Q[:, 1:]


def narrow_state(
    parent: VisionTransformer, basis: Tensor, heads: int, child: VisionTransformer
) -> dict[str, Tensor]:
    """The parent's state dict, of all its blocks, at the width of ``basis`` (width, C).

    Args:
        heads: attention heads that stay, each with the first channels of a head of the parent.
        child: built with the narrow shape; says how wide its MLPs are.

    Raises:
        UserError: a ViT with parts that this cannot project.
    """
    width = len(basis)
    basis = basis.to(parent.patch_embed.proj.weight.device)
    _refuse_unknown_parts(parent)
    state: dict[str, Tensor] = {}
    for name in ("cls_token", "reg_token", "dist_token", "pos_embed"):
        value = getattr(parent, name, None)
        if value is not None:
            state[name] = value.detach() @ basis.T
    patch = parent.patch_embed.proj
    state["patch_embed.proj.weight"] = torch.einsum("wc,cihk->wihk", basis, patch.weight.detach())
    if patch.bias is not None:
        state["patch_embed.proj.bias"] = basis @ patch.bias.detach()
    hidden = child.blocks[0].mlp.fc1.out_features
    for index, block in enumerate(parent.blocks):
        narrow = _narrow_block(block, basis, heads, width // heads, hidden)
        state |= {f"blocks.{index}.{key}": value for key, value in narrow.items()}
    return state


@torch.no_grad()
def _narrow_block(
    block: Block, basis: Tensor, heads: int, head_dim: int, hidden: int
) -> dict[str, Tensor]:
    attn, mlp = block.attn, block.mlp
    width, dim = basis.shape
    # A hidden unit counts by the norm of what it reads times the norm of what it writes, which is
    # the norm of its rank-one part of the MLP; a head likewise, by its values.
    # (3, heads, head_dim, C): query, key, value of the parent
    qkv, qkv_bias = _reads(attn.qkv, block.norm1, basis)
    qkv = qkv.view(3, attn.num_heads, attn.head_dim, width)
    qkv_bias = qkv_bias.view(3, attn.num_heads, attn.head_dim)
    proj = _scaled(attn.proj.weight, block.ls1).view(dim, attn.num_heads, attn.head_dim)
    weight_of_head = proj.norm(dim=(0, 2)) * qkv[2].norm(dim=(1, 2))
    best = weight_of_head.topk(heads).indices.sort().values
    fc1, fc1_bias = _reads(mlp.fc1, block.norm2, basis)
    fc2 = _scaled(mlp.fc2.weight, block.ls2)
    units = (fc2.norm(dim=0) * fc1.norm(dim=1)).topk(hidden).indices.sort().values
    state = {
        "attn.qkv.weight": qkv[:, best, :head_dim].reshape(-1, width),
        "attn.proj.weight": basis @ proj[:, best, :head_dim].reshape(dim, -1),
        "attn.proj.bias": basis @ _scaled(attn.proj.bias, block.ls1),
        "mlp.fc1.weight": fc1[units],
        "mlp.fc1.bias": fc1_bias[units],
        "mlp.fc2.weight": basis @ fc2[:, units],
        "mlp.fc2.bias": basis @ _scaled(mlp.fc2.bias, block.ls2),
    }
    if attn.qkv.bias is not None:
        state["attn.qkv.bias"] = qkv_bias[:, best, :head_dim].reshape(-1)
    for norm in ("norm1", "norm2"):  # their scale and shift went into the layers that read them
        state[f"{norm}.weight"] = basis.new_ones(width)
        state[f"{norm}.bias"] = basis.new_zeros(width)
    for scale in ("ls1", "ls2"):  # likewise into the layers before
        if not isinstance(getattr(block, scale), nn.Identity):
            state[f"{scale}.gamma"] = basis.new_ones(width)
    return state


def _reads(layer: nn.Linear, norm: nn.LayerNorm, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias of ``layer(norm(x))`` as a layer on normalized, projected tokens.

    A normalized token has length sqrt(channels), hence the factor.
    """
    width, dim = basis.shape
    bias = layer.weight @ norm.bias
    if layer.bias is not None:
        bias = bias + layer.bias
    return (layer.weight * norm.weight) @ basis.T * math.sqrt(dim / width), bias


def _scaled(value: Tensor, scale: nn.Module) -> Tensor:
    """A weight (C, n) or bias (C,) with the LayerScale after it multiplied in."""
    gamma = getattr(scale, "gamma", None)
    if gamma is None:
        return value
    return value * (gamma[:, None] if value.dim() == 2 else gamma)


def _refuse_unknown_parts(vit: VisionTransformer) -> None:
    block = vit.blocks[0]
    if not isinstance(vit, VisionTransformer) or type(block) is not Block:
        raise UserError(
            f"a {type(vit).__name__} of {type(block).__name__} modules cannot be narrowed: start "
            "from 'random' weights"
        )
    known = {
        "MLP": type(block.mlp) is Mlp and isinstance(block.mlp.norm, nn.Identity),
        "attention": type(block.attn) is Attention,
        "layers without bias": block.attn.proj.bias is not None and block.mlp.fc2.bias is not None,
        "norm": isinstance(block.norm1, nn.LayerNorm) and block.norm1.bias is not None,
        "norm before the first block": isinstance(vit.norm_pre, nn.Identity),
        "norm after the patches": isinstance(vit.patch_embed.norm, nn.Identity),
        "norms in the attention": all(
            isinstance(getattr(block.attn, name, nn.Identity()), nn.Identity)
            for name in ("q_norm", "k_norm", "norm")
        ),
    }
    unknown = [name for name, is_known in known.items() if not is_known]
    if unknown:
        raise UserError(
            f"the parent's {', '.join(unknown)} cannot be narrowed: start from 'random' weights"
        )
