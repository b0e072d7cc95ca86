"""FLOPs and parameters of a whole segmentor, for every stitch.

The backbone is counted in closed form (``mmsn.stitching.cost``). Neck and heads may be of any
class, so they are counted from shapes (``mmsn.models.tracing``), once for all stitches, because the
shapes of levels do not depend on the stitch. Resizing the prediction to the image is left out.
"""

from __future__ import annotations

from typing import Any

import torch
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mmsn.errors import UserError
from mmsn.models.depth_heads import levels_for
from mmsn.models.prefix_sharing import Level
from mmsn.models.stitched_vit import StitchedViT
from mmsn.models.tracing import LiveBytes, MacCounter, on_meta

# A training step computes as much as this many forward passes: its backward pass multiplies twice
# per weight, once for the gradient of the layer's input and once for that of its weight.
STEP_PASSES = 3


def unwrap(model: Any) -> Any:
    """The segmentor itself, without wrappers for distributed training or test-time augmentation."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def stitched_backbone(model: nn.Module) -> StitchedViT:
    """The ``StitchedViT`` in a model, which may be wrapped for distributed training.

    Raises:
        UserError: there is none, or more than one.
    """
    bare = unwrap(model)
    found = [module for module in bare.modules() if isinstance(module, StitchedViT)]
    if len(found) != 1:
        raise UserError(
            f"{type(bare).__name__} has {len(found)} StitchedViT backbones, but needs exactly one: "
            "set backbone=dict(type='mmsn.StitchedViT', ...) in the config"
        )
    return found[0]


class NeckAndHeads(nn.Module):
    """Neck and heads as one module from feature levels to outputs.

    Args:
        model: a segmentor without wrappers; its modules are used, not copied.
        auxiliary: run auxiliary heads, too, as training does; their outputs are dropped.
    """

    def __init__(self, model: Any, auxiliary: bool = False) -> None:
        super().__init__()
        self.neck = getattr(model, "neck", None)
        head = model.decode_head
        self.heads = head if isinstance(head, nn.ModuleList) else nn.ModuleList([head])
        self.depth_head = getattr(model, "depth_head", None)  # of a MultiTaskSegmentor
        extra = getattr(model, "auxiliary_head", None) if auxiliary else None
        extra = [] if extra is None else extra
        self.extra = nn.ModuleList(extra if isinstance(extra, (list, nn.ModuleList)) else [extra])

    def forward(self, *levels: Level) -> tuple[Tensor, ...]:
        """Levels to (B, classes, h, w) logits, and (B, 1, h, w) depth of a depth head."""
        features = self.neck(levels) if self.neck is not None else levels
        for head in self.extra:
            head(levels_for(head, features))
        maps = levels_for(self.heads[0], features)
        out = self.heads[0](maps)
        for head in self.heads[1:]:  # of a CascadeEncoderDecoder: each refines the one before
            out = head(maps, out)
        if self.depth_head is None:
            return (out,)
        return out, self.depth_head(levels_for(self.depth_head, features))


@torch.no_grad()
def trace_head(model: Any, image_size: tuple[int, int]) -> tuple[int, int]:
    """Multiply-accumulates and peak bytes of activations of neck and heads for one image.

    ``image_size`` is (height, width) in pixels. Multiply-accumulates are counted as fvcore counts;
    bytes are those of the weights' type and include the levels that come in.
    """
    model = unwrap(model)
    levels = stitched_backbone(model).zero_levels(image_size, "meta")
    head = on_meta(NeckAndHeads(model))
    with MacCounter() as counter:
        head(*levels)
    with LiveBytes() as memory:
        for level in tree_leaves(levels):
            memory.add(level)
        head(*levels)
    return counter.macs, memory.peak


def head_macs(model: Any, image_size: tuple[int, int]) -> int:
    """Multiply-accumulates of neck and heads for one (height, width) image."""
    return trace_head(model, image_size)[0]


def segmentor_macs(model: Any, image_size: tuple[int, int]) -> dict[int, int]:
    """Multiply-accumulates of backbone, neck and heads in inference, by stitch id."""
    head = head_macs(model, image_size)
    macs = stitched_backbone(model).stitch_macs(image_size)
    return {stitch_id: backbone + head for stitch_id, backbone in macs.items()}


@torch.no_grad()
def training_macs(model: Any, image_size: tuple[int, int]) -> dict[int, int]:
    """Multiply-accumulates of one image's forward pass in training mode, by stitch id.

    Training computes every level and runs the auxiliary heads. The backward pass is not included.
    """
    model = unwrap(model)
    backbone = stitched_backbone(model)
    with MacCounter() as counter:
        on_meta(NeckAndHeads(model, auxiliary=True))(*backbone.zero_levels(image_size, "meta"))
    macs = backbone.stitch_macs(image_size, backbone.train_levels)
    return {stitch_id: of_backbone + counter.macs for stitch_id, of_backbone in macs.items()}


def segmentor_params(model: Any) -> dict[int, int]:
    """Parameters that inference with each stitch uses, by id: backbone, neck and heads."""
    head = sum(p.numel() for p in NeckAndHeads(unwrap(model)).parameters())
    params = stitched_backbone(model).stitch_params()
    return {stitch_id: backbone + head for stitch_id, backbone in params.items()}
