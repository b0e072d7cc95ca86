"""FLOPs and parameters of a whole segmentor, for every stitch.

The backbone is counted in closed form (``mmsn.stitching.cost``). Neck and heads may be of any
class, so they are counted from shapes (``mmsn.models.tracing``), once for all stitches, because the
shapes of levels do not depend on the stitch. Resizing the prediction to the image is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mmsn.errors import UserError
from mmsn.models.backbone import StitchedBackbone
from mmsn.models.depth_heads import levels_for
from mmsn.models.prefix_sharing import Level
from mmsn.models.tracing import LiveBytes, MacCounter, on_meta

# A training step computes as much as this many forward passes: its backward pass multiplies twice
# per weight, once for the gradient of the layer's input and once for that of its weight.
STEP_PASSES = 3


def unwrap(model: Any) -> Any:
    """The segmentor itself, without wrappers for distributed training or test-time augmentation."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def stitched_backbone(model: nn.Module) -> StitchedBackbone:
    """The stitched backbone in a model, which may be wrapped for distributed training.

    Raises:
        UserError: there is none, or more than one.
    """
    bare = unwrap(model)
    found = [module for module in bare.modules() if isinstance(module, StitchedBackbone)]
    if len(found) != 1:
        raise UserError(
            f"{type(bare).__name__} has {len(found)} stitched backbones, but needs exactly one: "
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
        head = _head_of(model)
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


def _head_of(model: Any) -> Any:
    """The head of a segmentor, of mmdet's two-stage detectors, or of mmpretrain's classifiers."""
    if hasattr(model, "decode_head"):
        return model.decode_head
    return DetectionHeads(model) if hasattr(model, "roi_head") else model.head


class DetectionHeads(nn.Module):
    """The heads of a two-stage detector on a fixed number of boxes, as counting needs.

    ``boxes`` proposals are classified and ``masks`` of them get a mask, as Mask R-CNN does at
    most. RoIAlign and the suppression of boxes are free, because they multiply no weights.
    """

    boxes, masks = 1000, 100

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.rpn_head, self.roi_head = model.rpn_head, model.roi_head

    def forward(self, maps: Sequence[Tensor]) -> Any:
        """A pyramid of (1, C, h, w) maps to what the last head gives."""
        self.rpn_head(maps)
        out = self.roi_head.bbox_head(self._cut(maps, self.roi_head.bbox_roi_extractor, self.boxes))
        if self.roi_head.with_mask:
            out = self.roi_head.mask_head(
                self._cut(maps, self.roi_head.mask_roi_extractor, self.masks)
            )
        return out

    @staticmethod
    def _cut(maps: Sequence[Tensor], extractor: Any, count: int) -> Tensor:
        height, width = extractor.roi_layers[0].output_size
        return maps[0].new_zeros(count, extractor.out_channels, height, width)


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


@runtime_checkable
class OwnTrainingStep(Protocol):
    """A model whose training step is not one pass of each image and its gradient."""

    def training_step_macs(self, image_size: tuple[int, int]) -> dict[int, int]:
        """See ``step_macs``."""


def step_macs(model: Any, image_size: tuple[int, int]) -> dict[int, int]:
    """Multiply-accumulates of a training step, forward and backward, per image, by stitch id."""
    model = unwrap(model)
    if isinstance(model, OwnTrainingStep):
        return model.training_step_macs(image_size)
    return {i: STEP_PASSES * macs for i, macs in training_macs(model, image_size).items()}


def segmentor_params(model: Any) -> dict[int, int]:
    """Parameters that inference with each stitch uses, by id: backbone, neck and heads."""
    head = sum(p.numel() for p in NeckAndHeads(unwrap(model)).parameters())
    params = stitched_backbone(model).stitch_params()
    return {stitch_id: backbone + head for stitch_id, backbone in params.items()}
