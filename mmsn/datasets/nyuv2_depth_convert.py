"""Convert NYUv2 depth, of the official labeled file or the raw training list, to 16-bit PNG.

Files contain millimeters, so the rounding error is 0.5 mm; 0 means no depth.

The official `nyu_depth_v2_labeled.mat` has, besides what `nyuv2_convert.py` reads,

    depths     (N, 640, 480) float32, meters, holes filled        -> depths/NNNN.png
    rawDepths  (N, 640, 480) float32, meters, 0 for a hole        -> raw_depths/NNNN.png

The raw training list, about 24 000 images of the videos, comes as a folder or zip with
`nyu_train.txt`, `nyu_test.txt` and the files that they list, `SCENE/rgb_NNNNN.jpg` and
`SCENE/sync_depth_NNNNN.png` (already in millimeters). It is converted to mmseg's layout,

    {images,annotations}/{train,test}/SCENE_NNNNN.{jpg,png}

Unlike mmseg's converter, this one does not modify its source, checks every file, and continues
after an interruption.
"""

from __future__ import annotations

import io
import os
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmsn.errors import MissingFile, UserError
from mmsn.files import write_bytes

from .files import Progress, claim_folder, encode
from .nyuv2_convert import IMAGE_SHAPE, Converted, check_array, open_mat, reading

FOLDERS = {"depths": "depths", "rawDepths": "raw_depths"}
MILLIMETERS = 1000  # per meter
LONGEST_NAME = 200  # bytes of SCENE_NNNNN; file systems allow 255, with suffix and temporary parts
Source = Path | zipfile.Path


def convert_nyuv2_depths(
    mat: str | Path, out: str | Path, progress: Progress | None = None
) -> tuple[int, int]:
    """Write `depths` and `raw_depths` into `out`; a call after an interruption continues.

    Returns the numbers of images written by this call and of those that were already there.

    Raises MissingFile for a missing input and UserError for one of unexpected content.
    """
    out, written = Path(out), 0
    with open_mat(mat) as file:
        with reading(mat):
            total = len(file["images"]) if "images" in file else 0
        for key, folder in FOLDERS.items():
            check_array(file, key, (total, *IMAGE_SHAPE[1:]), kinds="f")
            claim_folder(out / folder, {"dataset": f"NYUv2 {key}, millimeters", "count": total})
        for i in range(total):
            paths = {key: out / f"{folder}/{i + 1:04d}.png" for key, folder in FOLDERS.items()}
            if not all(path.exists() for path in paths.values()):
                for key, path in paths.items():
                    with reading(f"{key} of image {i + 1} in {mat}"):
                        meters = file[key][i].T
                    depth = encode(to_millimeters(meters, f"{key} {i + 1}"), ".png")
                    write_bytes(path, depth, sync=False)
                written += 1
            if progress:
                progress(i + 1, total)
    return written, total - written


def to_millimeters(meters: NDArray[Any], name: str) -> NDArray[np.uint16]:
    """Round to whole millimeters; NaN and inf become 0.

    Raises UserError for depth below 0 or above 65.535 m.
    """
    values = np.where(np.isfinite(meters), meters, 0).astype(np.float64) * MILLIMETERS
    low, high = values.min(), values.max()
    if low < 0 or high > np.iinfo(np.uint16).max:
        wrong = (low if low < 0 else high) / MILLIMETERS
        raise UserError(
            f"{name} holds {wrong:.4g} m; 0 to 65.535 m is allowed: give the official "
            "nyu_depth_v2_labeled.mat"
        )
    return np.rint(values).astype(np.uint16)


def convert_nyuv2_raw(
    source: str | Path, out: str | Path, progress: Progress | None = None
) -> Converted:
    """Copy the raw training list into mmseg's layout; a call after an interruption continues.

    `source` is a folder or a .zip that contains the lists, at its top or in one of its folders.
    Pairs that are missing or damaged are skipped, with one line each in the result's `broken`.

    Raises MissingFile if the source or a list is missing, and UserError for a damaged zip.
    """
    root, out = _find_lists(source), Path(out)
    pairs = {split: _read_list(root / f"nyu_{split}.txt") for split in ("train", "test")}
    total = sum(map(len, pairs.values()))
    done = written = 0
    counts, broken = dict.fromkeys(pairs, 0), []
    for split, lines in pairs.items():
        for kind in ("images", "annotations"):
            (out / kind / split).mkdir(parents=True, exist_ok=True)
        for image, depth in lines:
            try:
                name = _joint_name(image, depth)
                # Both files are checked before either is written, and the image comes last: the
                # dataset lists images, so an interruption leaves none without its depth.
                targets = [
                    (out / f"annotations/{split}/{name}.png", depth, _check_depth),
                    (out / f"images/{split}/{name}.jpg", image, _check_image),
                ]
                if not all(path.exists() for path, *_ in targets):
                    contents = [check(_read(root, split, item)) for _, item, check in targets]
                    for (path, *_), content in zip(targets, contents, strict=True):
                        write_bytes(path, content, sync=False)
                    written += 1
                counts[split] += 1
            except _Broken as error:
                broken.append(f"{split} image {image}: {error}")
            done += 1
            if progress:
                progress(done, total)
    ready = sum(counts.values()) - written
    return Converted(counts["train"], counts["test"], written, ready, tuple(broken))


# What zipfile raises for damaged archives, and the system for a damaged name.
_DAMAGED = (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


class _Broken(ValueError):
    """Why one pair cannot be used."""


def _find_lists(source: str | Path) -> Source:
    """The folder, possibly inside a zip, that contains `nyu_train.txt`."""
    path = Path(source)
    if not path.exists():
        raise MissingFile(f"{path} does not exist; give the folder or zip of the raw list")
    root: Source = path
    if path.is_file():
        try:
            root = zipfile.Path(path)
        except (*_DAMAGED, ValueError) as error:
            raise UserError(f"{path} is not a complete zip ({error}); download it again") from error
    folders = [child for child in root.iterdir() if child.is_dir()]
    for candidate in (root, *folders):
        if (candidate / "nyu_train.txt").is_file():
            return candidate
    raise MissingFile(
        f"{path} has no nyu_train.txt; put it and nyu_test.txt next to the folders of scenes"
    )


def _read_list(path: Source) -> list[tuple[str, str]]:
    """Pairs (image, depth) of a list; the third column, a focal length, is ignored."""
    if not path.is_file():
        raise MissingFile(f"{path} does not exist; put it next to nyu_train.txt")
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text ({error}); give the list of image pairs") from error
    except _DAMAGED as error:
        raise UserError(f"{path} cannot be read ({error}); download it again") from error
    rows = [line.split() for line in text.splitlines()]
    rows = [row for row in rows if row]
    short = [row for row in rows if len(row) < 2]
    if short:
        raise UserError(f"{path} has the line {short[0]}; an image and a depth map are needed")
    return [(row[0].strip("/"), row[1].strip("/")) for row in rows]


def _joint_name(image: str, depth: str) -> str:
    """`SCENE_NNNNN`, as mmseg names both files of a pair."""
    found = [
        re.fullmatch(rf"(?:.*/)?([^/]+)/{stem}_(\d+)\.{suffix}", item)
        for item, stem, suffix in ((image, "rgb", "jpg"), (depth, "sync_depth", "png"))
    ]
    names = ["_".join(match.groups()) if match else "" for match in found]
    if not names[0] or names[0] != names[1]:
        raise _Broken(f"does not belong to {depth}; SCENE/rgb_N.jpg, SCENE/sync_depth_N.png do")
    if len(os.fsencode(names[0])) > LONGEST_NAME:
        raise _Broken(f"its name has more than {LONGEST_NAME} bytes")
    return names[0]


def _read(root: Source, split: str, item: str) -> bytes:
    """Content of a listed file, which may be in a folder named after the split."""
    for path in (root / item, root / split / item):
        try:
            if path.is_file():
                return path.read_bytes()
        except _DAMAGED as error:
            raise _Broken(f"{item} cannot be read ({error})") from error
    raise _Broken(f"{item} is missing")


def _check_image(content: bytes) -> bytes:
    _decode(content, "image")
    return content


def _check_depth(content: bytes) -> bytes:
    mode = _decode(content, "depth map").mode
    if not mode.startswith("I"):
        raise _Broken(f"its depth map has pixels of type {mode!r}; 16-bit millimeters are needed")
    return content


def _decode(content: bytes, what: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(content))
        image.load()
    except (OSError, SyntaxError, ValueError) as error:  # what PIL raises for damaged files
        raise _Broken(f"its {what} is damaged ({error})") from error
    if (image.width, image.height) != IMAGE_SHAPE[1:]:
        raise _Broken(f"its {what} has {image.width}x{image.height} pixels; 640x480 are needed")
    return image
