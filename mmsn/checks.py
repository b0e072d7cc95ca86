"""Mistakes in the config of a stitched segmentor, found before any weights are loaded.

Each is one line with key, value and fix. Errors are settings that cannot work or cannot be
intended; warnings are settings that work but are rarely intended. ``mmsn.running`` checks before it
makes a Runner, and the hooks of ``mmsn`` check when any other Runner starts.

Left out on purpose: what a Runner, a dataset or the backbone reports well enough itself.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any
from weakref import WeakSet

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import HOOKS, OPTIMIZERS
from mmengine.runner import BaseLoop

from mmsn.errors import UserError
from mmsn.models import StitchedSwin, StitchedViT
from mmsn.models.backbone_options import refuse_unknown_options
from mmsn.parallel_checks import sharding_errors, unused_parameters_warnings
from mmsn.segmentor_config import (
    PYRAMID_HEADS,
    Head,
    has_foreign_layer_decay,
    heads_of,
    is_close,
    is_stitched,
    level_widths,
    model_of,
    published_normalization,
    type_name,
)

INIT, SAMPLING = "StitchInitHook", "FLOPsConstrainedSamplingHook"
# Top-level keys of mmseg 0.x, which nothing reads, and what replaced them.
OLD_KEYS = {
    "checkpoint_config": "default_hooks.checkpoint",
    "data": "train_dataloader, val_dataloader and test_dataloader",
    "evaluation": "val_evaluator and train_cfg.val_interval",
    "log_config": "default_hooks.logger",
    "lr_config": "param_scheduler",
    "optimizer_config": "optim_wrapper",
    "runner": "train_cfg",
}


@dataclass(frozen=True)
class Findings:
    """Lines about a config: errors stop a run, warnings do not.

    ``missing_hooks`` stop it as well where the config is all there is: a program may register
    hooks with a Runner that it made.
    """

    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    missing_hooks: tuple[str, ...] = ()

    def refuse(self) -> None:
        """Stop where there are errors.

        Raises:
            UserError: all errors in one line.
        """
        if errors := self.errors + self.missing_hooks:
            raise UserError("; also: ".join(errors))


def examine(config: Config, training: bool, hooks: Sequence[Any] | None = None) -> Findings:
    """Examine the config of a segmentor; nothing is found in one without a stitched backbone.

    Args:
        config: as a Runner takes it.
        training: is this for training, where hooks, optimizer and pretrained weights matter?
        hooks: those that run, or their configs; by default the config's ``custom_hooks``.

    Raises:
        UserError: anchors or backbone that cannot be built at all.
    """
    try:
        model = model_of(config)
    except UserError:  # a Runner's model may be anything
        return Findings()
    if not is_stitched(model):
        return Findings()
    errors, warnings = [*_widths(model)], [*_pyramid(model), *_normalization(model)]
    missing: list[str] = []
    if training:
        errors += [*_old_keys(config), *_optimizer(config), *sharding_errors(config)]
        missing += _hooks(config, model, config.get("custom_hooks", []) if hooks is None else hooks)
        warnings += [*_weights(config, model), *_unnamed_stitch(config, model, "val_cfg")]
        if not _is_one_stitch(model["backbone"]):
            warnings += unused_parameters_warnings(config)
    else:
        warnings += _unnamed_stitch(config, model, "test_cfg")
    return Findings(tuple(errors), tuple(warnings), tuple(missing))


_examined: WeakSet[Any] = WeakSet()


def examine_run(runner: Any) -> None:
    """Examine the config of a Runner that starts, once: refuse errors and log warnings.

    Raises:
        UserError: all errors in one line.
    """
    if runner not in _examined:
        # The train loop is built before this in a training, and stays a config in a test.
        findings = examine(runner.cfg, isinstance(runner._train_loop, BaseLoop), runner.hooks)
        warnings = findings.warnings + findings.missing_hooks
        findings = Findings(findings.errors, warnings)
        warn(runner, findings)
        findings.refuse()


def warn(runner: Any, findings: Findings) -> None:
    """Log warnings, and let ``examine_run`` leave this Runner alone."""
    _examined.add(runner)
    for warning in findings.warnings:
        runner.logger.warning(warning)


def _widths(model: Any) -> Iterator[str]:
    """What neck and heads expect, against what backbone and neck give."""
    backbone, neck = model["backbone"], model.get("neck")
    kind = type_name(backbone)
    options = signature(StitchedViT if kind == "StitchedViT" else StitchedSwin).parameters
    refuse_unknown_options(kind, set(backbone) - {"type", *options})
    widths, last = level_widths(backbone)
    count, giver = len(widths), f"anchor {last}"
    if neck is not None:
        for key in ("in_channels", "embed_dim"):
            if key in neck:
                yield from _misfit("model.neck", neck, key, widths, giver)
        kind, taken = type_name(neck), neck.get("in_channels", neck.get("rescales"))
        if isinstance(taken, Sequence) and len(taken) != count:
            yield (
                f"model.neck ({kind}) takes {len(taken)} levels, but model.backbone.out_indices "
                f"gives {count}: make them equal"
            )
        given = neck.get("out_channels", neck.get("embed_dim"))
        if not isinstance(given, int):
            return  # a custom neck: its output is unknown
        giver = f"the neck ({kind})"
        levels = neck.get("num_outs", neck.get("scales", neck.get("rescales", taken)))
        count = levels if isinstance(levels, int) else len(levels or range(count))
        widths = [given] * count
    for head in heads_of(model):
        yield from _head(head, widths, giver)


def _head(head: Head, widths: Sequence[int], giver: str) -> Iterator[str]:
    path, count = f"model.{head.key}", len(widths)
    index = head.config.get("in_index", -1)
    read = index if isinstance(index, Sequence) else [index]
    wanted = [widths[max(-count, min(i, count - 1))] for i in read]  # outside is told below
    yield from _misfit(path, head.config, "in_channels", wanted, giver)
    if head.reads_detail:
        yield from _misfit(path, head.config, "c1_in_channels", widths[:1], giver)
    if head.type == "DPTHead" and "neck" not in head.config:
        yield from _misfit(path, head.config, "embed_dims", widths[-1:], giver)
    if any(not -count <= i < count for i in read):
        yield (
            f"{path}.in_index is {index!r}, but there are {count} levels: give 0 to {count - 1}, "
            "or more out_indices to model.backbone"
        )


def _misfit(path: str, owner: Any, key: str, widths: Sequence[int], giver: str) -> Iterator[str]:
    """``widths`` are those of the levels that the key is about; a list may repeat the only one."""
    value = owner.get(key)
    if value is None or not widths:
        return
    wanted: Any = widths[0]
    if isinstance(value, list | tuple):
        all_equal = len(set(widths)) == 1
        wanted = type(value)([widths[0]] * len(value) if all_equal else widths)
    if value != wanted:
        yield f"{path}.{key} is {value!r}, but must be {wanted!r}, the width of {giver}"


def _pyramid(model: Any) -> Iterator[str]:
    if type_name(model["backbone"]) != "StitchedViT":  # its levels are a pyramid
        return
    heads = [h for h in heads_of(model, training=False) if h.type in PYRAMID_HEADS and h.reads_many]
    if model.get("neck") is None and heads:
        yield (
            f"model.{heads[0].key} ({heads[0].type}) expects a pyramid, but all levels have the "
            "stride of the patch: add neck=dict(type='MultiLevelNeck', scales=[4, 2, 1, 0.5], ...)"
        )


def _normalization(model: Any) -> Iterator[str]:
    given = model.get("data_preprocessor") or {}
    for spec in model["backbone"]["anchors"]:
        mean, std = published_normalization(spec)
        if mean is None or "mean" not in given or "std" not in given:
            continue
        if not is_close(given["mean"], mean) or not is_close(given["std"], std):
            yield (
                f"model.data_preprocessor has mean {list(given['mean'])} and std "
                f"{list(given['std'])}, but {spec['model_name']} was pretrained with mean "
                f"{list(mean)} and std {list(std or ())}: set those, unless this is meant"
            )
        elif not given.get("bgr_to_rgb"):
            yield (
                "model.data_preprocessor.bgr_to_rgb is False, but anchors were pretrained on RGB "
                "and images are loaded as BGR: set it to True"
            )
            return


def _weights(config: Config, model: Any) -> Iterator[str]:
    if config.get("load_from") or config.get("resume") or model["backbone"].get("init_cfg"):
        return
    names = [
        spec["model_name"]
        for spec in model["backbone"]["anchors"]
        if not spec.get("pretrained") and not spec.get("checkpoint")
    ]
    if names:
        yield (
            f"anchors {', '.join(names)} start from random weights: give each pretrained=True or "
            "checkpoint='FILE', unless this is meant"
        )


def _unnamed_stitch(config: Config, model: Any, key: str) -> Iterator[str]:
    loop = type_name(config.get(key))
    backbone = model["backbone"]
    if loop in ("ValLoop", "TestLoop") and not _is_one_stitch(backbone):
        with_stitches = f"mmsn.Pareto{loop}"
        chosen = backbone.get("stitches")
        which = "the most expensive one" if chosen else f"{len(backbone['anchors']) - 1}"
        yield (
            f"{key}.type {loop!r} evaluates one stitch only, {which} (the largest anchor): name "
            f"stitches with dict(type={with_stitches!r}, stitches=['anchors', 'middle'])"
        )


def _is_one_stitch(backbone: Mapping[str, Any]) -> bool:
    chosen = backbone.get("stitches")
    return len(chosen) == 1 if chosen else len(backbone["anchors"]) == 1


def _optimizer(config: Config) -> Iterator[str]:
    wrapper = config.get("optim_wrapper") or {}
    if has_foreign_layer_decay(wrapper):
        options = wrapper.get("paramwise_cfg") or {}
        rate = options.get("decay_rate", options.get("layer_decay_rate", 0.9))
        yield (
            f"optim_wrapper.constructor {wrapper['constructor']!r} does not know anchors: use "
            f"'mmsn.LayerDecayOptimizerConstructor' with paramwise_cfg=dict(decay_rate={rate})"
        )
    yield from _options_of_another_optimizer(wrapper.get("optimizer"))
    if type_name(wrapper) == "AmpOptimWrapper" and get_device() in ("cpu", "mps"):
        yield (
            f"AmpOptimWrapper (--amp) cannot train on {get_device()}: leave it out, or use "
            "optim_wrapper.type 'mmsn.Bf16OptimWrapper'"
        )


def _options_of_another_optimizer(optimizer: Any) -> Iterator[str]:
    """What an optimizer does not take, such as the momentum of the SGD that it was merged with."""
    kind = optimizer.get("type") if isinstance(optimizer, Mapping) else None
    kind = OPTIMIZERS.get(kind) if isinstance(kind, str) else kind
    if not isinstance(kind, type):  # what is unknown is left to the registry's own error
        return
    known = signature(kind).parameters
    unknown = sorted(optimizer.keys() - {"type", "_scope_", *known})
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in known.values()):
        yield (
            f"optim_wrapper.optimizer: {kind.__name__} does not take {', '.join(unknown)}: if this "
            "comes from the optimizer of a base config, add _delete_=True to "
            "optim_wrapper.optimizer, else remove it"
        )


def _old_keys(config: Config) -> Iterator[str]:
    for key in sorted(OLD_KEYS.keys() & set(config)):
        yield f"{key} is a key of mmseg 0.x, which nothing reads: set {OLD_KEYS[key]}"
    if "optimizer" in config and ("optim_wrapper" not in config or _sets_optimizer_alone(config)):
        yield (
            f"optimizer={dict(config['optimizer'])} is not read: set "
            "optim_wrapper=dict(optimizer=...) instead"
        )


def _sets_optimizer_alone(config: Config) -> bool:
    """Does the file itself assign ``optimizer`` and make no use of it?

    Base files of mmseg make a variable of that name part of ``optim_wrapper``, and it is then left
    in every config, so its presence alone means nothing.
    """
    file = Path(config.filename or "")
    if file.suffix != ".py" or not file.is_file():
        return False
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assigned = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    read = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    return "optimizer" in assigned - read and "optim_wrapper" not in assigned


def _hooks(config: Config, model: Any, hooks: Sequence[Any]) -> Iterator[str]:
    """Hooks without which a training is not one of stitches."""
    backbone = model["backbone"]
    if _is_one_stitch(backbone):
        return
    known = [_ancestors(hook) for hook in hooks]
    names = {name for ancestors in known for name in ancestors}
    starts_anew = not config.get("load_from") and not config.get("resume")
    solves = len(backbone["anchors"]) > 1 and not backbone.get("stitches")
    solves = solves and backbone.get("rank", 16) > 0  # at 0, layers are trained as a whole
    if solves and starts_anew and INIT not in names:
        yield (
            f"custom_hooks has no mmsn.{INIT}, so stitching layers would stay random: add "
            f"dict(type='mmsn.{INIT}')"
        )
    # A custom hook may draw stitches as well.
    if SAMPLING not in names and all(ancestors for ancestors in known):
        yield (
            f"custom_hooks has no mmsn.{SAMPLING}, so every iteration would train one stitch: add "
            f"dict(type='mmsn.{SAMPLING}'), with stitches=[ID], parts=1 if one is meant"
        )


def _ancestors(hook: Any) -> set[str]:
    """Names of a hook's classes, where it comes from mmengine, mmseg or mmsn; else nothing."""
    kind = hook.get("type") if isinstance(hook, Mapping) else type(hook)
    kind = HOOKS.get(kind) if isinstance(kind, str) else kind
    bases = getattr(kind, "__mro__", ())
    names = {base.__name__ for base in bases}
    own = getattr(kind, "__module__", "").partition(".")[0]
    return names if own in ("mmengine", "mmseg", "mmsn") or SAMPLING in names else set()
