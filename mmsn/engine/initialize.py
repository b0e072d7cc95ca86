"""Solve the stitching layers of a backbone by least squares, from a stream of images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import torch
from torch import Tensor

from mmsn.errors import UserError
from mmsn.models import StitchedViT
from mmsn.stitching import GramAccumulator, LayerKey, Solution


@torch.no_grad()
def solve_stitching_layers(
    backbone: StitchedViT,
    batches: Iterable[Tensor],
    keys: Collection[LayerKey] | None = None,
    on_batch: Callable[[], None] = lambda: None,
) -> dict[LayerKey, Solution]:
    """Solve the layers and set them.

    Each anchor runs alone, in evaluation mode; every layer maps the tokens of one after a unit to
    those of the other after the same unit (SN-Netv2, Section 3.2). Only Gram matrices are kept, so
    memory does not grow with the number of images.

    Args:
        backbone: its stitching layers are set in place.
        batches: (B, 3, H, W) images, normalized as for training, on the backbone's device.
        keys: the layers to solve; all by default.
        on_batch: called after each batch, to show progress.

    Returns:
        The solution of each layer, with its rank and its error.

    Raises:
        UserError: images or tokens that are not finite, no images at all, or a backbone of a few
            stitches, which lacks blocks.
    """
    space = backbone.space
    keys = list(backbone.layer_keys if keys is None else keys)
    if keys and not all(backbone.anchor(index).is_whole for index in range(len(space.depths))):
        raise UserError(
            f"a backbone with stitches {space.ids} alone lacks blocks that least squares needs: "
            "solve the stitching layers with all stitches, then extract these"
        )
    # One Gram matrix per position serves the layers of both directions.
    positions = sorted({(min(key.source, key.target), key.unit) for key in keys})
    grams = {
        (pair, unit): GramAccumulator(backbone.anchor(pair).dim, backbone.anchor(pair + 1).dim)
        for pair, unit in positions
    }
    # The blocks of each anchor after which tokens are needed: every anchor runs once per batch.
    taps: list[set[int]] = [set() for _ in space.depths]
    for pair, unit in positions:
        for anchor in (pair, pair + 1):
            taps[anchor].add(space.unit_end(anchor, pair, unit))

    training = backbone.training
    backbone.eval()
    try:
        for number, images in enumerate(batches):
            if not torch.isfinite(images).all():
                raise UserError(
                    f"initialization batch {number} holds NaN or infinity in its images: check "
                    "the data and its normalization"
                )
            outputs = [_outputs(backbone, a, images, blocks) for a, blocks in enumerate(taps)]
            for (pair, unit), gram in grams.items():
                small, large = (space.unit_end(a, pair, unit) for a in (pair, pair + 1))
                try:
                    gram.update(outputs[pair][small], outputs[pair + 1][large])
                except UserError as error:
                    raise UserError(
                        f"initialization batch {number}: {error}, after block {small} of anchor "
                        f"{pair} (source) and block {large} of anchor {pair + 1} (target): check "
                        "the anchors' weights"
                    ) from error
            on_batch()
    finally:
        # Frozen anchors stay in evaluation mode; see ``StitchedViT.train``.
        backbone.train(training)

    solutions = {}
    for key in keys:
        gram = grams[min(key.source, key.target), key.unit]
        solution = solutions[key] = gram.solve(reverse=key.source > key.target)
        backbone.layer(key).set_affine(solution.weight, solution.bias)
    return solutions


def _outputs(
    backbone: StitchedViT, anchor: int, images: Tensor, blocks: set[int]
) -> dict[int, Tensor]:
    """(B, N, C) tokens of one anchor after each of these blocks."""
    # Blocks run once and in order; each range continues where the last one ended.
    module, outputs, start = backbone.anchor(anchor), {}, 0
    if blocks:
        tokens, grid = module.embed(images)
    for block in sorted(blocks):
        tokens = module.run(tokens, start, block + 1, grid)
        outputs[block], start = tokens, block + 1
    return outputs
