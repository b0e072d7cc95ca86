"""What a stitched backbone requires of its settings and of its anchors together.

Each check raises a ``UserError`` with the fix. What a single anchor refuses is in ``anchor`` and
``timm_vits``; which depths can be stitched is in ``mmsn.stitching.space``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from mmsn.errors import UserError
from mmsn.models.anchor_base import AnchorBase

# Options that all anchors share.
_OF_BACKBONE = {"img_size", "with_cp"}


def check_image_size(size: int | Sequence[int]) -> tuple[int, int]:
    """(height, width) of a crop that is given as a side or as both."""
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise UserError(f"img_size {size!r} is not allowed: give a side or (height, width)")
    return sides[0], sides[1]


def check_positions(name: str, positions: Sequence[int], size: int) -> tuple[int, ...]:
    """Rising positions below ``size``, at least one; ``name`` is that of the setting."""
    positions = tuple(positions)
    rising = all(a < b for a, b in pairwise(positions))
    if not positions or not rising or not all(0 <= p < size for p in positions):
        raise UserError(f"{name} {positions} is not allowed: give rising numbers in 0..{size - 1}")
    return positions


def check_specs(anchors: Sequence[Mapping[str, Any]]) -> None:
    """The dicts of anchors, before anything is built."""
    if not anchors:
        raise UserError("anchors is empty: name at least one timm model")
    for spec in anchors:
        if not isinstance(spec, dict) or "model_name" not in spec or _OF_BACKBONE & spec.keys():
            raise UserError(
                f"anchor {spec!r} is not allowed: give a dict with model_name, and "
                f"{' and '.join(sorted(_OF_BACKBONE))} to the backbone"
            )


def check_together(anchors: Sequence[AnchorBase]) -> None:
    """Anchors that can exchange tokens, sorted from smallest to largest."""
    first = anchors[0]
    for other in anchors[1:]:
        # A stitching layer maps channels token by token, so the tokens must represent the same.
        if other.token_layout != first.token_layout:
            layouts = " and ".join(f"{a.model_name} ({a.token_layout})" for a in (first, other))
            raise UserError(
                f"anchors {layouts} cannot exchange tokens: choose anchors of one family, or give "
                "both the same patch_size"
            )
    # By parameters: unlike MACs, they do not depend on the image size. Equal anchors are allowed.
    sizes = [sum(map(anchor.cost().block_params, range(anchor.depth))) for anchor in anchors]
    for index, (size, following) in enumerate(pairwise(sizes)):
        if size > following:
            raise UserError(
                f"anchor {anchors[index].model_name} ({size / 1e6:.4g} M parameters in its blocks) "
                f"stands before {anchors[index + 1].model_name} ({following / 1e6:.4g} M): list "
                "anchors from smallest to largest"
            )
