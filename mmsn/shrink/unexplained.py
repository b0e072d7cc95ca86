"""How much of its parent a child anchor leaves unexplained, unit by unit.

Everything comes from Gram matrices of child and parent tokens, so memory does not grow with the
number of images. Training is in ``distill``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mmsn.errors import UserError
from mmsn.models.anchor import Anchor
from mmsn.shrink.child import ChildPlan, unit_outputs
from mmsn.stitching.least_squares import GramAccumulator


@dataclass(frozen=True)
class UnitError:
    """Unexplained share of the parent's variance after parent blocks ``start`` to ``stop``.

    ``mapped`` is that of the distillation's own map, or of none, and can exceed 1. ``linear`` is
    that of an affine map, as a stitching layer solved by least squares would have it: solved on
    one half of the images and measured on the other, both ways.
    """

    start: int
    stop: int
    mapped: float
    linear: float


@torch.no_grad()
def measure(
    parent: Anchor,
    child: Anchor,
    plan: ChildPlan,
    images: Dataset,
    maps: Iterable[nn.Module] | None = None,
    batch_size: int = 16,
) -> list[UnitError]:
    """Compare child and parent after each unit, in float32, over all ``images``.

    Args:
        maps: of the distillation, one per unit. Without them, tokens of equal width are compared
            as they are, and ``mapped`` is NaN where widths differ.
    """
    device = next(child.parameters()).device
    # Even and odd images apart: maps are solved on one half and measured on the other. Batches are
    # of even size, so that this split does not depend on where batches begin.
    halves = accumulators(plan), accumulators(plan)
    squares = torch.zeros(plan.depth, dtype=torch.float64, device=device)
    unit_maps = [nn.Identity() for _ in plan.blocks] if maps is None else list(maps)
    comparable = maps is not None or not plan.is_narrower
    for batch in DataLoader(images, 2 * max(1, batch_size // 2)):
        own = unit_outputs(child, batch.to(device), 1)[1:]
        target = unit_outputs(parent, batch.to(device), plan.unit)[1:]
        for index in range(plan.depth):
            for half, grams in enumerate(halves):
                grams[index].update(own[index][half::2], target[index][half::2])
            if comparable:
                difference = unit_maps[index](own[index]) - target[index]
                squares[index] += difference.double().square().sum()
    errors = []
    for index, (even, odd) in enumerate(zip(*halves, strict=True)):
        energy = energy_of(even, odd)  # raises where a half is empty
        errors.append(
            UnitError(
                start=index * plan.unit,
                stop=(index + 1) * plan.unit,
                mapped=float(squares[index]) / energy if comparable else math.nan,
                linear=(_residual(even, odd) + _residual(odd, even)) / energy,
            )
        )
    return errors


def accumulators(plan: ChildPlan) -> list[GramAccumulator]:
    """An empty Gram matrix of child and parent tokens for each unit."""
    return [GramAccumulator(plan.width, plan.parent_width) for _ in plan.blocks]


def _sums(gram: GramAccumulator) -> Tensor:
    if gram.gram is None or gram.count == 0:
        raise UserError("too few images to compare child and parent: give at least 2")
    return gram.gram


def _residual(fitted: GramAccumulator, tested: GramAccumulator) -> float:
    """Squared error, summed over the tokens of ``tested``, of the map that ``fitted`` gives."""
    solution = fitted.solve()
    return squared_error(tested, solution.weight, solution.bias)


def squared_error(gram: GramAccumulator, weight: Tensor, bias: Tensor) -> float:
    """Of an affine map (d_out, d_in) and (d_out,), summed over the tokens of a Gram matrix."""
    weight, bias = weight.double(), bias.double()
    minus = -torch.eye(gram.dim_y, dtype=weight.dtype, device=weight.device)
    # [X Y 1] times this is the error of every token, so the Gram matrix gives its square
    error = torch.cat([weight.T, minus, bias[None]])
    return float((error * (_sums(gram) @ error)).sum())


def energy_of(*grams: GramAccumulator) -> float:
    """Squared distance of all target tokens from their mean, summed."""
    total = torch.stack([_sums(gram) for gram in grams]).sum(0)
    target = slice(grams[0].dim_x, grams[0].dim_x + grams[0].dim_y)
    count = sum(gram.count for gram in grams)
    squares = total[target, target].diagonal().sum()
    return float(squares - total[target, -1].square().sum() / count)
