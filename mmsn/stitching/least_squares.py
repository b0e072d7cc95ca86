"""Least squares for stitching layers, streaming: only Gram matrices are kept.

The layer that goes from X to Y should solve ``min ‖[X 1] [Wᵀ; b] - Y‖`` (SN-Netv2, Section 3.2).
The normal equations need no features, only ``ZᵀZ`` of ``Z = [X Y 1]``, and that one matrix serves
both directions. Everything is float64; directions that the data do not span get the
minimum-norm solution, as a pseudo-inverse would give, and are reported. A layer that several joins
share gets the mean of their solutions (SN-Net).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmsn.errors import UserError

# Eigenvalues of a Gram matrix below this fraction of the largest carry rounding, not data.
RELATIVE_CUTOFF = 1e-12


@dataclass(frozen=True)
class Solution:
    """``weight`` (d_out, d_in) and ``bias`` (d_out,) in float64, and how well posed they are.

    ``rank`` of ``size`` directions are spanned by the data; ``error`` is the residual's share of
    the target's variance: 0 for a perfect fit, 1 where only the bias fits.
    """

    weight: Tensor
    bias: Tensor
    rank: int
    size: int
    error: float


class GramAccumulator:
    """Sums ``ZᵀZ`` for paired tokens ``X`` (n, dim_x) and ``Y`` (n, dim_y).

    Memory is ``8 · (dim_x + dim_y + 1)²`` bytes, whatever the number of tokens.
    """

    def __init__(self, dim_x: int, dim_y: int) -> None:
        self.dim_x, self.dim_y = dim_x, dim_y
        self.count = 0
        self.gram: Tensor | None = None

    @torch.no_grad()
    def update(self, x: Tensor, y: Tensor) -> None:
        """Add a batch of tokens, (..., dim_x) and (..., dim_y).

        Raises:
            UserError: a token that is not finite.
        """
        # Before the product: float32 would lose the small eigenvalues that decide the rank.
        x = x.reshape(-1, self.dim_x).double()
        y = y.reshape(-1, self.dim_y).double()
        z = torch.cat([x, y, x.new_ones(len(x), 1)], dim=1)
        if not torch.isfinite(z).all():
            side = "source" if not torch.isfinite(x).all() else "target"
            raise UserError(f"{side} tokens hold NaN or infinity")
        gram = z.T @ z
        self.gram = gram if self.gram is None else self.gram + gram
        self.count += len(x)

    def solve(self, reverse: bool = False) -> Solution:
        """The affine map from X to Y, or from Y to X if ``reverse``."""
        normal, moments, squares, energy = self._equations(reverse)

        # A pseudo-inverse by eigenvectors: directions that no token has are left out, so their
        # part of the solution is zero, which is the minimum norm.
        values, vectors = torch.linalg.eigh(normal)
        kept = values > RELATIVE_CUTOFF * values[-1]
        vectors = vectors[:, kept]
        solution = vectors @ ((vectors.T @ moments) / values[kept, None])

        # ‖ZW - Y‖² = ‖Y‖² - <W, ZᵀY> at the solution, so the features are not needed again.
        residual = squares - (solution * moments).sum()
        return Solution(
            weight=solution[:-1].T.contiguous(),
            bias=solution[-1].clone(),
            rank=int(kept.sum()),
            size=len(normal),
            error=_share(residual, energy),
        )

    def error(self, weight: Tensor, bias: Tensor, reverse: bool = False) -> float:
        """The residual's share of the target's variance for a given map, as in ``Solution``.

        The map takes X to Y with (dim_y, dim_x) weights and (dim_y,) biases; ``reverse`` swaps the
        two.
        """
        normal, moments, squares, energy = self._equations(reverse)
        given = torch.cat([weight.T, bias[None]])
        residual = squares - 2 * (given * moments).sum() + (given * (normal @ given)).sum()
        return _share(residual, energy)

    def _equations(self, reverse: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``ZᵀZ`` and ``ZᵀY`` of the map, ``‖Y‖²``, and the same around the mean of Y."""
        if self.gram is None:
            raise UserError("least squares got no tokens: give at least one batch of images")
        # Rows and columns of the Gram matrix: X, then Y, then the ones that carry the bias.
        x = torch.arange(self.dim_x, device=self.gram.device)
        y = torch.arange(self.dim_x, self.dim_x + self.dim_y, device=self.gram.device)
        source, target = (y, x) if reverse else (x, y)
        design = torch.cat([source, source.new_tensor([self.dim_x + self.dim_y])])
        squares = self.gram[target, target].sum()
        energy = squares - (self.gram[target, -1] ** 2).sum() / self.count
        return self.gram[design][:, design], self.gram[design][:, target], squares, energy


def _share(residual: Tensor, energy: Tensor) -> float:
    # A perfect fit may come out below zero by rounding; a constant target has no variance.
    return float((residual / energy).clamp_min(0)) if energy > 0 else 0.0


def solve_shared(grams: Sequence[GramAccumulator], reverse: bool = False) -> Solution:
    """One map for all pairs of tokens: the mean of their solutions, as SN-Net takes it.

    ``rank`` is the smallest; ``error`` is that of the mean map, averaged over the pairs.
    """
    solutions = [gram.solve(reverse) for gram in grams]
    if len(solutions) == 1:
        return solutions[0]
    weight = torch.stack([solution.weight for solution in solutions]).mean(0)
    bias = torch.stack([solution.bias for solution in solutions]).mean(0)
    errors = [gram.error(weight, bias, reverse) for gram in grams]
    worst = min(solution.rank for solution in solutions)
    return Solution(weight, bias, worst, solutions[0].size, sum(errors) / len(errors))
