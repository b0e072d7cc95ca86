"""Layer-wise learning rates for stitched anchors.

mmseg's constructors know the layers of BEiT, MAE and ConvNeXt by the names of their parameters, and
raise ``NotImplementedError`` for every other backbone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from mmsn.errors import UserError
from mmsn.models import StitchedViT, stitched_backbone
from mmsn.registry import OPTIM_WRAPPER_CONSTRUCTORS

BLOCK = re.compile(r"(?:vit\.blocks|rel_pos\.tables)\.(\d+)\.?")
OPTIONS = {"decay_rate", "custom_keys"}


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimizerConstructor(DefaultOptimWrapperConstructor):
    """Blocks of the anchors learn more slowly, the closer they are to the image.

    In an anchor of depth D, block i (0-based) learns at ``decay_rate ** (D - i)`` times the rate of
    the optimizer, and the embedding at ``decay_rate ** (D + 1)`` times that, as in BEiT and MAE.
    Each anchor counts its own blocks. Stitching layers, necks and heads learn at the full rate:
    none of them was pretrained. Vectors (biases, norms, layer scales) and tokens have no weight
    decay.

    Modifications of ``DefaultOptimWrapperConstructor``: ``paramwise_cfg`` has ``decay_rate``
    (required) and ``custom_keys``, of which the longest that is part of a parameter's name
    multiplies its rate by ``lr_mult`` and its weight decay by ``decay_mult``. Frozen parameters
    are left out.

    Raises:
        UserError: other options, or a rate outside 0 to 1.
    """

    def add_params(self, params: list[dict], module: nn.Module, **kwargs: Any) -> None:
        """Append one group for each pair of rate and weight decay."""
        options = dict(self.paramwise_cfg)
        rate = options.get("decay_rate")
        if (
            not OPTIONS.issuperset(options)
            or not isinstance(rate, int | float)
            or not 0 < rate <= 1
        ):
            raise UserError(
                f"paramwise_cfg {options} is not allowed for LayerDecayOptimizerConstructor: give "
                "decay_rate, above 0 and up to 1, and custom_keys if wanted"
            )
        scales = layer_scales(stitched_backbone(module), float(rate))
        groups: dict[tuple[float, float], dict[str, Any]] = {}
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            custom = _custom(options.get("custom_keys", {}), name)
            scale = scales.get(id(parameter), 1.0) * custom.get("lr_mult", 1.0)
            decays = parameter.ndim > 1 and not name.endswith(("_token", "pos_embed"))
            decay = (self.base_wd or 0.0) * decays * custom.get("decay_mult", 1.0)
            group = groups.setdefault(
                (scale, decay), dict(params=[], lr=scale * self.base_lr, weight_decay=decay)
            )
            group["params"].append(parameter)
        params.extend(groups.values())
        rates = [group["lr"] for group in groups.values()]
        print_log(
            f"Layer-wise learning rates with decay_rate {rate}: {min(rates):.3g} to "
            f"{max(rates):.3g} in {len(groups)} groups, the full one for new layers",
            logger="current",
        )


def layer_scales(backbone: StitchedViT, rate: float) -> dict[int, float]:
    """Factor of the learning rate by ``id`` of each parameter of the anchors."""
    scales = {}
    for index in range(len(backbone.anchors)):
        anchor = backbone.anchor(index)
        for name, parameter in anchor.named_parameters():
            block = BLOCK.match(name)
            # Layer 0 is the embedding: patches, positions and tokens.
            layer = 0 if block is None else 1 + int(block[1])
            scales[id(parameter)] = rate ** (anchor.depth + 1 - layer)
    return scales


def _custom(keys: Mapping[str, Mapping[str, float]], name: str) -> Mapping[str, float]:
    fitting = [key for key in keys if key in name]
    return keys[max(fitting, key=len)] if fitting else {}
