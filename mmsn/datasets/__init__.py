"""Datasets that mmseg lacks: NYUv2 with 40 classes and with depth, and the built-in shapes."""

from .depth_transforms import (
    DivideDepthByZoom,
    FixedCrop,
    GammaBrightnessColor,
    RotateWithDepth,
    VerticalCutDepth,
)
from .nyuv2 import NYUv2SegDataset
from .nyuv2_convert import convert_nyuv2
from .nyuv2_depth import NYUv2DepthDataset
from .shapes import ShapesDataset, generate_shapes
from .shapes_render import Scene

__all__ = [
    "DivideDepthByZoom",
    "FixedCrop",
    "GammaBrightnessColor",
    "NYUv2DepthDataset",
    "NYUv2SegDataset",
    "RotateWithDepth",
    "Scene",
    "ShapesDataset",
    "VerticalCutDepth",
    "convert_nyuv2",
    "generate_shapes",
]
