"""What a stitch costs, in closed form: nothing is run, traced or even allocated.

"FLOPs" in the papers, and MACs here, are multiply-accumulates of linear layers, convolutions and
attention products, plus 5 per normalized element, which is how fvcore counts LayerNorm. Softmax,
GELU, LayerScale and additions are free. Counts are per image and are of what is really executed:
every low-rank update, and each stitching layer once. Unread levels are skipped.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mmsn.stitching.space import StitchSpace
from mmsn.stitching.stitch import LayerKey, Stitch, Tap

NORM_MACS_PER_ELEMENT = 5


class Costs(Protocol):
    """What ``CostModel`` asks of an anchor, plain or hierarchical. Block -1 is the embedding."""

    @property
    def blocks(self) -> Sequence[Hashable]:
        """A description of each block; blocks with equal ones run alike on equal tokens."""

    @property
    def embed_params(self) -> int:
        """Parameters of the embedding."""

    def embed_macs(self, image_size: tuple[int, int]) -> int:
        """MACs of embedding an image of (height, width) pixels."""

    def block_macs(self, block: int, image_size: tuple[int, int]) -> int:
        """MACs of a block for such an image."""

    def block_params(self, block: int) -> int:
        """Parameters of a block."""

    def tokens_after(self, block: int, image_size: tuple[int, int]) -> int:
        """Tokens of such an image after a block, prefix tokens included."""

    def dim_after(self, block: int) -> int:
        """Width of the tokens after a block."""


@dataclass(frozen=True)
class BlockCost:
    """The shapes of one transformer block that its cost depends on.

    ``linear`` is the weights of linear layers, that is MACs per token: 12·d² for an ordinary
    block, 4·d² + 3·d·h with a SwiGLU of hidden width h. ``norm`` is normalized elements per token.
    ``attention_dim`` is the width of queries, summed over heads.
    """

    linear: int
    norm: int
    params: int
    attention_dim: int

    def macs(self, tokens: int) -> int:
        """MACs for this many tokens: 12·N·d² + 2·N²·d + 10·N·d for an ordinary block."""
        attention = 2 * tokens * tokens * self.attention_dim
        return tokens * self.linear + attention + NORM_MACS_PER_ELEMENT * tokens * self.norm


@dataclass(frozen=True)
class AnchorCost:
    """The shapes of one plain anchor that its cost depends on.

    ``embed_linear`` is the weights of the patch embedding, that is MACs per patch; ``embed_norm``
    is normalized elements per token before the first block. Prefix tokens are class tokens and
    registers.
    """

    dim: int
    patch_size: tuple[int, int]
    prefix_tokens: int
    embed_linear: int
    embed_norm: int
    embed_params: int
    blocks: tuple[BlockCost, ...]

    @property
    def params(self) -> int:
        """Parameters of the whole anchor."""
        return self.embed_params + sum(block.params for block in self.blocks)

    def tokens(self, image_size: tuple[int, int]) -> int:
        """Tokens of an image of (height, width) pixels, prefix tokens included."""
        (height, width), (patch_h, patch_w) = image_size, self.patch_size
        return math.ceil(height / patch_h) * math.ceil(width / patch_w) + self.prefix_tokens

    def embed_macs(self, image_size: tuple[int, int]) -> int:
        """MACs of the patch embedding and, if there is one, the norm before the blocks."""
        tokens = self.tokens(image_size)
        patches = tokens - self.prefix_tokens
        return patches * self.embed_linear + NORM_MACS_PER_ELEMENT * tokens * self.embed_norm

    def block_macs(self, block: int, image_size: tuple[int, int]) -> int:
        """MACs of a block."""
        return self.blocks[block].macs(self.tokens(image_size))

    def block_params(self, block: int) -> int:
        """Parameters of a block."""
        return self.blocks[block].params

    def tokens_after(self, block: int, image_size: tuple[int, int]) -> int:
        """Tokens, which are the same after every block."""
        return self.tokens(image_size)

    def dim_after(self, block: int) -> int:
        """Width, which is the same after every block."""
        return self.dim


@dataclass(frozen=True)
class CostModel:
    """MACs and parameters of every stitch of a space.

    Args:
        space: the stitches.
        anchors: one entry per anchor.
        rank: rank of the stitching layers' update.
        out_indices: blocks of the last anchor that give the feature levels.
        level_norms: a LayerNorm follows each level, as wide as the last anchor is there.
    """

    space: StitchSpace
    anchors: Sequence[Costs]
    rank: int
    out_indices: tuple[int, ...]
    level_norms: bool = False

    def breakdown(
        self, stitch: Stitch, image_size: tuple[int, int], levels: Sequence[int]
    ) -> dict[str, int]:
        """MACs by part: ``embed``, ``blocks``, ``stitching`` and ``norms`` of levels."""
        parts = self.space.parts([stitch], self.out_indices, levels)
        route = self.space.route(stitch, self.out_indices, levels)
        last = self.anchors[-1]
        normed = [self.out_indices[level] for level in levels] if self.level_norms else []
        return {
            "embed": self.anchors[stitch.segments[0].anchor].embed_macs(image_size),
            "blocks": sum(
                self.anchors[anchor].block_macs(block, image_size) for anchor, block in parts.blocks
            ),
            "stitching": sum(
                self.layer_macs(key, image_size) for key in self.space.layer_runs(route)
            ),
            "norms": NORM_MACS_PER_ELEMENT
            * sum(last.tokens_after(block, image_size) * last.dim_after(block) for block in normed),
        }

    def macs(self, stitch: Stitch, image_size: tuple[int, int], levels: Sequence[int]) -> int:
        """MACs of the backbone for one image of (height, width) pixels."""
        return sum(self.breakdown(stitch, image_size, levels).values())

    def chain_macs(self, stitch: Stitch, image_size: tuple[int, int]) -> int:
        """MACs of all segments to their ends and the joins between them, without levels.

        It is what a classifier runs before its norm and its linear layer.
        """
        total = self.anchors[stitch.segments[0].anchor].embed_macs(image_size)
        for anchor, start, stop in stitch.segments:
            blocks = range(start, stop)
            total += sum(self.anchors[anchor].block_macs(block, image_size) for block in blocks)
        return total + sum(self.layer_macs(key, image_size) for key in self.space.joins(stitch))

    def chain_params(self, stitch: Stitch) -> int:
        """Parameters of what ``chain_macs`` counts."""
        total = self.anchors[stitch.segments[0].anchor].embed_params
        for anchor, start, stop in stitch.segments:
            total += sum(self.anchors[anchor].block_params(block) for block in range(start, stop))
        return total + sum(map(self._layer_params, self.space.joins(stitch)))

    def published_macs(
        self, stitch: Stitch, image_size: tuple[int, int], traced_levels: Sequence[int]
    ) -> int:
        """MACs as SN-Netv2's FLOPs files count them; ``macs`` is what is executed here.

        There, the low-rank update is merged, a layer that serves a join and a level runs twice,
        and ``traced_levels`` are those that survive tracing: 0 and 3 for the SETR head, whose
        trace keeps level 0 because its shape is read; all four for DPT.
        """
        parts = self.breakdown(stitch, image_size, traced_levels)
        route = self.space.route(stitch, self.out_indices, traced_levels)
        # Unlike in ``breakdown``: with repeats at one place, and with joins after the last level.
        layers = list(self.space.joins(stitch))
        layers += [key for step in route if isinstance(step, Tap) for key in step.path]
        merged = (math.prod(self.layer_dims(key)) * self._tokens(key, image_size) for key in layers)
        return parts["embed"] + parts["blocks"] + sum(merged)

    def params(self, stitch: Stitch, levels: Sequence[int]) -> int:
        """Parameters of the backbone that this stitch uses."""
        parts = self.space.parts([stitch], self.out_indices, levels)
        total = self.anchors[stitch.segments[0].anchor].embed_params
        total += sum(self.anchors[anchor].block_params(block) for anchor, block in parts.blocks)
        if self.level_norms:
            last = self.anchors[-1]
            total += sum(2 * last.dim_after(self.out_indices[level]) for level in levels)
        return total + sum(map(self._layer_params, parts.layers))

    def layer_dims(self, key: LayerKey) -> tuple[int, int]:
        """Widths of the tokens that a stitching layer reads and gives."""
        pair = min(key.source, key.target)
        source, target = (
            self.anchors[anchor].dim_after(self.space.unit_end(anchor, pair, key.unit))
            for anchor in (key.source, key.target)
        )
        return source, target

    def layer_weights(self, key: LayerKey) -> int:
        """Weights of a stitching layer without its bias: MACs per token."""
        source, target = self.layer_dims(key)
        return source * target + self.rank * (source + target)

    def _layer_params(self, key: LayerKey) -> int:
        # A bias is added per token, which counts as free in MACs, but it is a parameter.
        return self.layer_weights(key) + self.layer_dims(key)[1]

    def _tokens(self, key: LayerKey, image_size: tuple[int, int]) -> int:
        block = self.space.unit_end(key.source, min(key.source, key.target), key.unit)
        return self.anchors[key.source].tokens_after(block, image_size)

    def layer_macs(self, key: LayerKey, image_size: tuple[int, int]) -> int:
        """MACs of a stitching layer for one image."""
        return self._tokens(key, image_size) * self.layer_weights(key)
