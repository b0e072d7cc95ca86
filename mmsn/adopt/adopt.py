"""The adoption of a config as a whole: what goes in, what comes out, what is refused."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mmseg
import timm
from mmengine.config import Config

from mmsn.adopt.changes import Change, ChangeLog
from mmsn.adopt.model import adapt_heads, adapt_neck, make_backbone
from mmsn.adopt.training import adapt_normalization, adapt_optimizer, adapt_runtime
from mmsn.errors import MissingFile, UserError
from mmsn.models import build
from mmsn.models.complexity import trace_head
from mmsn.segmentor_config import anchor_facts, heads_of, is_stitched, model_of, type_name

SEGMENTORS = {"CascadeEncoderDecoder", "EncoderDecoder"}
# Variables of mmseg's base files. Their values are part of other keys by now, so editing
# them would change nothing.
MERGED = (
    *("backbone_norm_cfg", "checkpoint", "checkpoint_file", "crop_size", "data_preprocessor"),
    *("data_root", "dataset_type", "img_ratios", "img_scale", "norm_cfg", "num_classes"),
    *("optimizer", "pretrained", "train_pipeline", "vis_backends"),
)


@dataclass(frozen=True)
class Adoption:
    """An adapted config, what was changed in it, and notes for its reader."""

    config: Config
    changes: tuple[Change, ...]
    notes: tuple[str, ...]

    def text(self, source: str) -> str:
        """The config as a complete file, which inherits from no other."""
        lines = [
            f"Adopted from {source} by mmsn adopt. This file is complete: it has no base.",
            *map(str, self.changes),
        ]
        return "\n".join(f"# {line}" for line in lines) + f"\n\n{self.config.pretty_text}"


def find_config(name: str | Path) -> Path:
    """A config file by its path, or one of mmseg's own by its name.

    Raises:
        MissingFile: neither is there.
    """
    if Path(name).is_file():
        return Path(name)
    folder = Path(mmseg.__file__).parent / ".mim" / "configs"
    file = Path(str(name).removeprefix("mmseg::")).name
    found = sorted(folder.rglob(file)) if folder.is_dir() else []
    if not found:
        raise MissingFile(
            f"config {str(name)!r} does not exist: give a file, or the name of a config of mmseg"
        )
    return found[0]


def parse_anchor(text: str) -> dict[str, Any]:
    """``NAME``, a timm model with its published weights, or ``NAME=FILE`` with local ones."""
    name, _, file = text.partition("=")
    weights: dict[str, Any] = dict(checkpoint=file) if file else dict(pretrained=True)
    return dict(model_name=name, **weights)


def adopt(
    config: Config,
    anchors: Sequence[Mapping[str, Any]],
    rank: int = 16,
    stitches: str | int | Sequence[str | int] = "all",
) -> Adoption:
    """Replace the backbone of a segmentor's config by a ``StitchedViT``, and adapt the rest.

    Args:
        config: complete, as read from a file; it stays as it is.
        anchors: configs of two or more anchors, smallest to largest; see ``mmsn.models.Anchor``.
        rank: of the stitching layers' update.
        stitches: which to train; see ``mmsn.stitching.resolve``.

    Raises:
        UserError: a segmentor, neck or head that cannot run on the levels of plain ViTs, or
            anchors that do not fit each other.
    """
    _refuse_the_impossible(config, anchors)
    config, log = copy.deepcopy(config), ChangeLog()
    model, crop = model_of(config), _crop(config)
    facts = [anchor_facts(spec, crop) for spec in anchors]
    old = model["backbone"]
    adapt_neck(model, facts[-1], log)
    adapt_heads(model, facts[-1], log)
    model["backbone"] = make_backbone(model, anchors, facts, crop, rank, log)
    if model.pop("pretrained", None) is not None:
        log.add("model.pretrained", "removed", "each anchor names its own weights")
    if "init_cfg" in old:
        log.add("model.backbone.init_cfg", "removed", "each anchor names its own weights")
    model.setdefault("data_preprocessor", config.get("data_preprocessor"))  # as a Runner does
    adapt_normalization(model, facts, crop, log)
    adapt_optimizer(config, log)
    adapt_runtime(config, stitches, log)
    for name in MERGED:
        config.pop(name, None)
    _try(config, crop)
    return Adoption(config, tuple(log.changes), tuple(log.notes))


def _refuse_the_impossible(config: Config, anchors: Sequence[Mapping[str, Any]]) -> None:
    kind = type_name(config.get("model"))
    if kind not in SEGMENTORS:
        raise UserError(
            f"model.type {kind!r} cannot be adapted: its parts read more than feature levels; "
            f"give a config with {' or '.join(sorted(SEGMENTORS))}"
        )
    if is_stitched(model_of(config)):
        raise UserError("the backbone is a stitched one already: there is nothing to adopt")
    if config.get("optim_wrapper") is None:
        raise UserError(
            "the config has no optim_wrapper, so it is not one of mmseg 1.x: give "
            "optim_wrapper=dict(type='OptimWrapper', optimizer=dict(...))"
        )
    if len(anchors) < 2:
        raise UserError(f"{len(anchors)} anchors are given: name two or more, smallest to largest")
    for spec in anchors:
        name = spec["model_name"]
        if spec.get("pretrained") and not timm.models.is_model_pretrained(name):
            raise UserError(
                f"anchor {name!r} has no published weights in timm: give NAME=FILE, or a name of "
                f"timm.list_pretrained({name.split('_')[0] + '*'!r})"
            )


def _crop(config: Config) -> tuple[int, int]:
    """(height, width) of the training images."""
    model = model_of(config)
    sizes = [(model.get("data_preprocessor") or {}).get("size")]
    sizes += [crop.get("crop_size") for crop in _transforms(config, "RandomCrop")]
    sizes += [(model.get("test_cfg") or {}).get("crop_size")]
    size = next((size for size in sizes if size), None)
    if size is None:
        raise UserError(
            "the config names no crop: set model.data_preprocessor.size=(height, width)"
        )
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _transforms(config: Config, kind: str) -> Iterator[Any]:
    """Configs of this type in the training data, however datasets are nested."""
    waiting = [config.get("train_dataloader")]
    while waiting:
        found = waiting.pop()
        if isinstance(found, Mapping):
            if type_name(found) == kind:
                yield found
            waiting += found.values()
        elif isinstance(found, list | tuple):
            waiting += found


def _try(config: Config, crop: tuple[int, int]) -> None:
    """Build the result without memory for weights, and run neck and heads on shapes."""
    try:
        trace_head(build(config, "meta"), crop)
    except UserError:
        raise
    except Exception as error:  # heads and necks may raise any exception
        kinds = ", ".join(dict.fromkeys(head.type for head in heads_of(model_of(config))))
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(
            f"{kinds} cannot be adapted: on the levels of a plain ViT they fail ({reason}); "
            "choose another head"
        ) from error
