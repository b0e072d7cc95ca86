"""Images that fix the scales of activations in 8 bits, as the network sees them.

They go through the resize, normalization and windows that the exported file carries. Left out on
purpose: choosing good images. They should be like those of the application; labels are not needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mmsn.deploy.infer import IMAGES
from mmsn.deploy.inference_spec import InferenceSpec
from mmsn.deploy.predictor import Predictor
from mmsn.errors import UserError


def calibration_windows(
    model: Any, folder: str | Path, image_size: tuple[int, int] | None, count: int = 64
) -> list[np.ndarray]:
    """What the file of a segmentor gets for images of a folder: resized, normalized, in windows.

    Args:
        model: the segmentor that is exported.
        folder: with images, in subfolders as well.
        image_size: as ``export`` takes it.
        count: images at most, evenly spaced among the sorted files. Each gives one window, the
            first of the first image, the second of the second and so on.

    Raises:
        UserError: no images, or windows of another size than ``image_size``.
    """
    files = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in IMAGES)
    if not files:
        raise UserError(f"{str(folder)!r} holds no images ({', '.join(IMAGES)}): give their folder")
    spec = InferenceSpec.of(model).for_file(image_size)
    predictor = Predictor(_unused, spec)
    found: list[np.ndarray] = []
    for i in range(min(count, len(files))):
        file = files[i * len(files) // min(count, len(files))]
        windows = predictor.windows(file)
        window = windows[i % len(windows)].numpy()
        if image_size is not None and window.shape[2:] != image_size:
            raise UserError(
                f"{str(file)!r} gives a window of {window.shape[2]}x{window.shape[3]} at test "
                f"scale, but the file takes {image_size[0]}x{image_size[1]}: leave it out, or "
                "export with --dynamic-size"
            )
        found.append(window)
    return found


def _unused(image: Tensor) -> Tensor:
    raise AssertionError("only windows are asked for")
