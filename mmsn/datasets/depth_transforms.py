# ruff: noqa: NPY002  # mmengine seeds NumPy's global generator in every worker
"""Augmentations of images with depth, where mmseg's would corrupt depth in meters.

mmseg's `Resize`, `RandomResize`, `RandomFlip` and `RandomCrop` handle `gt_depth_map` correctly:
they move values and never mix or change them. The following do not, and have a replacement here:

- `RandomRotate` fills the corners with `seg_pad_val`, by default 255, as meters;
- `RandomDepthMix` writes millimeters into 8-bit pixels, where they wrap around at 256;
- `PhotoMetricDistortion` has no gamma, and changes contrast and hue more than the field does.

Invalid depth is 0, as in the files. Random numbers come from NumPy's global generator, as in mmcv,
so that the seeds of a loader's workers determine them.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import cv2
import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.datasets.transforms import RandomRotate

from mmsn.errors import UserError
from mmsn.registry import TRANSFORMS

DEPTH = "gt_depth_map"


@TRANSFORMS.register_module()
class FixedCrop(BaseTransform):
    """Cut the same box out of every image and its maps.

    NYUv2's recipes train on rows 45 to 471 and columns 43 to 607: outside of them, the images have
    a white border and the depth is extrapolated.

    Args:
        rows: the first row, and the one after the last.
        columns: the first column, and the one after the last.
    """

    def __init__(self, rows: tuple[int, int], columns: tuple[int, int]) -> None:
        for name, (start, stop) in (("rows", rows), ("columns", columns)):
            if not 0 <= start < stop:
                raise UserError(f"{name} is {(start, stop)}; give 0 <= first < end")
        self.rows, self.columns = rows, columns

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Crop `img` and all maps in `seg_fields`; raises UserError if the image is too small."""
        height, width = results["img"].shape[:2]
        if self.rows[1] > height or self.columns[1] > width:
            raise UserError(
                f"rows {self.rows} and columns {self.columns} do not fit in an image of "
                f"{height}x{width}; crop before resizing, or give a smaller box"
            )
        for key in ("img", *results.get("seg_fields", ())):
            results[key] = results[key][slice(*self.rows), slice(*self.columns)]
        results["img_shape"] = results["img"].shape[:2]
        return results


@TRANSFORMS.register_module()
class RotateWithDepth(RandomRotate):
    """Rotate an image, its labels and its depth by a random angle.

    Modifications of RandomRotate: depth outside of the original image becomes 0, that is, invalid;
    labels there become `seg_pad_val`. Maps are sampled at the nearest pixel, so no depth is an
    average, in particular not of valid and invalid pixels.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Rotate `img` and all maps in `seg_fields`."""
        wanted, angle = self.generate_degree()
        if not wanted:
            return results
        turn = partial(mmcv.imrotate, angle=angle, center=self.center, auto_bound=self.auto_bound)
        results["img"] = turn(results["img"], border_value=self.pal_val)
        for key in results.get("seg_fields", ()):
            border = 0 if key == DEPTH else self.seg_pad_val
            results[key] = turn(results[key], border_value=border, interpolation="nearest")
        results["img_shape"] = results["img"].shape[:2]
        return results


@TRANSFORMS.register_module()
class DivideDepthByZoom(BaseTransform):
    """Divide depth by how much the image was zoomed (Eigen et al., NIPS 2014, augmentation).

    An image that is magnified s times looks as if everything were s times closer, but resizing
    alone does not change depth values. Place this after the resize and before any crop, because the
    zoom is computed from the size of the image.

    Args:
        full_size: width and height at zoom 1, those of the test images.
    """

    def __init__(self, full_size: tuple[int, int]) -> None:
        if min(full_size) < 1:
            raise UserError(f"full_size is {full_size}; give width and height in pixels")
        self.full_size = full_size

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Scale `gt_depth_map`; if the axes have different zooms, by their geometric mean."""
        height, width = results["img"].shape[:2]
        zoom = (height * width / (self.full_size[0] * self.full_size[1])) ** 0.5
        results[DEPTH] = results[DEPTH] / np.float32(zoom)
        return results


@TRANSFORMS.register_module()
class VerticalCutDepth(BaseTransform):
    """Replace one vertical strip of the image by its true depth.

    The augmentation of Global-Local Path Networks (Kim et al., 2022), over the full height. Depth
    is scaled so that `max_depth` is white and invalid depth is black. The published code writes
    millimeters into 8-bit pixels instead, where they wrap around, and so does mmseg's
    RandomDepthMix.

    Args:
        prob: share of images that get a strip.
        share: upper bound of the strip's width, as a share of the width right of its left edge.
        max_depth: meters.
    """

    def __init__(self, prob: float = 0.25, share: float = 0.75, max_depth: float = 10.0) -> None:
        if not (0 <= prob <= 1 and 0 <= share <= 1 and max_depth > 0):
            raise UserError(
                f"prob, share, max_depth are {prob}, {share}, {max_depth}; give two values from "
                "0 to 1, and meters above 0"
            )
        self.prob, self.share, self.max_depth = prob, share, max_depth

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change `img` from `gt_depth_map` of the same size."""
        # drawn before the decision, so that the stream of random numbers is the same either way
        chance, alpha, beta = np.random.random(3)
        if chance >= self.prob:
            return results
        image = results["img"].copy()
        width = image.shape[1]
        left = int(alpha * width)
        strip = slice(left, left + max(1, int((width - left) * self.share * beta)))
        meters = np.nan_to_num(results[DEPTH][:, strip], nan=0.0, posinf=0.0, neginf=0.0)
        gray = np.clip(meters * (255 / self.max_depth), 0, 255).astype(image.dtype)
        image[:, strip] = gray[..., None] if image.ndim == 3 else gray
        results["img"] = image
        return results


@TRANSFORMS.register_module()
class GammaBrightnessColor(BaseTransform):
    """The color augmentation of monocular depth estimation (BTS, AdaBins and their successors).

    A gamma, a brightness and a gain per channel, each drawn uniformly from its range. The gamma is
    applied to values from 0 to 1. The toolbox of SN-Netv2's recipe applies it to values up to 255,
    where a gamma of 0.9 to 1.1 is in effect a brightness of 0.57 to 1.74.

    Args:
        prob: share of images that are changed.
        gamma, brightness, color: ranges to draw from.
    """

    def __init__(
        self,
        prob: float = 0.5,
        gamma: tuple[float, float] = (0.9, 1.1),
        brightness: tuple[float, float] = (0.75, 1.25),
        color: tuple[float, float] = (0.9, 1.1),
    ) -> None:
        if not 0 <= prob <= 1:
            raise UserError(f"prob is {prob}; give a value from 0 to 1")
        for name, (low, high) in (("gamma", gamma), ("brightness", brightness), ("color", color)):
            if not 0 < low <= high:
                raise UserError(f"{name} is {(low, high)}; give 0 < lowest <= highest")
        self.prob, self.gamma, self.brightness, self.color = prob, gamma, brightness, color

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change `img`, 8-bit values that stay 8-bit."""
        chance = np.random.random()
        gamma = np.random.uniform(*self.gamma)
        gain = np.random.uniform(*self.brightness) * np.random.uniform(*self.color, 3)
        if chance < self.prob:
            # a lookup table: 256 powers per channel instead of one per pixel
            table = 255 * (np.arange(256)[:, None] / 255) ** gamma * gain
            table = np.clip(table + 0.5, 0, 255).astype(np.uint8)
            results["img"] = cv2.LUT(results["img"], table[None])
        return results
