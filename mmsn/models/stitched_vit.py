"""The stitched backbone of plain ViTs: levels of one width, at the stride of the patch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor

from mmsn.errors import UserError
from mmsn.models.anchor import Anchor
from mmsn.models.anchor_checks import check_image_size, check_positions, check_specs
from mmsn.models.backbone import StitchedBackbone
from mmsn.models.backbone_options import refuse_foreign_options
from mmsn.models.prefix_sharing import Level
from mmsn.registry import MODELS
from mmsn.stitching.space import Mode


@MODELS.register_module()
class StitchedViT(StitchedBackbone):
    """One network out of several plain ViTs, with many costs to choose from at run time.

    The feature levels have the last anchor's width and the stride of the patch. A single anchor
    is allowed: the backbone is then that ViT alone, its only stitch 0.

    Args:
        anchors: one dict per anchor, smallest to largest; see ``Anchor`` for the keys.
        img_size: side, or (height, width), of the training crop.
        out_indices: blocks (0-based) of the last anchor whose outputs are the feature levels. For
            a stitch that runs the small anchor there, its matching block is used.
        eval_levels: positions in ``out_indices`` that are read in evaluation mode; the others are
            not computed and given as None. All by default. A head that reads level 3 only, with
            auxiliary heads on the rest, needs ``(3,)``.
        space: "two_way" (SN-Netv2), "one_way" (SN-Net, with its sliding windows) or "elastic" (one
            anchor and its beginnings, a baseline without stitching); see
            ``mmsn.stitching.StitchSpace``.
        rank: rank of the stitching layers' update; 0 trains them as a whole.
        alpha: the update is scaled by ``alpha / rank``.
        stitches: build only what these ids use; all by default. Made by ``mmsn.deploy.extract``
            from a trained supernet, because least squares needs whole anchors.
        freeze_anchors: train only stitching layers and heads. Blocks before the first stitching
            layer of a stitch keep no activations then.
        with_cp: recompute blocks in the backward pass, to save memory.
        output_cls_token: return the class token with the map of each level, as DPT reads it.
        pretrained: not supported; raises, because each anchor names its own weights.
        init_cfg: as in every mm module; applied after the anchors' own weights.
        unknown: anything else raises; most often it is left over from a base config.

    Raises:
        UserError: anchors whose tokens cannot be exchanged, or that are not sorted by cost.
        UserError: stitches that these anchors do not have.
    """

    def __init__(
        self,
        anchors: Sequence[dict[str, Any]],
        img_size: int | tuple[int, int],
        out_indices: Sequence[int],
        eval_levels: Sequence[int] | None = None,
        space: Mode = "two_way",
        rank: int = 16,
        alpha: float = 1.0,
        stitches: Sequence[int] | None = None,
        freeze_anchors: bool = False,
        with_cp: bool = False,
        output_cls_token: bool = False,
        pretrained: None = None,
        init_cfg: dict | list[dict] | None = None,
        **unknown: Any,
    ) -> None:
        refuse_foreign_options("StitchedViT", unknown, pretrained)
        size = check_image_size(img_size)
        check_specs(anchors)
        super().__init__(
            [partial(Anchor, img_size=size, with_cp=with_cp, **spec) for spec in anchors],
            img_size=size,
            out_indices=lambda last: check_positions("out_indices", out_indices, last.depth),
            eval_levels=eval_levels,
            space=space,
            rank=rank,
            alpha=alpha,
            stitches=stitches,
            freeze_anchors=freeze_anchors,
            init_cfg=init_cfg,
        )
        first = self.anchor(0)
        if output_cls_token and first.token_layout.class_tokens == 0:
            raise UserError(
                f"output_cls_token=True, but anchor {first.model_name!r} has no class token: "
                "choose anchors with one, or output_cls_token=False"
            )
        self.output_cls_token = output_cls_token

    def _to_level(self, tokens: Tensor, grid: tuple[int, int]) -> Level:
        """(B, N, C) tokens to a (B, C, h, w) map.

        With ``output_cls_token`` a level is the pair of its map and the (B, C) class token.
        """
        patches = tokens[:, self.anchor(0).prefix_tokens :]
        level = patches.transpose(1, 2).unflatten(2, grid).contiguous()  # NLC -> NCHW
        return (level, tokens[:, 0]) if self.output_cls_token else level
