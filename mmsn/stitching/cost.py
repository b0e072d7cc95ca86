"""What a stitch costs, in closed form: nothing is run, traced or even allocated.

"FLOPs" in the papers, and MACs here, are multiply-accumulates of linear layers, convolutions and
attention products, plus 5 per normalized element, which is how fvcore counts LayerNorm. Softmax,
GELU, LayerScale and additions are free. Counts are per image and are of what is really executed:
every low-rank update, and each stitching layer once. Unread levels are skipped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mmsn.stitching.space import LayerKey, Stitch, StitchSpace, Tap

NORM_MACS_PER_ELEMENT = 5


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
    """The shapes of one anchor that its cost depends on.

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

    def embed_macs(self, tokens: int) -> int:
        """MACs of the patch embedding and, if there is one, the norm before the blocks."""
        patches = tokens - self.prefix_tokens
        return patches * self.embed_linear + NORM_MACS_PER_ELEMENT * tokens * self.embed_norm


@dataclass(frozen=True)
class CostModel:
    """MACs and parameters of every stitch of a space.

    Args:
        space: the stitches.
        anchors: one entry per anchor.
        rank: rank of the stitching layers' update.
        out_indices: blocks of the last anchor that give the feature levels.
    """

    space: StitchSpace
    anchors: tuple[AnchorCost, ...]
    rank: int
    out_indices: tuple[int, ...]

    def breakdown(
        self, stitch: Stitch, image_size: tuple[int, int], levels: Sequence[int]
    ) -> dict[str, int]:
        """MACs by part: ``embed``, ``blocks`` and ``stitching``."""
        first = self.anchors[stitch.segments[0].anchor]
        tokens = first.tokens(image_size)
        # A set of what runs, so a layer that serves a join and a level counts once.
        parts = self.space.parts([stitch], self.out_indices, levels)
        return {
            "embed": first.embed_macs(tokens),
            "blocks": sum(
                self.anchors[anchor].blocks[block].macs(tokens) for anchor, block in parts.blocks
            ),
            "stitching": tokens * sum(self.layer_weights(key) for key in parts.layers),
        }

    def macs(self, stitch: Stitch, image_size: tuple[int, int], levels: Sequence[int]) -> int:
        """MACs of the backbone for one image of (height, width) pixels."""
        return sum(self.breakdown(stitch, image_size, levels).values())

    def published_macs(
        self, stitch: Stitch, image_size: tuple[int, int], traced_levels: Sequence[int]
    ) -> int:
        """MACs as the published FLOPs files count them; ``macs`` is what is executed here.

        There, the low-rank update is merged, a layer that serves a join and a level runs twice,
        and ``traced_levels`` are those that survive tracing: 0 and 3 for the SETR head, whose
        trace keeps level 0 because its shape is read; all four for DPT.
        """
        parts = self.breakdown(stitch, image_size, traced_levels)
        route = self.space.route(stitch, self.out_indices, traced_levels)
        # A list, unlike in ``breakdown``: with repeats, and with joins after the last level.
        layers = list(self.space.joins(stitch))
        layers += [key for step in route if isinstance(step, Tap) for key in step.path]
        dims = [anchor.dim for anchor in self.anchors]
        per_token = sum(dims[key.source] * dims[key.target] for key in layers)
        tokens = self.anchors[stitch.segments[0].anchor].tokens(image_size)
        return parts["embed"] + parts["blocks"] + tokens * per_token

    def params(self, stitch: Stitch, levels: Sequence[int]) -> int:
        """Parameters of the backbone that this stitch uses."""
        parts = self.space.parts([stitch], self.out_indices, levels)
        total = self.anchors[stitch.segments[0].anchor].embed_params
        total += sum(self.anchors[anchor].blocks[block].params for anchor, block in parts.blocks)
        # A bias is added per token, which counts as free in MACs, but it is a parameter.
        biases = sum(self.anchors[key.target].dim for key in parts.layers)
        return total + biases + sum(self.layer_weights(key) for key in parts.layers)

    def layer_weights(self, key: LayerKey) -> int:
        """Weights of a stitching layer without its bias: MACs per token."""
        source, target = self.anchors[key.source].dim, self.anchors[key.target].dim
        return source * target + self.rank * (source + target)
