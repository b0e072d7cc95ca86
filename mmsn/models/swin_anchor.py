"""A hierarchical anchor: one of timm's Swin Transformers behind the calls that stitching needs.

Tokens are (B, h, w, C) maps here. The merging of patches, which halves the grid and doubles the
width, belongs to the first block of its stage, as in timm. What only classification uses (final
norm, pooling, head) is removed.

Any image size runs: images are padded to whole patches, odd grids before merging, and each block
pads its grid to whole windows, as timm does. Windows are those of ``img_size``: a stage whose grid
is smaller than the window there has a window of that grid. Left out on purpose: Swin V2, whose
blocks are of another class.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import partial
from itertools import accumulate
from typing import Any, NamedTuple

import timm
from timm.models import is_model_in_modules, swin_transformer
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor, nn

from mmsn.errors import UserError
from mmsn.models.anchor_base import AnchorBase
from mmsn.models.anchor_cost import normalized_of, params_of, weights_of
from mmsn.models.grid_cache import Grid
from mmsn.models.timm_vits import create_timm
from mmsn.stitching import StagedCost, WindowBlockCost

MODULES = ("swin_transformer",)  # of timm
BLOCK = re.compile(r"vit\.layers\.(\d+)\.(?:downsample|blocks\.(\d+))\.")


class StageLayout(NamedTuple):
    """What a map of tokens stands for; tokens can pass between anchors only if it is the same."""

    patch_size: tuple[int, int]
    stages: int

    def __str__(self) -> str:
        height, width = self.patch_size
        return f"patch_size {height}x{width}, {self.stages} stages"


class Swin:
    """The adapter of timm's ``SwinTransformer``; see ``mmsn.models.timm_vits.PlainViT``."""

    def __init__(self, vit: Any) -> None:
        self.vit = vit

    def convert(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """A checkpoint in timm's names and sizes; Microsoft's own code is known, too."""
        return swin_transformer.checkpoint_filter_fn(state, self.vit)


class SwinAnchor(AnchorBase):
    """A timm Swin that can be run block by block, at any input size.

    Args:
        model_name: a timm name, for example ``swin_tiny_patch4_window7_224.ms_in1k``.
        img_size: (height, width) of the training crop, for which windows are laid out.
        pretrained, checkpoint, prefix, with_cp: as in ``mmsn.models.anchor.Anchor``.
        timm_options: anything else that timm's model takes, for example ``drop_path_rate``.
    """

    prefix_tokens = 0

    def __init__(
        self,
        model_name: str,
        img_size: tuple[int, int],
        pretrained: bool = False,
        checkpoint: str | None = None,
        prefix: str = "",
        with_cp: bool = False,
        **timm_options: Any,
    ) -> None:
        whole = partial(
            SwinAnchor,
            model_name,
            img_size,
            pretrained,
            checkpoint,
            prefix,
            with_cp,
            **timm_options,
        )
        super().__init__(model_name, pretrained, checkpoint, prefix, with_cp, whole)
        self.timm_options = dict(
            num_classes=0, img_size=img_size, strict_img_size=False, **timm_options
        )
        self.plain = self.create(False)
        self.vit = self.plain.vit
        patch_height, patch_width = self.vit.patch_embed.patch_size
        self.token_layout = StageLayout((patch_height, patch_width), len(self.vit.layers))
        self.stages = tuple(len(layer.blocks) for layer in self.vit.layers)
        self.stage_ends = tuple(end - 1 for end in accumulate(self.stages))
        self._cost = _count(self.vit)  # before ``keep`` takes blocks away
        self.dim = self._cost.dims[-1]

    def create(self, pretrained: bool) -> Swin:
        """See ``AnchorBase``."""
        # Before it is built: other models do not even take the options of a Swin.
        if timm.is_model(self.model_name) and not is_model_in_modules(self.model_name, MODULES):
            raise UserError(
                f"anchor {self.model_name!r} is not a Swin of the kind that StitchedSwin takes: "
                "choose one of timm's SwinTransformer, for example 'swin_tiny_patch4_window7_224'"
            )
        vit = create_timm(self.model_name, pretrained, self.timm_options, "timm Swin")
        vit.norm, vit.head = nn.Identity(), nn.Identity()
        vit.patch_embed.dynamic_img_pad = True  # which Swin's own options do not reach
        return Swin(vit)

    def _place(self, block: int) -> tuple[int, int]:
        """The stage of a block, and its position there."""
        stage = self._cost.stage_of(block)
        return stage, block - sum(self.stages[:stage])

    def keep(self, blocks: Collection[int], embedding: bool) -> None:
        """See ``AnchorBase``; a merging goes with the first block of its stage."""
        for block in set(range(self.depth)).difference(blocks):
            stage, position = self._place(block)
            self.vit.layers[stage].blocks[position] = nn.Identity()
            if position == 0:
                self.vit.layers[stage].downsample = nn.Identity()
        if not embedding:
            self.vit.patch_embed = nn.Identity()
        self.is_whole = embedding and len(blocks) == self.depth

    def embed(self, image: Tensor) -> tuple[Tensor, Grid]:
        """(B, 3, H, W) image to (B, h, w, C) tokens, and the (h, w) grid."""
        tokens = self.vit.patch_embed(image)
        return tokens, (tokens.shape[1], tokens.shape[2])

    def run(self, tokens: Tensor, start: int, stop: int, grid: Grid) -> Tensor:
        """Run blocks ``start`` to ``stop`` (half-open) on (B, h, w, C) tokens.

        Their own shape says which grid they have; that of the embedding is not needed.
        """
        for block in range(start, stop):
            stage, position = self._place(block)
            layer = self.vit.layers[stage]
            if position == 0:
                tokens = layer.downsample(tokens)
            tokens = self._run_block(layer.blocks[position], tokens)
        return tokens

    def empty_tokens(self, image: Tensor, block: int) -> Tensor:
        """Uninitialized (B, h, w, C) tokens as an image gives them after a block."""
        grid = self._cost.grid_after(block, (image.shape[2], image.shape[3]))
        return image.new_empty(len(image), *grid, self._cost.dim_after(block))

    def block_of(self, name: str) -> int | None:
        """See ``AnchorBase``; a merging belongs to the first block of its stage."""
        found = BLOCK.match(name)
        if found is None:
            return None
        return sum(self.stages[: int(found[1])]) + int(found[2] or 0)

    def cost(self) -> StagedCost:
        """See ``AnchorBase``."""
        return self._cost


def _count(vit: Any) -> StagedCost:
    """The cost of a whole Swin, read off its modules."""
    embedding = vit.patch_embed
    return StagedCost(
        patch_size=tuple(embedding.patch_size),
        embed_linear=weights_of(embedding),
        embed_norm=normalized_of(embedding),
        embed_params=params_of(embedding),
        dims=tuple(layer.blocks[0].dim for layer in vit.layers),
        stages=tuple(
            tuple(
                _count_block(block, layer.downsample if position == 0 else nn.Identity())
                for position, block in enumerate(layer.blocks)
            )
            for layer in vit.layers
        ),
    )


def _count_block(block: SwinTransformerBlock, merging: nn.Module) -> WindowBlockCost:
    return WindowBlockCost(
        attention_linear=weights_of(block.attn),
        mlp_linear=weights_of(block.mlp),
        norm=normalized_of(block),
        params=params_of(block),
        attention_dim=block.attn.qkv.out_features // 3,
        window=block.window_size,
        shifted=any(block.shift_size),
        merge_linear=weights_of(merging),
        merge_norm=normalized_of(merging),
        merge_params=params_of(merging),
    )
