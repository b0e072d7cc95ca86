"""A small parent and a few images, for all tests that shrink an anchor."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mmsn import shrink
from mmsn.models.anchor import Anchor

NAME = "deit3_small_patch16_224"
PARENT = dict(embed_dim=24, depth=4, num_heads=3, init_values=0.5)
SIZE = (32, 48)


def make_parent(**options):
    parent = Anchor(NAME, (64, 64), **(PARENT | options))
    for parameter in parent.parameters():  # so that every part matters
        parameter.data += 0.3 * torch.randn_like(parameter)
    return parent.eval().requires_grad_(False)


def write_images(root: Path) -> Path:
    """Twelve images of smooth random colors, in two folders."""
    rng = np.random.default_rng(0)
    for n in range(12):
        small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
        path = root / ("a" if n % 2 else "b") / f"{n}.{'jpg' if n % 3 else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        small.resize((80, 60), Image.Resampling.BICUBIC).save(path)
    return root


def unlabeled(folder, seed=0):
    return shrink.UnlabeledImages(shrink.find_images([folder]), SIZE, [0.5] * 3, [0.25] * 3, seed)
