"""Official NYUv2 files to images and 40-class label maps that `NYUv2SegDataset` reads.

    nyu_depth_v2_labeled.mat  HDF5 ("MATLAB 7.3"), 2.8 GB:  images (N, 3, 640, 480) uint8,
                              labels (N, 640, 480) uint16, names (1, 894); N = 1449
    splits.mat                MATLAB 5: trainNdxs (795, 1), testNdxs (654, 1), counted from 1

become the following files, where NNNN is the official number from 0001 to 1449:

    images/NNNN.png    RGB, 640 x 480
    labels40/NNNN.png  8 bit: 0 unlabeled, 1..40
    train.txt, test.txt, recipe.json

HDF5 stores MATLAB's arrays with reversed axes, so width comes before height and each image is
transposed. The lists are written last: as long as they are missing, the conversion is not finished.
Depth is in `nyuv2_depth_convert.py`. Left out on purpose: accelerometer and instance data.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsn.errors import MissingFile, UserError
from mmsn.files import write_bytes

from .files import Progress, claim_folder, encode
from .mat5 import read_arrays
from .nyuv2_mapping import NUM_NAMES, OWN_CLASS, mapping40

IMAGE_SHAPE = (3, 640, 480)
PAGE = "https://cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html"
SPLITS = "http://horatio.cs.nyu.edu/mit/silberman/indoor_seg_sup/splits.mat"


@dataclass(frozen=True)
class Converted:
    """Numbers of images: in each list, written by this call, and already there."""

    train: int
    test: int
    written: int
    ready: int
    broken: tuple[str, ...] = ()  # one line per skipped image


def convert_nyuv2(
    mat: str | Path,
    splits: str | Path,
    out: str | Path,
    class_mapping: str | Path | None = None,
    image_suffix: str = ".png",
    progress: Progress | None = None,
) -> Converted:
    """Write the dataset into `out`; a call after an interruption continues where it stopped.

    `class_mapping` is a `classMapping40.mat` to use instead of the built-in copy of that table.

    Raises MissingFile for a missing input and UserError for one of unexpected content.
    """
    out = Path(out)
    table = mapping40() if class_mapping is None else read_class_mapping(class_mapping)
    lists = read_splits(splits)
    with open_mat(mat) as file:
        _check(file, sum(map(len, lists.values())), own_table=class_mapping is None)
        total = sum(map(len, lists.values()))
        claim_folder(
            out,
            {
                "dataset": "NYUv2, 40 classes",
                "count": total,
                "image_suffix": image_suffix,
                # another mapping gives other labels, which must not be mixed in one folder
                "class_mapping_crc32": zlib.crc32(table.tobytes()),
            },
        )
        for folder in ("images", "labels40"):
            (out / folder).mkdir(exist_ok=True)
        written = 0
        for i in range(total):
            image = out / f"images/{i + 1:04d}{image_suffix}"
            labels = out / f"labels40/{i + 1:04d}.png"
            if not (image.exists() and labels.exists()):
                with reading(mat):
                    pixels, numbers = file["images"][i], file["labels"][i]
                pixels = encode(pixels.transpose(2, 1, 0), image_suffix)
                classes = encode(_to40(numbers.T, table, i + 1), ".png")
                write_bytes(image, pixels, sync=False)
                write_bytes(labels, classes, sync=False)
                written += 1
            if progress:
                progress(i + 1, total)
    for name, numbers in lists.items():
        write_bytes(out / f"{name}.txt", "".join(f"{n:04d}\n" for n in numbers).encode())
    return Converted(len(lists["train"]), len(lists["test"]), written, total - written)


def read_splits(path: str | Path) -> dict[str, list[int]]:
    """The official split, {"train": numbers, "test": numbers}, counted from 1 and sorted."""
    content = _load_mat5(path, "download it from " + SPLITS)
    lists = {}
    for name, key in (("train", "trainNdxs"), ("test", "testNdxs")):
        if key not in content:
            raise UserError(f"{path} has no {key}; give the official splits.mat")
        lists[name] = sorted(content[key].ravel().tolist())  # numbers may be stored as floats
    both = sorted(lists["train"] + lists["test"])
    if both != list(range(1, len(both) + 1)) or not both:
        raise UserError(
            f"{path} does not hold every number from 1 to {len(both)} once; "
            "give the official splits.mat"
        )
    return {name: [int(number) for number in numbers] for name, numbers in lists.items()}


def read_class_mapping(path: str | Path) -> NDArray[np.uint8]:
    """Lookup table `(895,)` from `mapClass` (1, 894) of a `classMapping40.mat`; 0 maps to 0."""
    content = _load_mat5(path, "leave it out to use the built-in table")
    classes = np.asarray(content.get("mapClass", ())).ravel()
    if classes.shape != (NUM_NAMES,) or not np.isin(classes, np.arange(1, 41)).all():
        raise UserError(
            f"{path} holds mapClass of {classes.size} values; "
            f"give {NUM_NAMES} whole values from 1 to 40, or leave it out to use the built-in table"
        )
    return np.concatenate([[0], classes]).astype(np.uint8)


def _to40(labels: NDArray[Any], table: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """Map official labels (480, 640) to 0..40."""
    if labels.max() >= len(table):
        raise UserError(
            f"image {number} has label {labels.max()}; at most {len(table) - 1} is allowed: "
            "give the official nyu_depth_v2_labeled.mat"
        )
    return table[labels]


def _check(file: Any, listed: int, own_table: bool) -> None:
    """Raise unless the file has the official shapes, count and, if present, object names."""
    check_array(file, "images", (listed, *IMAGE_SHAPE))
    check_array(file, "labels", (listed, *IMAGE_SHAPE[1:]))
    # the built-in table holds positions in this list, so another order would mislabel everything
    if own_table:
        from .nyuv2 import CLASSES

        with reading(file.filename):
            if "names" not in file:
                return
            references = file["names"][()].ravel()  # to arrays of character codes
            names = ["".join(map(chr, file[r][()].ravel())) for r in references]
        if len(names) != NUM_NAMES or [names[i - 1] for i in OWN_CLASS] != list(CLASSES[:37]):
            raise UserError(
                f"{file.filename} has {len(names)} names in another order than the official "
                f"{NUM_NAMES}; give the class mapping that belongs to it"
            )


def check_array(file: Any, key: str, shape: tuple[int, ...], kinds: str = "u") -> None:
    """Raise if array `key` of an open `nyu_depth_v2_labeled.mat` is missing or not of `shape`.

    `kinds` are the allowed letters of its NumPy dtype: u for unsigned integers, f for floats.
    """
    with reading(file.filename):
        if key not in file:
            raise UserError(f"{file.filename} has no {key}; give nyu_depth_v2_labeled.mat")
        array = file[key]
        found, kind = getattr(array, "shape", None), getattr(array, "dtype", np.dtype(object)).kind
    if found != shape:
        raise UserError(
            f"{key} in {file.filename} is {found}; {shape} is needed with this "
            "splits.mat: download the incomplete file again"
        )
    if kind not in kinds:
        raise UserError(
            f"{key} in {file.filename} has values of kind {kind!r}, not {kinds!r}; download it "
            "again"
        )


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Say in one line that an HDF5 file is damaged, for which h5py has many kinds of errors."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path} is damaged ({error}); download it again") from error


@contextmanager
def open_mat(path: str | Path) -> Iterator[Any]:
    """The official file, open for reading.

    Raises MissingFile, and UserError for another kind of file or without h5py.
    """
    try:
        import h5py
    except ImportError as error:
        raise UserError("reading nyu_depth_v2_labeled.mat needs h5py: pip install h5py") from error
    _require(path, "download it from " + PAGE)
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise UserError(
            f"{path} is not a complete HDF5 file ({error}); download it again"
        ) from error
    with file:
        yield file


def _load_mat5(path: str | Path, remedy: str) -> dict[str, NDArray[Any]]:
    _require(path, remedy)
    try:
        return read_arrays(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a MATLAB 5 file ({error}); {remedy}") from error


def _require(path: str | Path, remedy: str) -> None:
    if not Path(path).is_file():
        raise MissingFile(f"{path} does not exist; {remedy}")
