"""An extracted anchor as a model that mmseg and timm load without mmsn.

mmseg's ``TIMMBackbone`` gives the same raw block outputs at any input size. It has no
projection to another width: where the anchor is not the last one, its projections are folded
into the 1x1 convolutions of a ``MultiLevelNeck``, which also saves their cost. No module that mmseg
and mmcv register can be such a projection alone, so heads without that neck still need mmsn.

``save`` writes its weights as a ``.pth``, because mmengine alone reads no safetensors. It holds
tensors and the names of classes, which ``torch.load(weights_only=True)`` takes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

from mmengine.config import Config
from torch import Tensor

from mmsn.errors import UserError
from mmsn.models import StitchedViT
from mmsn.models.backbone import layer_name
from mmsn.models.opening import build
from mmsn.stitching import LayerKey
from mmsn.stitching.stitch import Tap

NEEDS_MMSN = "extract it without --plain, or export it"


def plain(config: Config, weights: Mapping[str, Tensor]) -> tuple[Config, dict[str, Tensor]]:
    """Config and weights for mmseg and timm alone, of what ``extract`` gave for one anchor.

    Data and loops of the config that are mmsn's own are left out.

    Raises:
        UserError: more than one anchor, or one that is not a plain timm ViT in this model.
    """
    network = build(config, "meta")
    backbone = network.backbone
    if not isinstance(backbone, StitchedViT):
        raise UserError(
            f"{type(backbone).__name__} norms its levels, which timm alone does not: {NEEDS_MMSN}"
        )
    stitch = backbone.stitch
    if len(backbone.space) > 1 or stitch.kind != "anchor":
        raise UserError(
            f"stitches {backbone.space.ids} are not one anchor alone, which is what mmseg and timm "
            f"can run: anchors are 0 to {len(backbone.anchors) - 1}; {NEEDS_MMSN}"
        )
    index = stitch.segments[0].anchor
    spec = dict(config.model.backbone.anchors[index])
    for option, why in (
        (spec.pop("rel_pos_bias", False), "a relative position bias"),
        (backbone.output_cls_token, "class tokens for its head"),
    ):
        if option:
            raise UserError(
                f"anchor {spec['model_name']!r} has {why}, which timm lacks: {NEEDS_MMSN}"
            )
    route = backbone.space.route(stitch, backbone.out_indices, backbone.train_levels)
    taps = [step for step in route if isinstance(step, Tap)]
    blocks = [backbone.space.level_tap(backbone.out_indices[tap.level], index)[0] for tap in taps]
    if len(set(blocks)) < len(blocks):
        raise UserError(
            f"levels of anchor {spec['model_name']!r} come from blocks {blocks}, but timm gives "
            f"each block once: {NEEDS_MMSN}"
        )

    small = copy.deepcopy(config)
    small.model.backbone = dict(
        type="TIMMBackbone",
        features_only=True,
        pretrained=False,
        img_size=list(backbone.img_size),
        dynamic_img_size=True,
        dynamic_img_pad=True,
        out_indices=blocks,
        **spec,
    )
    old, new = f"backbone.anchors.{index}.vit.", "backbone.timm_model.model."
    state = {
        name.replace(old, new): value
        for name, value in weights.items()
        if not name.startswith("backbone.stitching_layers.")
    }
    for position, tap in enumerate(taps):
        if tap.path:
            _fold(small, state, position, tap.path, weights)
    # The folded convolutions read the width of this anchor.
    if taps[0].path:
        small.model.neck.in_channels = [backbone.anchor(index).dim] * len(taps)
    _leave_out_mmsn(small)
    return small, state


def _fold(
    config: Config,
    state: dict[str, Tensor],
    position: int,
    path: tuple[LayerKey, ...],
    weights: Mapping[str, Tensor],
) -> None:
    """Put the projection before a lateral convolution into that convolution, in float64."""
    name, neck = f"neck.lateral_convs.{position}.conv", config.model.get("neck") or {}
    if neck.get("type") != "MultiLevelNeck" or f"{name}.bias" not in state:
        raise UserError(
            "this anchor's levels have a projection to the last anchor's width, which mmseg alone "
            f"can run only inside a MultiLevelNeck without norm: {NEEDS_MMSN}"
        )
    lateral, bias = state[f"{name}.weight"].double()[:, :, 0, 0], state[f"{name}.bias"].double()
    # From the last projection to the first: each bias passes through the weights after it.
    for key in reversed(path):
        layer = f"backbone.stitching_layers.{layer_name(key)}"
        bias = bias + lateral @ weights[f"{layer}.bias"].double()
        lateral = lateral @ weights[f"{layer}.weight"].double()
    dtype = state[f"{name}.weight"].dtype
    state[f"{name}.weight"] = lateral[:, :, None, None].to(dtype)
    state[f"{name}.bias"] = bias.to(dtype)


def _leave_out_mmsn(config: Config) -> None:
    config.custom_imports.imports.remove("mmsn")
    if not config.custom_imports.imports:
        config.pop("custom_imports")
    for name, loop in (("val_cfg", "ValLoop"), ("test_cfg", "TestLoop")):
        if config.get(name, {}).get("type", "").startswith("mmsn."):
            config[name] = dict(type=loop)
    hooks = config.get("custom_hooks", [])
    config.custom_hooks = [h for h in hooks if not str(h.get("type")).startswith("mmsn.")]
    defaults = config.get("default_hooks", {})
    for name, hook in list(defaults.items()):
        if hook.get("type") == "mmsn.AtomicCheckpointHook":  # takes the options of mmengine's own
            hook.type = "CheckpointHook"
        elif str(hook.get("type")).startswith("mmsn."):
            defaults.pop(name)
    for split in ("train", "val", "test"):
        if "mmsn." in str(config.get(f"{split}_dataloader", "")):
            for part in ("dataloader", "cfg", "evaluator"):
                config.pop(f"{split}_{part}", None)
