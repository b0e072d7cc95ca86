"""What the config of a segmentor says: its heads, the levels they read, the anchors' facts.

Plain functions on mmengine configs, read by ``mmsn.adopt`` and ``mmsn.checks``. Nothing here
builds a whole model: anchors are made on the meta device, which takes a tenth of a second.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import timm
import torch

from mmsn.errors import UserError
from mmsn.models.anchor import Anchor

# Heads made for levels of strides 4, 8, 16 and 32; on levels of one stride they need a neck.
PYRAMID_HEADS = {
    "FPNDepthHead",
    "FPNHead",
    "SegformerHead",
    "UPerDepthHead",
    "UPerHead",
}

LAYER_DECAY = {"LayerDecayOptimizerConstructor", "LearningRateDecayOptimizerConstructor"}


def type_name(config: Any) -> str:
    """The class that a config names, without scope or module; "" for none.

    Configs of mmengine's new style hold the class itself, or a placeholder of it.
    """
    kind = config.get("type") if isinstance(config, Mapping) else None
    name = kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind or ""))
    return name.rpartition(".")[2]


def model_of(config: Mapping[str, Any]) -> Any:
    """The config of the segmentor itself, without a wrapper for augmented tests.

    Raises:
        UserError: there is none.
    """
    model = config.get("model")
    while isinstance(model, Mapping) and isinstance(model.get("module"), Mapping):
        model = model["module"]
    if not isinstance(model, Mapping) or not isinstance(model.get("backbone"), Mapping):
        raise UserError("the config has no model with a backbone: give that of a segmentor")
    return model


def is_stitched(model: Mapping[str, Any]) -> bool:
    """Is the backbone of this segmentor a ``StitchedViT``?"""
    return type_name(model["backbone"]) == "StitchedViT"


@dataclass(frozen=True)
class Head:
    """A head's config and its place in that of the segmentor, such as ``auxiliary_head[1]``."""

    key: str
    config: Any

    @property
    def type(self) -> str:
        return type_name(self.config)

    @property
    def reads_many(self) -> bool:
        """Does it take a list of levels?"""
        return isinstance(self.config.get("in_index"), Sequence) or isinstance(
            self.config.get("in_channels"), Sequence
        )

    def levels(self, count: int) -> tuple[int, ...]:
        """Positions that it reads among ``count`` levels."""
        index = self.config.get("in_index", -1)
        indices = index if isinstance(index, Sequence) else (index,)
        read = [i + count if i < 0 else i for i in indices]
        if self.reads_detail:
            read.append(0)
        return tuple(sorted(set(read)))

    @property
    def reads_detail(self) -> bool:
        """Does it read level 0 beside the one of ``in_index``, as DeepLabV3+ does?"""
        return self.config.get("c1_in_channels", 0) > 0


def heads_of(model: Mapping[str, Any], training: bool = True) -> list[Head]:
    """Every head of a segmentor; auxiliary heads take part in training only."""
    keys = ["decode_head", "depth_head", *(["auxiliary_head"] if training else [])]
    return [head for key in keys for head in _heads(key, model.get(key))]


def _heads(key: str, value: Any) -> Iterator[Head]:
    if isinstance(value, Mapping):
        yield Head(key, value)
    elif isinstance(value, Sequence):
        for i, one in enumerate(value):
            yield Head(f"{key}[{i}]", one)


@dataclass(frozen=True)
class AnchorFacts:
    """What other parts of a config depend on.

    ``mean`` and ``std`` are those of timm's published weights, for values of 0 to 255; None where
    the weights are custom.
    """

    name: str
    width: int
    depth: int
    patch: int
    class_tokens: int
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None


def anchor_facts(spec: Mapping[str, Any], img_size: tuple[int, int]) -> AnchorFacts:
    """Facts of an anchor's config.

    Raises:
        UserError: timm has no such plain ViT, or it does not take these options.
    """
    with torch.device("meta"):
        anchor = Anchor(**{**spec, "img_size": img_size})
    mean, std = published_normalization(spec)
    return AnchorFacts(
        anchor.model_name,
        anchor.dim,
        anchor.depth,
        max(anchor.token_layout.patch_size),
        anchor.token_layout.class_tokens,
        mean,
        std,
    )


def published_normalization(
    spec: Mapping[str, Any],
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Mean and standard deviation, for values of 0 to 255, with which timm's weights were trained.

    (None, None) for an anchor that does not take them.
    """
    published = timm.get_pretrained_cfg(spec["model_name"]) if spec.get("pretrained") else None
    if published is None:
        return None, None
    return scaled(published.mean), scaled(published.std)


def scaled(values: Sequence[float]) -> tuple[float, ...]:
    """0 to 1 as 0 to 255."""
    return tuple(round(255 * value, 6) for value in values)


def is_close(first: Any, second: Any) -> bool:
    """Are these the same mean or the same standard deviation, as far as configs write them out?"""
    if first is None or second is None:
        return first is second
    if len(first) != len(second):
        return False
    return all(math.isclose(a, b, abs_tol=0.01) for a, b in zip(first, second, strict=True))


def has_foreign_layer_decay(wrapper: Mapping[str, Any]) -> bool:
    """Does an ``optim_wrapper`` name a constructor that knows layers by names of mmseg alone?"""
    constructor = wrapper.get("constructor")
    name = type_name(dict(type=constructor)) if constructor else ""
    return name in LAYER_DECAY and constructor != f"mmsn.{name}"
