"""Adapting neck, heads and backbone to the one stride and the one width of plain ViTs' levels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import ConfigDict

from mmsn.adopt.changes import ChangeLog
from mmsn.errors import UserError
from mmsn.segmentor_config import PYRAMID_HEADS, AnchorFacts, Head, heads_of, type_name

# mmseg's plain ViTs: their blocks correspond to ours, and their levels have one stride already.
PLAIN_BACKBONES = {"BEiT", "MAE", "VisionTransformer"}
# Channels of the pyramid that a new neck makes: 512 cost more than most stitches.
NECK_WIDTH = 256


def adapt_neck(model: Any, last: AnchorFacts, log: ChangeLog) -> None:
    """Set the widths of a neck, or make the one that pyramid heads need.

    Raises:
        UserError: a neck that cannot be adapted.
    """
    neck = model.get("neck")
    kind = type_name(neck)
    many = [head for head in heads_of(model, training=False) if head.reads_many]
    pyramid = [head for head in many if head.type in PYRAMID_HEADS]
    if type_name(model["backbone"]) not in PLAIN_BACKBONES and not pyramid:
        pyramid = [head for head in many if head.type != "DPTHead"]  # DPT makes its own
    if kind == "FPN" or (neck is None and pyramid):
        _make_pyramid(model, pyramid, last, log)
    elif kind in ("MLANeck", "MultiLevelNeck"):
        widths = [last.width] * len(neck["in_channels"])
        log.set("model.neck", neck, "in_channels", widths, "width of the last anchor")
    elif kind == "Feature2Pyramid":
        log.set("model.neck", neck, "embed_dim", last.width, "width of the last anchor")
    elif neck is not None:
        raise UserError(
            f"neck {kind!r} cannot be adapted: it needs levels of several strides; remove it, or "
            "use MultiLevelNeck, FPN, MLANeck or Feature2Pyramid"
        )


def _make_pyramid(model: Any, pyramid: list[Head], last: AnchorFacts, log: ChangeLog) -> None:
    neck = model.get("neck")
    count = count_levels(model)
    strides = next((h.config["feature_strides"] for h in pyramid if h.type == "FPNHead"), ())
    if len(strides) != count:
        strides = [4 * 2**level for level in range(count)]
    # Whole powers of two, so that no level is resampled by a fraction.
    scales = [2.0 ** round(math.log2(last.patch / stride)) for stride in strides]
    width = neck["out_channels"] if neck else NECK_WIDTH
    model["neck"] = ConfigDict(
        type="MultiLevelNeck",
        in_channels=[last.width] * count,
        out_channels=width,
        scales=scales,
    )
    head = pyramid[0].type if pyramid else "the head"
    log.add(
        "model.neck",
        f"{type_name(neck) or None} -> MultiLevelNeck, {count} levels of width {width}, scales "
        f"{scales}",
        f"{head} expects a pyramid, and all levels of plain ViTs have the stride of the patch",
    )


def width_of_neck(neck: Mapping[str, Any]) -> int:
    """Channels of each level that a neck gives."""
    return int(neck["embed_dim" if type_name(neck) == "Feature2Pyramid" else "out_channels"])


def count_levels(model: Any) -> int:
    """How many levels the backbone gives: what the neck takes, else what the heads name."""
    neck = model.get("neck")
    if neck is not None and "in_channels" in neck:
        return len(neck["in_channels"])
    indices: list[int] = []
    for head in heads_of(model):
        index = head.config.get("in_index", -1)
        indices += index if isinstance(index, Sequence) else [index]
    return max(i + 1 if i >= 0 else -i for i in indices)


def adapt_heads(model: Any, last: AnchorFacts, log: ChangeLog) -> None:
    """Set what depends on the width, the patch and the stride of the levels.

    Raises:
        UserError: a head that does not say what it reads.
    """
    neck = model.get("neck")
    width = last.width if neck is None else width_of_neck(neck)
    why = "width of the last anchor" if neck is None else "width of the neck"
    stride = _output_stride(model["backbone"])
    for head in heads_of(model):
        config, path = head.config, f"model.{head.key}"
        old = config.get("in_channels")
        if old is None:
            raise UserError(
                f"{path} ({head.type}) has no in_channels, so it cannot be adapted: give a head "
                "that reads the levels of a backbone"
            )
        many = isinstance(old, Sequence)
        new: Any = type(old)([width] * len(old)) if many else width
        log.set(path, config, "in_channels", new, why)
        if head.reads_detail:
            detail = "the detail branch reads level 0, which has the stride of the patch here"
            log.set(path, config, "c1_in_channels", width, detail)
        if config.get("num_convs") == 0 and not many:
            log.set(path, config, "channels", width, "without convolutions it is in_channels")
        if config.get("embed_dims"):
            _widen_tokens(config, path, width, why, log)
        if "patch_size" in config:
            log.set(path, config, "patch_size", last.patch, "patch of the anchors")
        if "dilations" in config and stride and stride < last.patch:
            dilations = tuple(max(1, round(d * stride / last.patch)) for d in config["dilations"])
            reach = f"output stride {stride} -> {last.patch}; the same reach in pixels"
            log.set(path, config, "dilations", dilations, reach)


def _widen_tokens(config: Any, path: str, width: int, why: str, log: ChangeLog) -> None:
    """DPT's tokens, and Segmenter's, are as wide as the backbone's."""
    if config.get("num_heads"):
        heads = max(1, width * config["num_heads"] // config["embed_dims"])
        log.set(path, config, "num_heads", heads, "as many channels per head as before")
        log.set(path, config, "channels", width, why)
    log.set(path, config, "embed_dims", width, why)


def _output_stride(backbone: Any) -> int | None:
    """Pixels per position of a dilated ResNet's last level; None for other backbones."""
    strides = backbone.get("strides")
    return 4 * math.prod(strides) if "Res" in type_name(backbone) and strides else None


def make_backbone(
    model: Any,
    anchors: Sequence[Mapping[str, Any]],
    facts: Sequence[AnchorFacts],
    crop: tuple[int, int],
    rank: int,
    log: ChangeLog,
) -> ConfigDict:
    """The ``StitchedViT`` that gives what the adapted neck and heads read.

    Raises:
        UserError: heads that read class tokens, and anchors without them.
    """
    old, count, last = model["backbone"], count_levels(model), facts[-1]
    blocks = _blocks(old, count, last)
    kept = {key: old[key] for key in ("drop_path_rate", "with_cp") if old.get(key)}
    drop = {"drop_path_rate": kept["drop_path_rate"]} if "drop_path_rate" in kept else {}
    backbone = ConfigDict(
        type="mmsn.StitchedViT",
        anchors=[drop | dict(spec) for spec in anchors],
        img_size=crop,
        out_indices=blocks,
        rank=rank,
    )
    log.add(
        "model.backbone",
        f"{type_name(old)} -> mmsn.StitchedViT of {' + '.join(f.name for f in facts)}, levels "
        f"after blocks {blocks} of {last.depth}, for crops of {crop}",
        "the stitched network" + "".join(f"; {k}={v} as before" for k, v in kept.items()),
    )
    if "with_cp" in kept:
        backbone["with_cp"] = kept["with_cp"]
    heads = heads_of(model, training=False)
    if any(head.type == "DPTHead" for head in heads):
        if last.class_tokens == 0:
            raise UserError(
                f"DPTHead reads a class token, which {last.name} does not have: choose anchors "
                "with one"
            )
        backbone["output_cls_token"] = True
        log.add("model.backbone.output_cls_token", "True", "DPTHead reads it")
    read = tuple(sorted({level for head in heads for level in head.levels(count)}))
    if model.get("neck") is None and len(read) < count:
        backbone["eval_levels"] = read
        why = "other levels feed auxiliary heads, or nothing"
        log.add("model.backbone.eval_levels", repr(read), why)
        _note_early_level(heads[-1], count, log)
    return backbone


def _note_early_level(head: Head, count: int, log: ChangeLog) -> None:
    level = max(head.levels(count))
    if not head.reads_many and level < count - 1:
        log.notes.append(
            f"model.{head.key} reads level {level}, as before, which is an early one here: set "
            f"in_index={count - 1} for the last."
        )


def _blocks(old: Any, count: int, last: AnchorFacts) -> tuple[int, ...]:
    """Blocks of the last anchor after which the levels are taken.

    Where the old backbone was a plain ViT: at the same share of the depth. Else at equal distances.
    """
    indices = old.get("out_indices", -1)
    indices = indices if isinstance(indices, Sequence) else (indices,)
    depth = old.get("num_layers", 12)
    ends = [(level + 1) / count for level in range(count)]
    if type_name(old) in PLAIN_BACKBONES and len(indices) == count:
        ends = [(i % depth + 1) / depth for i in indices]
    blocks = tuple(round(end * last.depth) - 1 for end in ends)
    if len(set(blocks)) < count or blocks[0] < 0:
        raise UserError(
            f"the heads read {count} levels, but {last.name} has only {last.depth} blocks: choose "
            "a deeper last anchor"
        )
    return blocks
