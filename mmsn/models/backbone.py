"""The stitched backbone: several pretrained anchors and the stitching layers between them.

It runs one stitch at a time, the one that is set; it draws nothing. See ``mmsn.engine`` for the
hooks that initialize the stitching layers and draw a stitch for every training iteration. What the
kinds of anchors differ in stands in ``mmsn.models.stitched_vit`` and ``mmsn.models.stitched_swin``.
"""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import cast

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmsn.errors import UserError
from mmsn.models.anchor_base import AnchorBase
from mmsn.models.anchor_checks import check_positions, check_together
from mmsn.models.context_local import ContextLocal
from mmsn.models.prefix_sharing import Level, PassState, SharedPass, SharedPasses
from mmsn.stitching import (
    CostModel,
    LayerKey,
    Stitch,
    StitchingLayer,
    StitchSpace,
)
from mmsn.stitching.space import Mode
from mmsn.stitching.stitch import Join, Run, Step, Tap
from mmsn.stitching.trie import Trie


class StitchedBackbone(BaseModule):
    """One network out of several anchors, with many costs to choose from at run time.

    A single anchor is allowed: the backbone is then that network alone, its only stitch 0.

    Args:
        build: makes each anchor, smallest to largest.
        img_size: (height, width) of the training crop.
        out_indices: gives, of the last anchor, the blocks whose outputs are the feature levels.
            For a stitch that runs a smaller anchor there, its matching block is used.
        level_norms: is there a LayerNorm for each level? See ``_norm_level``.
        others: as in ``mmsn.models.stitched_vit.StitchedViT``.

    Raises:
        UserError: anchors whose tokens cannot be exchanged, or that are not sorted by cost.
        UserError: stitches that these anchors do not have.
    """

    def __init__(
        self,
        build: Sequence[Callable[[], AnchorBase]],
        img_size: tuple[int, int],
        out_indices: Callable[[AnchorBase], tuple[int, ...]],
        eval_levels: Sequence[int] | None,
        space: Mode,
        rank: int,
        alpha: float,
        stitches: Sequence[int] | None,
        freeze_anchors: bool,
        init_cfg: dict | list[dict] | None,
        level_norms: bool = False,
    ) -> None:
        super().__init__(init_cfg)
        self.img_size = img_size
        # For a subset, shapes first: whole anchors are checked and counted on the meta device,
        # and those of which blocks are kept are built again below, with memory.
        with nullcontext() if stitches is None else torch.device("meta"):
            built = [anchor() for anchor in build]
        check_together(built)
        self.space = StitchSpace((anchor.stages for anchor in built), space)
        self.out_indices = out_indices(built[-1])
        self.train_levels = tuple(range(len(self.out_indices)))
        levels = self.train_levels if eval_levels is None else eval_levels
        self.eval_levels = check_positions("eval_levels", levels, len(self.out_indices))
        self.costs = CostModel(
            self.space,
            tuple(anchor.cost() for anchor in built),
            rank,
            self.out_indices,
            level_norms,
        )
        self.layer_keys = self.space.layer_keys
        if stitches is not None:
            self.space = self.space.subset(stitches)
            parts = self.space.parts(self.space, self.out_indices, self.train_levels)
            self.layer_keys = tuple(key for key in self.layer_keys if key in parts.layers)
            for index, make in enumerate(build):
                blocks = {block for anchor, block in parts.blocks if anchor == index}
                if blocks:
                    built[index] = make()
                built[index].keep(blocks, index in parts.embeddings)
        self.anchors = nn.ModuleList(built)
        self.stitching_layers = nn.ModuleDict(
            {
                layer_name(key): StitchingLayer(*self.costs.layer_dims(key), rank, alpha)
                for key in self.layer_keys
            }
        )
        self.freeze_anchors = freeze_anchors
        if freeze_anchors:
            self.anchors.requires_grad_(False)
        # The default stitch: the largest anchor alone, or the most expensive stitch of a subset.
        macs = self.stitch_macs(self.img_size)
        last = len(built) - 1
        self._stitch = self.space[last if last in macs else max(macs, key=lambda i: macs[i])]
        # Three places that name a stitch, highest priority first: the ``use_stitch`` of this thread
        # or task, the draw of a training step, the stitch that was set. ``forward`` only reads
        # them.
        self._drawn: tuple[Stitch, ...] = ()
        self._is_chosen = len(self.space) == 1  # False until a stitch to train is named
        self._in_use: ContextLocal[Stitch] = ContextLocal()
        self._shared: ContextLocal[SharedPass | None] = ContextLocal()

    @property
    def stitch(self) -> Stitch:
        """The stitch that ``forward`` runs if this thread calls it."""
        return self._in_use.get() or self._stitch

    def set_stitch(self, stitch_id: int) -> None:
        """Choose the stitch that ``forward`` runs from now on, outside of ``use_stitch``.

        Raises:
            UserError: an id that the space does not have.
        """
        self._stitch, self._drawn, self._is_chosen = self.space[stitch_id], (), True

    def set_training_stitches(self, ids: Sequence[int]) -> None:
        """Choose the stitches that ``forward`` runs in training mode; none: that of evaluation.

        The batch is cut into as many consecutive parts as there are ids, of equal size up to one
        image, and each part runs its stitch; the levels hold the whole batch again. So one step
        trains several stitches at the cost of one, and any neck, head and loss can follow.
        Evaluation mode ignores this, and ``use_stitch`` and ``set_stitch`` override it.

        Raises:
            UserError: an id that the space does not have.
        """
        self._drawn = tuple(self.space[stitch_id] for stitch_id in ids)

    @property
    def training_stitches(self) -> tuple[Stitch, ...]:
        """The stitches that ``forward`` runs in training mode, one per part of the batch."""
        in_use = self._in_use.get()
        return (in_use,) if in_use else self._drawn or (self._stitch,)

    def _warn_of_one_stitch(self) -> None:
        """Warn once where training mode runs the default stitch, which is rarely intended."""
        if not (self._is_chosen or self._drawn or self._in_use.get()):
            self._is_chosen = True  # the warning is not repeated
            print_log(
                f"Nothing draws stitches, so training runs stitch {self._stitch.id} alone: add "
                "dict(type='mmsn.StitchInitHook') and "
                "dict(type='mmsn.FLOPsConstrainedSamplingHook') to custom_hooks, or call "
                "set_stitch if one stitch is meant",
                logger="current",
                level=logging.WARNING,
            )

    @contextmanager
    def use_stitch(self, stitch_id: int, passes: SharedPasses | None = None) -> Iterator[Stitch]:
        """Run a stitch inside a ``with`` block, whatever other threads run meanwhile.

        With ``passes`` of ``share_prefixes`` it shares the work of the stitches before it.
        """
        stitch = self.space[stitch_id]
        shared = None if passes is None else passes.begin(stitch)
        with self._in_use.use(stitch), self._shared.use(shared):
            yield stitch

    def trie(self, ids: Iterable[int]) -> Trie:
        """The routes of stitches in evaluation mode, in the order in which they share most."""
        return Trie(self.space, ids, self.out_indices, self.eval_levels)

    def share_prefixes(self, stitches: Trie | Iterable[int]) -> SharedPasses:
        """What stitches need to run shared beginnings once on the same sequence of inputs.

        Make one per batch, and build the trie once for all batches. Run each stitch in
        ``with backbone.use_stitch(stitch_id, passes)``, best in the order of
        ``passes.trie.order``. Results are bit for bit those of each stitch alone.

        Raises:
            RuntimeError: in training mode.
        """
        if self.training:
            raise RuntimeError("stitches share work in evaluation mode only: call model.eval()")
        trie = stitches if isinstance(stitches, Trie) else self.trie(stitches)
        return SharedPasses(trie, self.begin, self.advance)

    def stitch_macs(
        self, image_size: tuple[int, int], levels: Sequence[int] | None = None
    ) -> dict[int, int]:
        """Multiply-accumulates of the backbone for one (height, width) image, by stitch id.

        ``levels`` that are read: those of evaluation mode by default.
        """
        levels = self.eval_levels if levels is None else levels
        return {stitch.id: self.costs.macs(stitch, image_size, levels) for stitch in self.space}

    def stitch_params(self, levels: Sequence[int] | None = None) -> dict[int, int]:
        """Parameters of the backbone that each stitch uses, by id."""
        levels = self.eval_levels if levels is None else levels
        return {stitch.id: self.costs.params(stitch, levels) for stitch in self.space}

    def anchor(self, index: int) -> AnchorBase:
        """One of the anchors, counted from the smallest."""
        return cast(AnchorBase, self.anchors[index])

    @property
    def uninitialized(self) -> tuple[LayerKey, ...]:
        """Stitching layers that neither least squares nor a checkpoint has filled."""
        return tuple(key for key in self.layer_keys if not self.layer(key).initialized)

    def layer(self, key: LayerKey) -> StitchingLayer:
        """The stitching layer of this name."""
        return cast(StitchingLayer, self.stitching_layers[layer_name(key)])

    def init_weights(self) -> None:
        """Load what the anchors name as their weights; mm runners call it before training."""
        if self.is_init:  # a second call must not undo training
            return
        for index in range(len(self.anchors)):
            self.anchor(index).init_weights()
        self._is_init = True
        if self.init_cfg:  # else mmengine would only list that nothing changed
            super().init_weights()

    def train(self, mode: bool = True) -> StitchedBackbone:
        """As in every module; frozen anchors stay in evaluation mode."""
        super().train(mode)
        if self.freeze_anchors:
            self.anchors.eval()
        return self

    def forward(self, image: Tensor) -> tuple[Level | None, ...]:
        """(B, 3, H, W) image to one (B, C, h, w) map per level; None for an unread level."""
        if self.training:
            self._warn_of_one_stitch()
            stitches = self.training_stitches
            if len(image) < len(stitches):
                raise UserError(
                    f"a batch of {len(image)} images cannot train {len(stitches)} stitches at "
                    "once: raise the batch size, or lower `parts` of the sampling hook"
                )
            # Consecutive parts, so that concatenation restores the order of images and labels.
            parts = image.tensor_split(len(stitches))
            passes = [
                self._run(part, stitch, self.train_levels)
                for part, stitch in zip(parts, stitches, strict=True)
            ]
            return passes[0] if len(passes) == 1 else tuple(map(_join_parts, *passes))
        shared = self._shared.get()  # set by the ``use_stitch`` that set the stitch
        if shared is not None:
            return tuple(shared.forward(image))
        return self._run(image, self.stitch, self.eval_levels)

    def _run(
        self, image: Tensor, stitch: Stitch, levels: Sequence[int]
    ) -> tuple[Level | None, ...]:
        state = self.begin(image, stitch.segments[0].anchor)
        for step in self.space.route(stitch, self.out_indices, levels):
            self.advance(state, step)
        return tuple(state.levels)

    def begin(self, image: Tensor, anchor: int) -> PassState:
        """The state of a pass before its first step: (B, 3, H, W) images embedded in an anchor."""
        tokens, grid = self.anchor(anchor).embed(image)
        return PassState(tokens, grid, [None] * len(self.out_indices))

    def advance(self, state: PassState, step: Step) -> None:
        """Take one step of a route, in place."""
        match step:
            case Run(anchor, start, stop):
                state.carried.clear()
                state.tokens = self.anchor(anchor).run(state.tokens, start, stop, state.grid)
            case Join(key):
                state.tokens = self._carry(state, (key,))
            case Tap(level, path):
                tokens = self._norm_level(self._carry(state, path), level)
                state.levels[level] = self._to_level(tokens, state.grid)

    def _carry(self, state: PassState, path: Sequence[LayerKey]) -> Tensor:
        tokens = state.tokens
        for key in path:
            if key not in state.carried:
                state.carried[key] = self.layer(key)(tokens)
            tokens = state.carried[key]
        return tokens

    def _norm_level(self, tokens: Tensor, level: int) -> Tensor:
        """The tokens of a level, at the last anchor's width, as heads should get them."""
        return tokens

    @abstractmethod
    def _to_level(self, tokens: Tensor, grid: tuple[int, int]) -> Level:
        """Tokens of a level in the layout that heads read; ``grid`` is that of the embedding."""

    def grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """(rows, columns) of patches of a (height, width) image, padded to whole patches."""
        patch_height, patch_width = self.anchor(0).token_layout.patch_size
        height, width = image_size
        return math.ceil(height / patch_height), math.ceil(width / patch_width)

    def zero_levels(
        self, image_size: tuple[int, int], device: str | None = None
    ) -> tuple[Level, ...]:
        """Levels of zeros as one (height, width) image would give them, to count heads with."""
        image = next(self.parameters()).new_empty(1, 3, *image_size, device=device)
        blank = (self.anchor(-1).empty_tokens(image, block).zero_() for block in self.out_indices)
        return tuple(self._to_level(tokens, self.grid(image_size)) for tokens in blank)


def _join_parts(*parts: Level) -> Level:
    """One level of the whole batch out of those of its parts."""
    if isinstance(parts[0], tuple):
        maps, class_tokens = zip(*parts, strict=True)
        return torch.cat(maps), torch.cat(class_tokens)
    return torch.cat(cast(tuple[Tensor, ...], parts))


def layer_name(key: LayerKey) -> str:
    """Name of a stitching layer in the state dict, for example ``0_to_1_after_4``."""
    return f"{key.source}_to_{key.target}_after_{key.unit}"
