"""The stitching layer: a token-wise affine map whose weight is frozen and updated at low rank.

``y = x Wᵀ + b + scale · x Aᵀ Bᵀ`` with ``scale = alpha / rank`` (SN-Netv2, Section 3.2). W comes
from least squares and stays; A, B and b are trained. The update is never merged in place, so what
is saved does not depend on whether the model was in training or evaluation mode.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmsn.errors import UserError


class StitchingLayer(nn.Module):
    """Affine map from one anchor's width to the other's, with a low-rank update.

    Args:
        in_features: width of the anchor that the tokens come from.
        out_features: width of the anchor that they go to.
        rank: rank of the update. 0 makes it an ordinary layer, trained as a whole (SN-Net).
        alpha: the update is scaled by ``alpha / rank``.
    """

    initialized: Tensor

    def __init__(
        self, in_features: int, out_features: int, rank: int = 16, alpha: float = 1.0
    ) -> None:
        super().__init__()
        if not 0 <= rank <= min(in_features, out_features):
            raise UserError(
                f"rank {rank} of a stitching layer {in_features} to {out_features}: use 0 (fully "
                f"trained) to {min(in_features, out_features)}"
            )
        self.in_features, self.out_features, self.rank = in_features, out_features, rank
        self.weight = nn.Parameter(torch.empty(out_features, in_features), requires_grad=rank == 0)
        self.bias = nn.Parameter(torch.zeros(out_features))
        nn.init.trunc_normal_(self.weight, std=0.02)
        # As LoRA starts: A random and B zero, so the update is zero and B still gets a gradient.
        if rank:
            self.scale = alpha / rank
            self.lora_A = nn.Parameter(torch.empty(rank, in_features))
            self.lora_B = nn.Parameter(torch.zeros(out_features, rank))
            nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        # Travels with the checkpoint: a run that loads solved layers must not solve them again.
        self.register_buffer("initialized", torch.zeros((), dtype=torch.bool))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, N, in_features) tokens to (B, N, out_features)."""
        out = F.linear(tokens, self.weight, self.bias)
        if self.rank:
            out = out + self.scale * F.linear(F.linear(tokens, self.lora_A), self.lora_B)
        return out

    @torch.no_grad()
    def set_affine(self, weight: Tensor, bias: Tensor) -> None:
        """Take W (out_features, in_features) and b (out_features,) and count as initialized.

        The update is reset to zero, so that the layer is exactly this map.
        """
        self.weight.copy_(weight)
        self.bias.copy_(bias)
        if self.rank:
            nn.init.zeros_(self.lora_B)
        self.initialized.fill_(True)

    def merged_weight(self) -> Tensor:
        """W with the update added, (out_features, in_features); the layer itself is unchanged."""
        if not self.rank:
            return self.weight
        return self.weight + self.scale * (self.lora_B @ self.lora_A)

    def macs(self, tokens: int) -> int:
        """Multiply-accumulates for this many tokens, the low-rank update included."""
        per_token = self.in_features * self.out_features
        per_token += self.rank * (self.in_features + self.out_features)
        return tokens * per_token

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Tensor], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Load, but do not count as initialized by a checkpoint whose map does not fit."""
        # mm loads with strict=False and skips tensors of another shape, so the flag may be loaded
        # where the weights are not.
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        for name, own in (("weight", self.weight), ("bias", self.bias)):
            loaded = state_dict.get(prefix + name)
            if loaded is None or loaded.shape != own.shape:
                self.initialized.fill_(False)

    def extra_repr(self) -> str:
        return f"{self.in_features} -> {self.out_features}, rank={self.rank}"
