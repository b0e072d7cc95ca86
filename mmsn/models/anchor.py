"""An anchor: one of timm's plain ViTs behind the few calls that stitching needs.

timm builds the ViT, so any family of its ``VisionTransformer`` and ``Eva`` classes works; see
``mmsn.models.timm_vits``. What only classification uses (final norm, pooling, head) is removed,
because dense heads read raw block outputs. Not here: loading (``mmsn.models.anchor_weights``) and
counting (``mmsn.models.anchor_cost``).
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from mmsn.errors import UserError
from mmsn.models.anchor_cost import count
from mmsn.models.anchor_weights import load_checkpoint, load_pretrained
from mmsn.models.grid_cache import Grid
from mmsn.models.rel_pos import RelativePositionBias
from mmsn.models.timm_vits import EMBEDDING_PARAMETERS, TokenLayout, create
from mmsn.stitching import AnchorCost


class Anchor(nn.Module):
    """A plain timm ViT that can be run block by block, at any input size.

    Args:
        model_name: a timm name, for example ``vit_small_patch16_dinov3.lvd1689m``.
        img_size: (height, width) for which position embeddings are stored; other sizes resample
            them on the fly.
        pretrained: take timm's published weights, when weights are initialized.
        checkpoint: take the weights of this local .pth or .safetensors file instead. Position and
            patch embeddings of another size are resampled by timm's own rules.
        prefix: part of the checkpoint's keys before timm's names; ``backbone.anchors.0.`` for an
            anchor trained with this package.
        rel_pos_bias: add a trained relative position bias to every attention, as the published
            SN-Netv2 segmentors do; zero at first.
        with_cp: recompute blocks in the backward pass, to save memory.
        timm_options: anything else that timm's model takes, for example ``drop_path_rate``.
    """

    def __init__(
        self,
        model_name: str,
        img_size: tuple[int, int],
        pretrained: bool = False,
        checkpoint: str | None = None,
        prefix: str = "",
        rel_pos_bias: bool = False,
        with_cp: bool = False,
        **timm_options: Any,
    ) -> None:
        super().__init__()
        if pretrained and checkpoint is not None:
            raise UserError(
                f"anchor {model_name!r} has both pretrained=True and checkpoint={checkpoint!r}: "
                "keep one"
            )
        self._whole = partial(
            Anchor,
            model_name,
            img_size,
            pretrained,
            checkpoint,
            prefix,
            rel_pos_bias,
            with_cp,
            **timm_options,
        )
        self.model_name, self.pretrained = model_name, pretrained
        self.checkpoint, self.prefix, self.with_cp = checkpoint, prefix, with_cp
        self.timm_options = dict(
            num_classes=0,
            img_size=img_size,
            dynamic_img_size=True,
            dynamic_img_pad=True,
            **timm_options,
        )
        self.plain = create(model_name, False, self.timm_options)
        self.vit = self.plain.vit
        self.token_layout: TokenLayout = self.plain.layout
        self.prefix_tokens: int = self.token_layout.prefix_tokens
        self.depth: int = len(self.vit.blocks)
        self.dim: int = self.vit.embed_dim
        self.rel_pos = self._relative_positions() if rel_pos_bias else None
        self._cost = count(self.plain, self.rel_pos)  # before ``keep`` takes blocks away
        self.is_whole = True

    def _relative_positions(self) -> RelativePositionBias:
        layout = self.token_layout
        if (layout.class_tokens, layout.register_tokens) != (1, 0):
            raise UserError(
                f"anchor {self.model_name!r} has {layout.class_tokens} class and "
                f"{layout.register_tokens} register tokens, but rel_pos_bias needs one class token "
                "alone"
            )
        heads = self.vit.blocks[0].attn.num_heads
        return RelativePositionBias(self.depth, heads, tuple(self.vit.patch_embed.grid_size))

    def keep(self, blocks: Collection[int], embedding: bool) -> None:
        """Remove all other blocks, and the embedding of images unless it is asked for.

        The remaining blocks keep their names in the state dict and their indices in ``run``;
        ``cost`` is still that of the whole anchor.
        """
        for index in set(range(self.depth)).difference(blocks):
            self.vit.blocks[index] = nn.Identity()
            if self.rel_pos is not None:
                del self.rel_pos.tables[str(index)]
        if not embedding:
            self.vit.patch_embed, self.vit.norm_pre = nn.Identity(), nn.Identity()
            for name in EMBEDDING_PARAMETERS:
                if getattr(self.vit, name, None) is not None:
                    setattr(self.vit, name, None)
        if not blocks and getattr(self.vit, "rope", None) is not None:
            self.vit.rope = None  # it may hold parameters of blocks
        self.is_whole = embedding and len(blocks) == self.depth

    def init_weights(self) -> None:
        """Load the pretrained weights or the checkpoint, if the anchor has one.

        Raises:
            MissingFile: the checkpoint is not there.
            RuntimeError: pretrained weights could not be loaded.
            UserError: keys are missing, unknown or of another shape; all are listed.
        """
        if not self.is_whole:
            if self.pretrained or self.checkpoint is not None:
                whole = self._whole()
                whole.init_weights()
                self.load_state_dict({k: whole.state_dict()[k] for k in self.state_dict()})
        elif self.pretrained:
            load_pretrained(self)
        elif self.checkpoint is not None:
            load_checkpoint(self, self.checkpoint, self.prefix)

    def embed(self, image: Tensor) -> tuple[Tensor, Grid]:
        """(B, 3, H, W) image to (B, N, C) tokens with position embedding, and the (h, w) grid.

        Height and width need not be multiples of the patch: the image is padded below and right.
        """
        return self.plain.embed(image)

    def run(self, tokens: Tensor, start: int, stop: int, grid: Grid) -> Tensor:
        """Run blocks ``start`` to ``stop`` (half-open) on (B, N, C) tokens of an (h, w) grid."""
        for index in range(start, stop):
            block, options = self.vit.blocks[index], self.plain.block_options(index, grid)
            if self.rel_pos is not None:
                options["attn_mask"] = self.rel_pos(index, grid)
            if self.with_cp and self._keeps_activations(block, tokens):
                tokens = recompute(partial(block, **options), tokens, use_reentrant=False)
            else:
                tokens = block(tokens, **options)
        return tokens

    def _keeps_activations(self, block: nn.Module, tokens: Tensor) -> bool:
        # Frozen blocks keep activations, too, if gradients pass through them to an earlier layer.
        if not torch.is_grad_enabled():
            return False
        return tokens.requires_grad or any(p.requires_grad for p in block.parameters())

    def prepare(self, grid: Grid) -> None:
        """Fill the caches for a grid before the first pass."""
        for index, block in enumerate(self.vit.blocks):
            if not isinstance(block, nn.Identity):
                self.plain.block_options(index, grid)
                if self.rel_pos is not None:
                    self.rel_pos(index, grid)
                return

    def cost(self) -> AnchorCost:
        """The shapes that the cost model needs, read from the modules of the whole anchor."""
        return self._cost
