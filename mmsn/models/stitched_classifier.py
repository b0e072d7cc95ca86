"""Image classification with stitches: each ends in the classifier of its last anchor.

The backbone gives logits, so it fits under ``ImageClassifier`` and ``ClsHead`` of mmpretrain, whose
``ClsHead`` has no parameters of its own. Nothing here needs mmpretrain to be installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from mmsn.errors import UserError
from mmsn.models.anchor import Anchor
from mmsn.models.anchor_checks import check_image_size, check_specs
from mmsn.models.anchor_classifier import AnchorClassifier
from mmsn.models.backbone import layer_name
from mmsn.models.prefix_sharing import Level, PassState
from mmsn.models.stitched_vit import StitchedViT
from mmsn.registry import MODELS
from mmsn.stitching import Stitch
from mmsn.stitching.stitch import Step, Tap


@MODELS.register_module()
class StitchedClassifier(StitchedViT):
    """A ``StitchedViT`` that classifies; both anchors keep their own norm and classifier.

    Modifications of ``StitchedViT``: the only level is the (B, classes) logits of the anchor that
    a stitch ends in. Tokens at the end of the small anchor stay in its width, so the last layer
    upwards, which only dense heads need, does not exist. Several stitches per step are possible,
    because logits have one shape.

    Args:
        args: of ``StitchedViT``, without ``out_indices``, ``eval_levels`` and
            ``output_cls_token``.
        num_classes: of every classifier.
        constant_drop_path: give all blocks of an anchor its ``drop_path_rate``, as DeiT-3 does;
            timm's own rates rise from zero.
        kwargs: of ``StitchedViT``.

    Raises:
        UserError: anchors without a usable classifier, or options of feature levels.
    """

    def __init__(
        self,
        anchors: Sequence[dict[str, Any]],
        img_size: int | tuple[int, int],
        *args: Any,
        num_classes: int = 1000,
        constant_drop_path: bool = True,
        **kwargs: Any,
    ) -> None:
        if args or {"out_indices", "eval_levels", "output_cls_token"} & set(kwargs):
            raise UserError(
                "StitchedClassifier gives logits, no feature levels: leave out out_indices, "
                "eval_levels and output_cls_token, and name all other options"
            )
        if kwargs.get("space") == "elastic":
            raise UserError("space 'elastic' has one classifier for all depths: use 'two_way'")
        check_specs(anchors)
        with torch.device("meta"):  # only for its depth
            last = Anchor(**anchors[-1], img_size=check_image_size(img_size))
        super().__init__(anchors, img_size, (last.depth - 1,), **kwargs)
        joined = {key for stitch in self.space for key in self.space.joins(stitch)}
        for key in set(self.layer_keys) - joined:
            del self.stitching_layers[layer_name(key)]
        self.layer_keys = tuple(key for key in self.layer_keys if key in joined)
        ends = {stitch.segments[-1].anchor for stitch in self.space}
        self.num_classes = num_classes
        self.classifiers = nn.ModuleDict(
            {str(end): AnchorClassifier(self.vit_anchor(end), num_classes) for end in sorted(ends)}
        )
        if constant_drop_path:
            for index, spec in enumerate(anchors):
                _set_drop_path(self.vit_anchor(index).vit.blocks, spec.get("drop_path_rate", 0.0))

    def vit_anchor(self, index: int) -> Anchor:
        """One of the anchors, as a plain ViT."""
        return cast(Anchor, self.anchor(index))

    def classifier(self, index: int) -> AnchorClassifier:
        """The classifier of an anchor that stitches end in."""
        return cast(AnchorClassifier, self.classifiers[str(index)])

    def init_weights(self) -> None:
        """Load what the anchors name, with their classifiers."""
        if not self.is_init:
            for index in map(int, self.classifiers):
                self.classifier(index).init_weights(self.vit_anchor(index))
        super().init_weights()

    def advance(self, state: PassState, step: Step) -> None:
        """Take one step of a route, in place; the tap at its end classifies."""
        if not isinstance(step, Tap):
            super().advance(state, step)
            return
        # A path leads from the anchor that ran last to the largest one, where it is empty.
        end = step.path[0].source if step.path else len(self.anchors) - 1
        state.levels[step.level] = self.classifier(end)(state.tokens)

    def stitch_macs(
        self, image_size: tuple[int, int], levels: Sequence[int] | None = None
    ) -> dict[int, int]:
        """Multiply-accumulates of one (height, width) image with its classifier, by stitch id."""
        chains = {stitch: self.costs.chain_macs(stitch, image_size) for stitch in self.space}
        if not hasattr(self, "classifiers"):  # the base class compares costs before there are any
            return {stitch.id: macs for stitch, macs in chains.items()}
        return {
            stitch.id: macs + self._end(stitch).macs(self._tokens(image_size))
            for stitch, macs in chains.items()
        }

    def published_macs(self, image_size: tuple[int, int]) -> dict[int, int]:
        """As the published table counts them, with low-rank updates merged."""
        per_token = self.costs.rank * self._tokens(image_size)
        executed = self.stitch_macs(image_size)
        return {
            stitch.id: executed[stitch.id]
            - per_token * sum(sum(self.costs.layer_dims(key)) for key in self.space.joins(stitch))
            for stitch in self.space
        }

    def _tokens(self, image_size: tuple[int, int]) -> int:
        return self.costs.anchors[0].tokens_after(0, image_size)

    def _end(self, stitch: Stitch) -> AnchorClassifier:
        return self.classifier(stitch.segments[-1].anchor)

    def stitch_params(self, levels: Sequence[int] | None = None) -> dict[int, int]:
        """Parameters that each stitch uses, its classifier included, by id."""
        return {
            stitch.id: self.costs.chain_params(stitch)
            + sum(p.numel() for p in self._end(stitch).parameters())
            for stitch in self.space
        }

    def zero_levels(
        self, image_size: tuple[int, int], device: str | None = None
    ) -> tuple[Level, ...]:
        """Logits of zero, to count what follows with."""
        like = next(self.parameters())
        return (like.new_zeros(1, self.num_classes, device=device),)

    def forward(self, image: Tensor) -> tuple[Level | None, ...]:
        """(B, 3, H, W) image to a tuple of its (B, classes) logits alone."""
        return super().forward(image)


def _set_drop_path(blocks: Any, rate: float) -> None:
    for block in blocks:
        for name in ("drop_path1", "drop_path2"):
            if hasattr(block, name):
                setattr(block, name, DropPath(rate) if rate else nn.Identity())
