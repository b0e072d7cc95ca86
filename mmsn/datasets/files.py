"""What the dataset writers share: encoding of images, and a folder that records its recipe."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmsn.errors import UserError
from mmsn.files import write_text

Progress = Callable[[int, int], None]
"""Called after every item with (items done, items in all)."""


def encode(array: NDArray[np.uint8] | NDArray[np.uint16], suffix: str) -> bytes:
    """An image `(H, W, 3)` RGB or a map `(H, W)` as the bytes of a .png (exact) or .jpg file.

    Maps may have 16 bits, as .png.
    """
    formats: dict[str, dict[str, Any]] = {
        ".png": {"format": "PNG", "compress_level": 6},
        ".jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    }
    if suffix not in formats:
        raise UserError(f"image suffix is {suffix!r}; give one of {', '.join(formats)}")
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, **formats[suffix])
    return buffer.getvalue()


def claim_folder(root: Path, recipe: Mapping[str, Any]) -> None:
    """Record how `root` is filled, in `root/recipe.json`, so that only the same recipe continues.

    Raises:
        UserError: the folder was filled by another recipe, or its record is damaged.
    """
    root.mkdir(parents=True, exist_ok=True)
    path = root / "recipe.json"
    wanted = json.loads(json.dumps(dict(recipe)))
    if path.exists():
        found = _read_recipe(path)
        differing = [k for k in {**found, **wanted} if found.get(k) != wanted.get(k)]
        if differing:
            there = ", ".join(f"{k}={found.get(k)!r}" for k in differing)
            asked = ", ".join(f"{k}={wanted.get(k)!r}" for k in differing)
            raise UserError(f"{root} holds {there}, asked is {asked}; remove it or name another")
    else:
        write_text(path, json.dumps(wanted, indent=1) + "\n")


def _read_recipe(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        reason = f"{error}"
    else:
        if isinstance(found, dict):
            return found
        reason = f"it holds a {type(found).__name__}"
    raise UserError(
        f"{path} does not say how its folder was filled ({reason}): name another folder, or remove "
        "it to fill it anew"
    )
