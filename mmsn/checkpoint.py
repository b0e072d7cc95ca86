"""Convert segmentation checkpoints of the published SN-Netv2 code to the names of this package.

The published backbone resembles BEiT: every block has a trained table of relative positions, so a
model that reproduces it needs ``rel_pos_bias=True`` in each of its anchors. Low-rank updates are
converted as the published training saves them, without merging them into the weights.

Left out on purpose: classification checkpoints, whose anchors end in heads that dense prediction
does not use.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mmsn.errors import UserError
from mmsn.models.backbone import layer_name
from mmsn.models.rel_pos import num_relative_positions, relative_position_index
from mmsn.state_dict import read_state_dict
from mmsn.stitching import StitchSpace

__all__ = ["KeyReport", "convert_snnetv2", "read_state_dict"]

# (published name, our name); the groups of _BLOCK are the anchor and the block. A rule must match
# the whole key: a prefix would silently accept keys that it does not understand.
_BLOCK = r"anchors\.([01])\.layers\.(\d+)\."
_RULES = [
    (r"anchors\.([01])\.(cls_token|pos_embed)", r"anchors.\1.vit.\2"),
    (
        r"anchors\.([01])\.patch_embed\.projection\.(weight|bias)",
        r"anchors.\1.vit.patch_embed.proj.\2",
    ),
    (_BLOCK + r"ln([12])\.(weight|bias)", r"anchors.\1.vit.blocks.\2.norm\3.\4"),
    (_BLOCK + r"attn\.(qkv|proj)\.(weight|bias)", r"anchors.\1.vit.blocks.\2.attn.\3.\4"),
    (_BLOCK + r"ffn\.layers\.0\.0\.(weight|bias)", r"anchors.\1.vit.blocks.\2.mlp.fc1.\3"),
    (_BLOCK + r"ffn\.layers\.1\.(weight|bias)", r"anchors.\1.vit.blocks.\2.mlp.fc2.\3"),
    (_BLOCK + r"gamma_([12])", r"anchors.\1.vit.blocks.\2.ls\3.gamma"),
    (_BLOCK + r"attn\.relative_position_bias_table", r"anchors.\1.rel_pos.tables.\2"),
    (
        r"stitch_layers\.0\.(\d+)\.transform\.(weight|bias|lora_A|lora_B)",
        r"stitching_layers.0_to_1_after_\1.\2",
    ),
    (
        r"stitch_layers\.1\.(\d+)\.transform\.(weight|bias|lora_A|lora_B)",
        r"stitching_layers.1_to_0_after_\1.\2",
    ),
]
# Not a weight: which entry of the table belongs to each pair of tokens, a function of the grid.
_INDEX = re.compile(_BLOCK + r"attn\.relative_position_index")
# Heads are mmseg's on both sides, so their names stay.
_HEAD = re.compile(r"(decode_head|auxiliary_head(\.\d+)?)\.(norm|up_convs|conv_seg)\..+")


class KeyReport(NamedTuple):
    """What happened to one key; ``source`` is empty if ``target`` is derived from other keys."""

    action: Literal["mapped", "derived", "dropped"]
    source: str
    target: str
    reason: str


def convert_snnetv2(
    state: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], list[KeyReport]]:
    """Rename a published state dict of a whole segmentor or of its backbone.

    Args:
        state: names and tensors as saved by the published code.

    Returns:
        The state dict for a segmentor (or ``StitchedViT``) of this package, and one report per key.

    Raises:
        UserError: keys without a rule, position indices that are not BEiT's (all of them are
            listed), or missing stitching layers.
    """
    prefix = "backbone." if any(key.startswith("backbone.") for key in state) else ""
    converted: dict[str, Tensor] = {}
    reports: list[KeyReport] = []
    unknown: list[str] = []
    for key, value in state.items():
        inner = key.removeprefix(prefix)
        target = _rename(inner) if key.startswith(prefix) else None
        if target is not None:
            converted[prefix + target] = value
            reports.append(KeyReport("mapped", key, prefix + target, ""))
        elif _INDEX.fullmatch(inner):
            table = state.get(key.replace("_index", "_bias_table"))
            if table is not None and table.dim() and _is_square_index(value, len(table)):
                reason = "computed from the grid"
                reports.append(KeyReport("dropped", key, "", reason))
            else:
                unknown.append(f"{key} (not the index of its table for a square grid)")
        elif _HEAD.fullmatch(key):
            converted[key] = value
            reports.append(KeyReport("mapped", key, key, ""))
        else:
            unknown.append(key)
    if unknown:
        raise UserError(
            f"{len(unknown)} keys are not those of a published SN-Netv2 segmentor: "
            f"{', '.join(unknown)}"
        )
    missing = _missing_layers(converted, prefix)
    if missing:
        raise UserError(f"{len(missing)} stitching layers are missing: {', '.join(missing)}")
    # Without this flag, StitchInitHook would replace the trained layers by least squares.
    for key in [key for key in converted if "stitching_layers" in key and key.endswith(".bias")]:
        flag = key.removesuffix("bias") + "initialized"
        converted[flag] = torch.tensor(True)
        reports.append(KeyReport("derived", "", flag, "published layers are trained"))
    return converted, reports


def _missing_layers(converted: Mapping[str, Tensor], prefix: str) -> list[str]:
    """Stitching layers that two anchors of these depths need and the file does not have."""
    depths = [  # every block has exactly one qkv bias
        len(
            {
                k
                for k in converted
                if re.fullmatch(rf"{re.escape(prefix)}anchors\.{a}\..*qkv\.bias", k)
            }
        )
        for a in (0, 1)
    ]
    if 0 in depths:
        return ["those of one anchor's depth"]
    wanted = [f"{prefix}stitching_layers.{layer_name(k)}" for k in StitchSpace(depths).layer_keys]
    return [name for name in wanted if f"{name}.weight" not in converted]


def _rename(key: str) -> str | None:
    for pattern, replacement in _RULES:
        match = re.fullmatch(pattern, key)
        if match:
            return match.expand(replacement)
    return None


def _is_square_index(index: Tensor, table_length: int) -> bool:
    if index.dim() != 2:  # for example a single number in a damaged file
        return False
    side = math.isqrt(max(len(index) - 1, 0))  # the first token is the class token
    grid = (side, side)
    if side * side + 1 != len(index) or num_relative_positions(grid) != table_length:
        return False
    return torch.equal(index.long(), relative_position_index(grid))
