"""The stitched backbone of hierarchical anchors: four levels, from stride 4 to 32, for UperNet."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

from torch import Tensor, nn

from mmsn.models.anchor_base import AnchorBase
from mmsn.models.anchor_checks import check_image_size, check_positions, check_specs
from mmsn.models.backbone import StitchedBackbone
from mmsn.models.backbone_options import refuse_foreign_options
from mmsn.models.prefix_sharing import Level
from mmsn.models.swin_anchor import SwinAnchor
from mmsn.registry import MODELS
from mmsn.stitching.space import Mode


@MODELS.register_module()
class StitchedSwin(StitchedBackbone):
    """One network out of several Swins, stitched stage by stage as in SN-Net.

    The feature levels are the ends of stages, at the last anchor's widths. Each passes a LayerNorm
    of its own, as in mmseg's Swin; it is trained and shared by all stitches.

    Args:
        anchors: one dict per anchor, smallest to largest; see ``SwinAnchor`` for the keys.
        out_indices: stages (0-based) whose ends are the feature levels.
        space: "one_way"; others are for plain ViTs.
        others: as in ``mmsn.models.stitched_vit.StitchedViT``.

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
        space: Mode = "one_way",
        rank: int = 16,
        alpha: float = 1.0,
        stitches: Sequence[int] | None = None,
        freeze_anchors: bool = False,
        with_cp: bool = False,
        pretrained: None = None,
        init_cfg: dict | list[dict] | None = None,
        **unknown: Any,
    ) -> None:
        refuse_foreign_options("StitchedSwin", unknown, pretrained)
        size = check_image_size(img_size)
        check_specs(anchors)

        def ends(last: AnchorBase) -> tuple[int, ...]:
            stages = check_positions("out_indices", out_indices, len(last.stages))
            return tuple(cast(SwinAnchor, last).stage_ends[stage] for stage in stages)

        super().__init__(
            [partial(SwinAnchor, img_size=size, with_cp=with_cp, **spec) for spec in anchors],
            img_size=size,
            out_indices=ends,
            eval_levels=eval_levels,
            space=space,
            rank=rank,
            alpha=alpha,
            stitches=stitches,
            freeze_anchors=freeze_anchors,
            init_cfg=init_cfg,
            level_norms=True,
        )
        widths = map(self.costs.anchors[-1].dim_after, self.out_indices)
        # Named by stage: an extraction may have fewer levels.
        self.norms = nn.ModuleDict(
            {str(s): nn.LayerNorm(width) for s, width in zip(out_indices, widths, strict=True)}
        )
        self._norm_names = tuple(map(str, out_indices))

    def _norm_level(self, tokens: Tensor, level: int) -> Tensor:
        return self.norms[self._norm_names[level]](tokens)

    def _to_level(self, tokens: Tensor, grid: tuple[int, int]) -> Level:
        """(B, h, w, C) tokens to a (B, C, h, w) map; their own shape has the grid."""
        return tokens.permute(0, 3, 1, 2).contiguous()  # NHWC -> NCHW
