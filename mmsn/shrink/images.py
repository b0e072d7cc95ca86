"""Unlabeled images for distillation, as a pure function of a seed and a count.

Sample number n is the same in every run, whatever ran before it: an interrupted distillation
continues with exactly the images that it would have seen.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from mmsn.errors import MissingFile, UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
CROP_AREA = (0.25, 1.0)  # share of the image
CROP_RATIO = (3 / 4, 4 / 3)  # stretch relative to the aspect ratio of the output
JITTER = 0.2  # brightness, contrast and saturation change by up to this share


def find_images(sources: Sequence[str | Path]) -> list[Path]:
    """All images below folders, and those that text files list, one path per line.

    A listed path is relative to its list. The order is the same on every machine.

    Raises:
        MissingFile: a source or a listed image is not there.
        UserError: a source without images.
    """
    found: list[Path] = []
    for source in map(Path, sources):
        if source.is_dir():
            files = sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES)
        elif source.is_file():
            try:
                lines = [line.strip() for line in source.read_text(encoding="utf-8").splitlines()]
            except UnicodeDecodeError as error:
                raise UserError(f"{str(source)!r} is not a list of paths ({error})") from error
            files = [source.parent / line for line in lines if line]
            absent = [file for file in files if not os.path.isfile(file)]
            if absent:
                raise MissingFile(
                    f"{str(source)!r} lists {len(absent)} images that do not exist, "
                    f"the first is {str(absent[0])!r}"
                )
        else:
            raise MissingFile(
                f"images {str(source)!r} do not exist: give a folder, or a text file of paths"
            )
        if not files:
            raise UserError(f"{str(source)!r} holds no image ({', '.join(SUFFIXES)})")
        found += files
    return found


def held_out_split(files: Sequence[Path], count: int, seed: int) -> tuple[list[Path], list[Path]]:
    """(training images, ``count`` held-out images), chosen by the seed.

    Raises:
        UserError: nothing would be left to train on, or to measure on.
    """
    if not 0 < count < len(files):
        raise UserError(
            f"{count} held-out images of {len(files)}: give at least 1 and leave at least 1"
        )
    order = torch.randperm(len(files), generator=_generator(seed, 0)).tolist()
    chosen = set(order[:count])
    train = [file for index, file in enumerate(files) if index not in chosen]
    return train, [files[index] for index in sorted(chosen)]


class UnlabeledImages(Dataset):
    """Normalized (3, H, W) images; element n of an endless sequence, or of the files in order.

    Args:
        files: images that PIL reads.
        size: (height, width) of the output.
        mean, std: of the parent's pretraining, for channels in 0 to 1.
        seed: with it, shuffled epochs, random crops, flips and mild color changes follow each
            other endlessly. Without it, element n is file n as it is.
    """

    def __init__(
        self,
        files: Sequence[Path],
        size: tuple[int, int],
        mean: Sequence[float],
        std: Sequence[float],
        seed: int | None = None,
    ) -> None:
        self.files, self.size, self.seed = list(files), size, seed
        self.mean = torch.tensor(mean)[:, None, None]
        self.std = torch.tensor(std)[:, None, None]
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, n: int) -> Tensor:
        if self.seed is None:
            return (self._read(self.files[n], None, None) - self.mean) / self.std
        # The order is drawn per epoch, and kept while numbers stay in it, as they mostly do.
        epoch, place = divmod(n, len(self.files))
        if epoch != self._epoch:
            generator = _generator(self.seed, 1, epoch)
            self._epoch = epoch
            self._order = torch.randperm(len(self.files), generator=generator)
        generator = _generator(self.seed, 2, n)
        image = self._read(self.files[int(self._order[place])], CROP_AREA, generator)
        if torch.rand((), generator=generator) < 0.5:
            image = image.flip(-1)
        return (jitter(image, generator) - self.mean) / self.std

    def batch(self, numbers: Sequence[int]) -> Tensor:
        """(B, 3, H, W)."""
        return torch.stack([self[n] for n in numbers])

    def _read(
        self, file: Path, area: tuple[float, float] | None, generator: torch.Generator | None
    ) -> Tensor:
        height, width = self.size
        try:
            with Image.open(file) as image:
                whole = image.size
                left, top, right, bottom = (0.0, 0.0, *map(float, whole))
                if area is not None:
                    left, top, right, bottom = _crop(whole, width / height, area, generator)
                # A JPEG decodes at 1/2 to 1/8 of its size several times as fast.
                need = (
                    math.ceil(whole[0] * width / (right - left)),
                    math.ceil(whole[1] * height / (bottom - top)),
                )
                image.draft("RGB", need)  # for other formats it does nothing
                x, y = image.width / whole[0], image.height / whole[1]
                box = (left * x, top * y, right * x, bottom * y)
                pixels = image.convert("RGB").resize(
                    (width, height), Image.Resampling.BILINEAR, box
                )
        except (OSError, Image.DecompressionBombError) as error:
            raise UserError(
                f"image {str(file)!r} cannot be read ({error}): remove it from the images"
            ) from error
        return torch.from_numpy(np.array(pixels)).permute(2, 0, 1).float() / 255  # HWC -> CHW


class LabeledImages(UnlabeledImages):
    """Pairs of an image and its class: the place of its folder's name in alphabetic order.

    Modifications of ``UnlabeledImages``: the class. For the folders of ImageNet-1k it is the one
    that timm's classifiers mean.

    Raises:
        UserError: another number of folders than ``num_classes``.
    """

    def __init__(self, files: Sequence[Path], num_classes: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(files, *args, **kwargs)
        names = sorted({file.parent.name for file in self.files})
        if len(names) != num_classes:
            raise UserError(
                f"images lie in {len(names)} folders, but the classifier has {num_classes} "
                "classes: give one folder per class, or train without labels"
            )
        self._classes = {name: number for number, name in enumerate(names)}

    def __getitem__(self, n: int) -> Any:
        image = super().__getitem__(n)  # first: it draws the order of the epoch
        index = n if self.seed is None else int(self._order[n % len(self.files)])
        return image, self._classes[self.files[index].parent.name]


def jitter(image: Tensor, generator: torch.Generator) -> Tensor:
    """Change brightness, contrast and saturation of a (3, H, W) image in 0 to 1."""
    brightness, contrast, saturation = (
        1 + JITTER * (2 * torch.rand(3, generator=generator) - 1)
    ).unbind()
    image = (image * brightness).clamp(0, 1)
    image = (image.mean() + (image - image.mean()) * contrast).clamp(0, 1)
    gray = image.mean(0, keepdim=True)
    return (gray + (image - gray) * saturation).clamp(0, 1)


def normalization_of(config: dict[str, Any]) -> tuple[Sequence[float], Sequence[float]]:
    """(mean, std) that a timm ``pretrained_cfg`` asks for."""
    return config["mean"], config["std"]


def _crop(
    whole: tuple[int, int],
    output_ratio: float,
    area: tuple[float, float],
    generator: torch.Generator | None,
) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) in pixels: a share of the image, near the output's ratio."""
    share, log_stretch, x, y = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
    low, high = map(math.log, CROP_RATIO)
    # Uniform in the logarithm: as many stretched to the width as to the height.
    ratio = output_ratio * math.exp(low + (high - low) * log_stretch)
    pixels = (area[0] + (area[1] - area[0]) * share) * whole[0] * whole[1]
    width = min(math.sqrt(pixels * ratio), whole[0])
    height = min(math.sqrt(pixels / ratio), whole[1])
    left, top = x * (whole[0] - width), y * (whole[1] - height)
    return left, top, left + width, top + height


def _generator(*key: int) -> torch.Generator:
    """A generator for a tuple of numbers; nearby tuples give unrelated streams."""
    seed = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(seed) % 2**63)
