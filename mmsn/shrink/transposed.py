"""Stitching layers of Learngene Pool's instances, started from transformation matrices.

A matrix maps the ancestor's features to those of an instance, so its transpose is taken for the
way back, and two instances are joined through the ancestor: ``W_target · W_sourceᵀ``. No images are
needed. ``affine_errors`` measures how well any stitching layers fit, so that this start compares
with least squares on the same instances.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from mmsn.errors import UserError
from mmsn.models.anchor import Anchor
from mmsn.models.stitched_vit import StitchedViT
from mmsn.shrink.child import unit_outputs
from mmsn.shrink.learngene import TransformationMatrices
from mmsn.shrink.unexplained import energy_of, squared_error
from mmsn.state_dict import read_state_dict
from mmsn.stitching import GramAccumulator, LayerKey

# An averaged matrix, (width, ancestor's width), or None for an instance of the ancestor's width.
Matrix = Tensor | None


def named(instances: Sequence[TransformationMatrices]) -> dict[str, Tensor]:
    """What to store of the matrices of all instances, smallest to largest.

    An instance of the ancestor's width has no matrix, but is named by its width, so that a file
    states all instances of its pool.
    """
    return {
        f"{number}.{name}": value.detach().cpu().contiguous()
        for number, matrices in enumerate(instances)
        for name, value in (
            matrices.state_dict() or {"identity": torch.tensor(matrices.width)}
        ).items()
    }


def averaged(state: Mapping[str, Tensor], count: int) -> list[Matrix]:
    """The mean matrix of block outputs of each of ``count`` instances, from what ``named`` gave."""
    found: list[Matrix] = []
    for number in range(count):
        own = [
            value
            for name, value in state.items()
            if name.startswith(f"{number}.blocks.") and name.endswith(".weight")
        ]
        found.append(torch.stack(own).mean(0) if own else None)
    return found


def read_matrices(path: str | Path, count: int) -> list[Matrix]:
    """The mean matrices of ``count`` instances.

    Raises:
        FileNotFoundError: no such file.
        UserError: a file of fewer or of more instances.
    """
    state = read_state_dict(path)
    known = {int(name.partition(".")[0]) for name in state if name.partition(".")[0].isdigit()}
    if known != set(range(count)):
        raise UserError(
            f"{str(path)!r} holds matrices of instances {sorted(known)}, but the backbone has "
            f"{count} anchors: give the file of the pool that they come from"
        )
    return averaged(state, count)


@torch.no_grad()
def start_from_matrices(
    backbone: StitchedViT, matrices: Sequence[Matrix], keys: Collection[LayerKey] | None = None
) -> None:
    """Set stitching layers to ``W_target · W_sourceᵀ``, without bias.

    Args:
        backbone: its anchors are the instances, in this order.
        matrices: as ``read_matrices`` gives them.
        keys: the layers to set; all by default.

    Raises:
        UserError: matrices of other widths.
    """
    for key in backbone.layer_keys if keys is None else keys:
        dims = backbone.costs.layer_dims(key)
        source, target = (
            torch.eye(dim) if matrix is None else matrix
            for dim, matrix in zip(dims, (matrices[key.source], matrices[key.target]), strict=True)
        )
        wanted = dims[::-1]
        fits = source.shape[1] == target.shape[1]
        if not fits or (len(target), len(source)) != wanted:
            raise UserError(
                f"matrices of shapes {tuple(source.shape)} and {tuple(target.shape)} do not join "
                f"anchors of widths {wanted[1]} and {wanted[0]}: give those of these instances"
            )
        weight = target.double() @ source.double().T
        backbone.layer(key).set_affine(weight, weight.new_zeros(len(weight)))


@torch.no_grad()
def affine_errors(backbone: StitchedViT, batches: Iterable[Tensor]) -> dict[LayerKey, float]:
    """Share of the target's variance that each stitching layer leaves unexplained, as it stands.

    Unlike the error of a least-squares solution it can exceed 1, and it may be measured on other
    images than the layers were solved with.
    """
    space = backbone.space
    grams = {key: GramAccumulator(*backbone.costs.layer_dims(key)) for key in backbone.layer_keys}
    for images in batches:
        # Element 0 is the embedding, which a match calls block -1.
        tokens = [
            unit_outputs(cast(Anchor, backbone.anchor(i)), images, 1)
            for i in range(len(backbone.anchors))
        ]
        for key, gram in grams.items():
            for source, target in space.matches(key):
                gram.update(tokens[key.source][source + 1], tokens[key.target][target + 1])
    errors = {}
    for key, gram in grams.items():
        layer = backbone.layer(key)
        error = squared_error(gram, layer.merged_weight(), layer.bias)
        errors[key] = error / energy_of(gram)
    return errors
