"""NYUv2SegDataset: names and colors, and the real images where a copy of them is at hand."""

import os
from pathlib import Path

import numpy as np
import pytest
from mmseg.registry import DATASETS
from PIL import Image

from mmsn.datasets import NYUv2SegDataset
from mmsn.datasets.nyuv2 import CLASSES, bit_palette
from mmsn.errors import UserError

COPY = Path(os.environ.get("MMSN_NYUV2") or Path(__file__).parents[3] / "shared/data/nyuv2")
needs_copy = pytest.mark.skipif(
    not (COPY / "labels40").is_dir(),
    reason=f"no NYUv2 at {COPY}; set MMSN_NYUV2 to a folder with images/, labels40/, train.txt",
)


def test_classes_and_palette():
    assert len(CLASSES) == len(set(CLASSES)) == 40
    assert (CLASSES[0], CLASSES[23], CLASSES[39]) == ("wall", "refridgerator", "otherprop")
    palette = NYUv2SegDataset.METAINFO["palette"]
    assert len({tuple(color) for color in palette}) == 40
    assert palette[:3] == [[128, 0, 0], [0, 128, 0], [128, 128, 0]]  # as in PASCAL VOC
    assert bit_palette(2, first=0)[0] == [0, 0, 0]
    with pytest.raises(UserError, match=r"indices 200\.\.299"):
        bit_palette(100, first=200)


def build(split: str, pipeline: list) -> NYUv2SegDataset:
    """A copy with labels from 0 on, whose label 39 mixes otherprop and unlabeled pixels."""
    return DATASETS.build(
        {
            "type": "mmsn.NYUv2SegDataset",
            "data_root": str(COPY),
            "ann_file": f"{split}.txt",
            "data_prefix": {"img_path": "images", "seg_map_path": "labels40"},
            "img_suffix": ".jpg",
            "reduce_zero_label": False,
            "metainfo": {"classes": CLASSES[:39]},
            "pipeline": pipeline,
        }
    )


@needs_copy
def test_names_and_sizes_of_the_copy():
    names = (COPY / "classes40.txt").read_text().split("\n")
    assert tuple(name for name in names if name) == CLASSES
    train, test = build("train", []), build("test", [])
    assert (len(train), len(test)) == (795, 654)
    assert len(test.metainfo["classes"]) == len(test.metainfo["palette"]) == 39
    assert not {d["img_path"] for d in train} & {d["img_path"] for d in test}


@needs_copy
def test_class_39_of_the_copy_is_ignored_and_the_others_stay():
    loading = [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations"}]
    dataset = build("test", [*loading, {"type": "PackSegInputs"}])
    raw, read = np.zeros(256, int), np.zeros(256, int)
    for i in range(0, len(dataset), 25):
        item = dataset[i]
        assert item["inputs"].shape == (3, 480, 640)
        read += np.bincount(item["data_samples"].gt_sem_seg.data.numpy().ravel(), minlength=256)
        path = dataset.get_data_info(i)["seg_map_path"]
        raw += np.bincount(np.asarray(Image.open(path)).ravel(), minlength=256)
    assert raw[40:].sum() == 0
    assert raw[39] > 0
    assert np.array_equal(read[:39], raw[:39])
    assert read[39:255].sum() == 0
    assert read[255] == raw[39]
    assert read.sum() == 27 * 480 * 640


def test_a_damaged_list_of_names_is_named(tmp_path):
    (tmp_path / "train.txt").write_bytes(b"0001\n\xff\xfe\n")
    dataset = dict(type="mmsn.NYUv2SegDataset", data_root=str(tmp_path), ann_file="train.txt")
    with pytest.raises(UserError, match=r"train\.txt is not a list of names \(.*0xff"):
        DATASETS.build(dataset)
    (tmp_path / "train.txt").write_bytes(b"")
    with pytest.raises(UserError, match=r"train\.txt names no image"):
        DATASETS.build(dataset)
