"""Adapting what trains and evaluates the network: normalization, optimizer, hooks and loops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.config import Config, ConfigDict

from mmsn.adopt.changes import ChangeLog
from mmsn.segmentor_config import AnchorFacts, has_foreign_layer_decay, is_close, type_name


def adapt_normalization(
    model: Any, facts: Sequence[AnchorFacts], crop: tuple[int, int], log: ChangeLog
) -> None:
    """Normalize images as the anchors' published weights expect; the last one decides."""
    known = [one for one in facts if one.mean is not None and one.std is not None]
    if not known:
        log.notes.append(
            "No published weights are used: set mean and std of model.data_preprocessor to what "
            "the anchors' weights were trained with."
        )
        return
    last, path = known[-1], "model.data_preprocessor"
    if model.get("data_preprocessor") is None:
        model["data_preprocessor"] = ConfigDict(
            type="SegDataPreProcessor", pad_val=0, seg_pad_val=255, size=crop
        )
        log.add(path, "added", "without one, images are not normalized")
    preprocessor, why = model["data_preprocessor"], f"normalization of {last.name}"
    for key, value in (("mean", last.mean), ("std", last.std)):
        if not is_close(preprocessor.get(key), value):
            log.set(path, preprocessor, key, list(value or ()), why)
    log.set(path, preprocessor, "bgr_to_rgb", True, "anchors read RGB")
    for other in known[:-1]:
        if (other.mean, other.std) != (last.mean, last.std):
            log.notes.append(
                f"{other.name} was pretrained with mean {other.mean} and std {other.std}, "
                f"{last.name} with mean {last.mean} and std {last.std}: images are normalized for "
                "the latter."
            )


LAYER_DECAY = "mmsn.LayerDecayOptimizerConstructor"


def adapt_optimizer(config: Config, log: ChangeLog) -> None:
    """Learning rates by layer for anchors; the full rate for stitching layers."""
    wrapper = config["optim_wrapper"]
    options = wrapper.get("paramwise_cfg") or {}
    if has_foreign_layer_decay(wrapper):
        rate = options.get("decay_rate", options.get("layer_decay_rate", 1.0))
        wrapper["paramwise_cfg"] = ConfigDict(decay_rate=rate)
        why = f"it knows the blocks of anchors; decay_rate {rate} as before"
        log.set("optim_wrapper", wrapper, "constructor", LAYER_DECAY, why)
    else:
        _keep_stitching_layers_fast(options.get("custom_keys", {}), log)
    optimizer = wrapper.get("optimizer", {})
    if type_name(optimizer) == "SGD":
        log.notes.append(
            f"optim_wrapper.optimizer is SGD with lr={optimizer.get('lr')}, as before; plain ViTs "
            "are usually trained with AdamW, lr=6e-5 and a warm-up of 1500 iterations."
        )
    if not wrapper.get("constructor"):
        log.notes.append(
            "optim_wrapper has one learning rate for all blocks, as before; rates by layer "
            f"measured better: constructor='{LAYER_DECAY}', paramwise_cfg=dict(decay_rate=0.85)."
        )


def _keep_stitching_layers_fast(keys: Any, log: ChangeLog) -> None:
    """A lower rate of the backbone is meant for pretrained weights."""
    slow = [name for name, value in keys.items() if name in "backbone."]
    slow = [name for name in slow if keys[name].get("lr_mult", 1.0) < 1]
    if slow and "stitching_layers" not in keys:
        keys["stitching_layers"] = ConfigDict(lr_mult=1.0)
        log.add(
            "optim_wrapper.paramwise_cfg.custom_keys.stitching_layers",
            "lr_mult=1.0",
            f"{slow[0]!r} learns slowly because it is pretrained; stitching layers are not",
        )


def adapt_runtime(
    config: Config, stitches: str | int | Sequence[str | int], log: ChangeLog
) -> None:
    """Imports, hooks, loops, and what distributed training needs."""
    _import_mmsn(config, log)
    _add_hooks(config, stitches, log)
    for key, loop in (("val_cfg", "mmsn.ParetoValLoop"), ("test_cfg", "mmsn.ParetoTestLoop")):
        if config.get(key) is not None:
            chosen = ["anchors", "middle"]
            config[key]["stitches"] = chosen
            log.set(key, config[key], "type", loop, f"evaluates the stitches {chosen}")
    why = "an iteration runs some of the stitches, so most parameters get no gradient"
    log.set("", config, "find_unused_parameters", True, why)
    wrapper = config.get("model_wrapper_cfg")
    if wrapper is not None:
        log.set("model_wrapper_cfg", wrapper, "find_unused_parameters", True, why)
    if config.get("load_from"):
        log.set("", config, "load_from", None, "these are weights of another network")
    if config.get("resume"):
        log.set("", config, "resume", False, "there is nothing to resume from yet")


def _import_mmsn(config: Config, log: ChangeLog) -> None:
    imports = config.get("custom_imports") or ConfigDict()
    modules = imports.get("imports") or []
    modules = [modules] if isinstance(modules, str) else list(modules)
    if "mmsn" not in modules:
        imports["imports"] = ["mmsn", *modules]
        config["custom_imports"] = imports
        log.add("custom_imports", "+ mmsn", "registers the types that begin with 'mmsn.'")


def _add_hooks(config: Config, stitches: str | int | Sequence[str | int], log: ChangeLog) -> None:
    hooks = list(config.get("custom_hooks") or [])
    sampling = {} if stitches == "all" else dict(stitches=stitches)
    wanted: list[tuple[dict[str, Any], str]] = [
        (dict(type="mmsn.StitchInitHook"), "solves the stitching layers by least squares"),
        (
            dict(type="mmsn.FLOPsConstrainedSamplingHook", **sampling),
            "draws the stitches that each iteration trains",
        ),
    ]
    for hook, why in wanted:
        hooks.append(ConfigDict(hook))
        log.add("custom_hooks", f"+ {hook['type']}", why)
    config["custom_hooks"] = hooks
