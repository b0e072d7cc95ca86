"""Extract one or several stitches of a supernet: a smaller config, and only the weights they use.

Low-rank updates are merged. What only training needs is left out: auxiliary heads, the feature
levels that only they read, and the names of pretrained weights. The result has the same backbone
class with ``stitches=[...]``, so it can be tested, trained, extracted from and exported like any
other. ``plain_anchor.py`` turns an anchor further into a model that needs no mmsn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor

from mmsn.deploy.menu import StitchMenu
from mmsn.errors import UserError
from mmsn.files import write_text
from mmsn.models import StitchedBackbone
from mmsn.models.backbone import layer_name
from mmsn.models.opening import build, check_weights, open_segmentor, read_config, with_weights
from mmsn.segmentor_config import STITCHED, type_name
from mmsn.state_dict import read_checkpoint, write_checkpoint
from mmsn.stitching import StitchingLayer

# What a Runner and mmseg's inference read. Intermediate variables of configs are left out.
RUNNER_KEYS = (
    *("default_scope", "custom_imports", "model", "runner_type", "randomness", "env_cfg"),
    *("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler", "auto_scale_lr"),
    *("val_dataloader", "val_cfg", "val_evaluator", "test_dataloader", "test_cfg"),
    *("test_evaluator", "train_pipeline", "test_pipeline", "tta_pipeline", "tta_model"),
    *("default_hooks", "custom_hooks", "visualizer", "log_processor", "log_level"),
    *("find_unused_parameters", "model_wrapper_cfg", "sync_bn", "compile"),
)
CONFIG = "config.py"
WEIGHTS = "model.safetensors"
PLAIN_WEIGHTS = "model.pth"  # mmengine alone reads no safetensors


def extract(
    config: Config, state: Mapping[str, Tensor], stitches: Sequence[int]
) -> tuple[Config, dict[str, Tensor]]:
    """The config and the weights of some stitches of a supernet.

    Args:
        config: of an mmseg segmentor with a stitched backbone.
        state: its state dict, for example ``model.state_dict()``; auxiliary heads may be missing.
        stitches: ids. Several make a smaller supernet, in which they keep their ids.

    Raises:
        UserError: no stitched backbone in the config, or weights of another network.
        UserError: stitches that the network does not have.
    """
    backbone = config.get("model", {}).get("backbone", {})
    kind = backbone.get("type")
    if type_name(backbone) not in STITCHED:
        raise UserError(
            f"the config's model.backbone has type {kind!r}, which has no stitches: give the "
            "config of a network with backbone type 'mmsn.StitchedViT'"
        )
    whole = build(config, "meta")
    # First: later, keys that the smaller network lacks would go unnoticed.
    check_weights(whole, state)
    smaller = _smaller(config, whole.backbone, whole.backbone.space.subset(stitches).ids)
    network = build(smaller, "meta")
    # By name: blocks keep their indices in a smaller network. Stitching layers are replaced below,
    # because W alone is not the layer.
    weights = {name: state[name].detach() for name in network.state_dict()}
    for key in network.backbone.layer_keys:
        name = f"backbone.stitching_layers.{layer_name(key)}."
        own = {k.removeprefix(name): v for k, v in state.items() if k.startswith(name)}
        weights[f"{name}weight"] = _merged(whole.backbone.layer(key), own)
    # safetensors refuses tensors that are not contiguous.
    return smaller, {name: value.cpu().contiguous() for name, value in weights.items()}


def _merged(layer: StitchingLayer, own: Mapping[str, Tensor]) -> Tensor:
    # The network is on the meta device; only this layer gets memory.
    layer = layer.to_empty(device="cpu")
    layer.load_state_dict(own)
    return layer.merged_weight().detach()


def _smaller(config: Config, backbone: StitchedBackbone, stitches: tuple[int, ...]) -> Config:
    given = config.to_dict()
    small = Config({key: given[key] for key in RUNNER_KEYS if key in given})
    imports = [*small.get("custom_imports", {}).get("imports", []), "mmsn"]
    small.custom_imports = dict(imports=list(dict.fromkeys(imports)))
    # Files of this machine, which may not exist where the extraction is used.
    small.load_from, small.resume = None, False

    model = small.model
    model.pop("pretrained", None)
    model.pop("auxiliary_head", None)
    _forget_files(model)
    spec = model.backbone
    for anchor in spec.anchors:
        for name in ("pretrained", "checkpoint", "prefix"):
            anchor.pop(name, None)
    spec.pop("pretrained", None)
    # Merged layers have no update left that could be scaled.
    spec.pop("alpha", None)
    spec.rank, spec.stitches = 0, list(stitches)
    levels = backbone.eval_levels
    if spec.pop("eval_levels", None) is not None:
        spec.out_indices = [spec.out_indices[level] for level in levels]
        heads = model.decode_head if isinstance(model.decode_head, list) else [model.decode_head]
        heads = [*heads, *([model.depth_head] if "depth_head" in model else [])]
        # A neck sees all levels that are left and gives its own, which keep their numbers.
        for head in heads if model.get("neck") is None else ():
            head.in_index = _renumbered(head.get("in_index", -1), levels, backbone.train_levels)

    for name in ("val_cfg", "test_cfg"):
        loop = small.get(name)
        if loop and loop.get("type") in ("mmsn.ParetoValLoop", "mmsn.ParetoTestLoop"):
            loop.stitches = "all"
            loop.pop("budgets", None)
    # The layers are solved, and with blocks missing they could not be solved again.
    gone = ["mmsn.StitchInitHook"]
    # A single stitch needs no draws, and each of its parameters receives a gradient.
    if len(stitches) == 1:
        gone.append("mmsn.FLOPsConstrainedSamplingHook")
        small.pop("find_unused_parameters", None)
    hooks = [hook for hook in small.get("custom_hooks", []) if hook.get("type") not in gone]
    for hook in hooks:
        if hook.get("type") == "mmsn.FLOPsConstrainedSamplingHook":
            hook.stitches = "all"
    small.custom_hooks = hooks
    return small


def _forget_files(section: Any) -> None:
    """Remove every ``init_cfg`` that would load a file."""
    if isinstance(section, dict):
        init = section.get("init_cfg")
        if isinstance(init, dict) and init.get("type") == "Pretrained":
            del section["init_cfg"]
    for part in section.values() if isinstance(section, dict) else section:
        if isinstance(part, (dict, list, tuple)):
            _forget_files(part)


def _renumbered(in_index: Any, kept: Sequence[int], levels: Sequence[int]) -> Any:
    """The positions that a head reads, renumbered for the levels that are kept."""
    if isinstance(in_index, (list, tuple)):
        return [_renumbered(index, kept, levels) for index in in_index]
    level = levels[in_index]
    if level not in kept:
        raise UserError(
            f"a head's in_index {in_index} reads a level that the backbone's eval_levels "
            f"{tuple(kept)} leave out: name it there"
        )
    return list(kept).index(level)


def save(
    folder: str | Path,
    config: Config,
    weights: dict[str, Tensor],
    dataset_meta: dict[str, Any] | None = None,
) -> Path:
    """Write ``config.py`` and the weights beside it; returns the path of the weights.

    They are ``model.safetensors``, or ``model.pth`` for a config that does not import mmsn.

    Raises:
        UserError: the folder holds an extraction.
    """
    folder = Path(folder)
    there = [name for name in (CONFIG, WEIGHTS, PLAIN_WEIGHTS) if (folder / name).exists()]
    if there:
        raise UserError(
            f"{folder} holds {' and '.join(there)} already: give another folder, or remove them"
        )
    folder.mkdir(parents=True, exist_ok=True)
    imports_mmsn = "mmsn" in config.get("custom_imports", {}).get("imports", ())
    path = folder / (WEIGHTS if imports_mmsn else PLAIN_WEIGHTS)
    write_checkpoint(path, weights, dataset_meta or {})
    write_text(folder / CONFIG, config.pretty_text)
    return path


def open_stitch(
    config: str | Path,
    checkpoint: str | Path,
    stitch: str | int | None = None,
    device: str | torch.device = "cpu",
) -> Any:
    """The segmentor of one stitch, from the files of a supernet or of an extraction.

    Args:
        config: its file.
        checkpoint: its weights.
        stitch: id or name of one stitch (``StitchMenu.one``); not needed where there is only one.
        device: of the model.

    Raises:
        MissingFile: no such config or checkpoint.
        UserError: several stitches, and none is named; or as ``open_segmentor``.
    """
    whole = read_config(config)
    network = build(whole, "meta")
    if stitch is None:
        known = network.backbone.space if isinstance(network.backbone, StitchedBackbone) else ()
        if len(known) > 1:
            raise UserError(
                f"the config has {len(known)} stitches, of which one is wanted: name it with "
                "--stitch"
            )
        return open_segmentor(whole, checkpoint, device)
    stitch_id = StitchMenu(network).one(stitch)
    state, meta = read_checkpoint(checkpoint)
    return with_weights(*extract(whole, state, [stitch_id]), meta, device)
