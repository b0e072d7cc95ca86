"""What every kind of anchor has in common: weights of its own, blocks to run, costs.

A stitched backbone asks no more of an anchor than this. The kinds are ``mmsn.models.anchor`` (plain
ViTs) and ``mmsn.models.swin_anchor`` (hierarchical ones).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from mmsn.errors import UserError
from mmsn.models.anchor_weights import load_checkpoint, load_pretrained
from mmsn.models.grid_cache import Grid
from mmsn.stitching import Costs


class AnchorBase(nn.Module, ABC):
    """A pretrained timm network that can be run block by block, at any input size.

    Blocks are counted from the image on, over all stages.

    Attributes:
        vit: timm's network, without what only classification uses.
        plain: its adapter, which knows timm's names.
        token_layout: what must be equal for anchors to exchange tokens; it has ``patch_size``.
        prefix_tokens: tokens before the patches.
        stages: number of blocks of each stage; plain anchors have one stage.
        is_whole: are all blocks and the embedding there? See ``keep``.

    Args:
        model_name, pretrained, checkpoint, prefix, with_cp: see ``mmsn.models.anchor.Anchor``.
        whole: builds the same anchor anew.
    """

    vit: Any
    plain: Any
    token_layout: Any
    rel_pos: Any
    prefix_tokens: int
    stages: tuple[int, ...]
    timm_options: dict[str, Any]

    def __init__(
        self,
        model_name: str,
        pretrained: bool,
        checkpoint: str | None,
        prefix: str,
        with_cp: bool,
        whole: Callable[[], AnchorBase],
    ) -> None:
        super().__init__()
        if pretrained and checkpoint is not None:
            raise UserError(
                f"anchor {model_name!r} has both pretrained=True and checkpoint={checkpoint!r}: "
                "keep one"
            )
        self.model_name, self.pretrained = model_name, pretrained
        self.checkpoint, self.prefix, self.with_cp = checkpoint, prefix, with_cp
        self._whole = whole
        self.rel_pos = None
        self.is_whole = True

    @property
    def depth(self) -> int:
        """Number of blocks of the whole anchor."""
        return sum(self.stages)

    @abstractmethod
    def create(self, pretrained: bool) -> Any:
        """Build timm's network and give its adapter.

        Raises:
            UserError: a name or options that timm or this kind of anchor does not take.
        """

    @abstractmethod
    def keep(self, blocks: Collection[int], embedding: bool) -> None:
        """Remove all other blocks, and the embedding of images unless it is asked for.

        The remaining blocks keep their names in the state dict and their indices in ``run``;
        ``cost`` is still that of the whole anchor.
        """

    @abstractmethod
    def embed(self, image: Tensor) -> tuple[Tensor, Grid]:
        """(B, 3, H, W) image to tokens as the first block reads them, and their (h, w) grid.

        Height and width need not be multiples of the patch: the image is padded below and right.
        """

    @abstractmethod
    def run(self, tokens: Tensor, start: int, stop: int, grid: Grid) -> Tensor:
        """Run blocks ``start`` to ``stop`` (half-open); ``grid`` is that of ``embed``."""

    @abstractmethod
    def empty_tokens(self, image: Tensor, block: int) -> Tensor:
        """Uninitialized tokens as a (B, 3, H, W) image gives them after a block."""

    @abstractmethod
    def block_of(self, name: str) -> int | None:
        """The block that a parameter of this name belongs to; None for the embedding."""

    @abstractmethod
    def cost(self) -> Costs:
        """The shapes that the cost model needs, read off the modules of the whole anchor."""

    def prepare(self, grid: Grid) -> None:
        """Fill the caches for a grid before the first pass."""

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

    def _run_block(self, block: nn.Module, tokens: Tensor, **options: Tensor) -> Tensor:
        """One block, whose activations are recomputed in the backward pass if so chosen."""
        if self.with_cp and _keeps_activations(block, tokens):
            return recompute(partial(block, **options), tokens, use_reentrant=False)
        return block(tokens, **options)


def _keeps_activations(block: nn.Module, tokens: Tensor) -> bool:
    # Frozen blocks keep activations, too, if gradients pass through them to an earlier layer.
    if not torch.is_grad_enabled():
        return False
    return tokens.requires_grad or any(p.requires_grad for p in block.parameters())
