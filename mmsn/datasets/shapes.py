"""The small built-in dataset: 12 classes of grounds and objects, generated from a seed.

With it, every part of the project can train, stitch and evaluate without a download.
`shapes_render.py` draws the scenes and describes what makes the classes hard to distinguish.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from mmseg.datasets import BaseSegDataset

from mmsn.errors import MissingFile, UserError
from mmsn.files import write_bytes
from mmsn.registry import DATASETS

from .files import Progress, claim_folder, encode
from .shapes_render import CLASSES, Scene, render

PALETTE = (
    *((106, 168, 79), (61, 133, 198), (166, 91, 76), (255, 217, 102), (194, 123, 160)),
    *((255, 153, 0), (127, 96, 0), (234, 153, 153), (39, 78, 19), (255, 255, 0)),
    *((7, 55, 99), (103, 78, 167)),
)
_SPLITS = ("training", "validation")
# Increment when the drawing changes, so that folders of older drawings are rejected, not mixed.
_DRAWING = 1


def generate_shapes(
    root: str | Path,
    num_train: int = 1000,
    num_val: int = 200,
    size: int = 96,
    seed: int = 0,
    scene: Scene | None = None,
    progress: Progress | None = None,
) -> int:
    """Fill `root` with `{images,annotations}/{training,validation}/NNNNN.png` of `size` pixels.

    Every image is a function of (seed, split, number, size, scene) alone, and files are written
    whole or not at all: a second call, an interrupted one and several at the same time produce the
    same bytes. Existing files are kept. Returns the number of images that this call generated.

    Raises UserError if `root` was filled with other arguments.
    """
    root, scene = Path(root), scene or Scene()
    counts = (num_train, num_val)
    if min(counts) < 0:
        raise UserError(f"num_train, num_val are {counts}; give numbers from 0 on")
    recipe = {"dataset": "shapes", "drawing": _DRAWING, "num_train": num_train, "num_val": num_val}
    if size < 32:
        raise UserError(f"size {size} is not allowed: objects need scenes of 32 pixels or more")
    claim_folder(root, {**recipe, "size": size, "seed": seed, **asdict(scene)})
    made = done = 0
    for split, count in enumerate(counts):
        images, labels = root / "images" / _SPLITS[split], root / "annotations" / _SPLITS[split]
        images.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            name = f"{number:05d}.png"
            if not ((images / name).exists() and (labels / name).exists()):
                # a generator per image: its content does not depend on which others are drawn
                rng = np.random.default_rng((seed, split, number))
                for folder, array in zip((images, labels), render(rng, size, scene), strict=True):
                    write_bytes(folder / name, encode(array, ".png"), sync=False)
                made += 1
            done += 1
            if progress:
                progress(done, sum(counts))
    return made


@DATASETS.register_module()
class ShapesDataset(BaseSegDataset):
    """The built-in shapes as mmseg reads them.

    Modifications of BaseSegDataset: classes, palette, PNG images, and an error that says how to
    generate the files if `data_root` has none.
    """

    METAINFO = {"classes": CLASSES, "palette": [list(color) for color in PALETTE]}

    def __init__(
        self, img_suffix: str = ".png", seg_map_suffix: str = ".png", **kwargs: Any
    ) -> None:
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the images. Raises MissingFile if there is no folder of images."""
        folder = self.data_prefix.get("img_path")
        if not folder or not Path(folder).is_dir():
            raise MissingFile(
                f"{folder} is not a folder of images; make the dataset with "
                f"`python tools/dataset_converters/shapes.py {self.data_root or 'data/shapes'}`"
            )
        data_list: list[dict[str, Any]] = super().load_data_list()
        if not data_list:
            raise MissingFile(f"{folder} has no {self.img_suffix} file; make the dataset again")
        return data_list
