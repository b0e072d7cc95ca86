"""Datasets that mmseg lacks: NYUv2 with 40 classes, and the small built-in shapes."""

from .nyuv2 import NYUv2SegDataset
from .nyuv2_convert import convert_nyuv2
from .shapes import ShapesDataset, generate_shapes
from .shapes_render import Scene

__all__ = ["NYUv2SegDataset", "Scene", "ShapesDataset", "convert_nyuv2", "generate_shapes"]
