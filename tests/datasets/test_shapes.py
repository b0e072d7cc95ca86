"""The built-in dataset: the same bytes from the same seed, read by its config."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmseg.registry import DATASETS

from mmsn.datasets import ShapesDataset, generate_shapes
from mmsn.datasets.shapes_render import CLASSES, render
from mmsn.errors import MissingFile, UserError

CONFIG = Path(__file__).parents[2] / "configs/_base_/datasets/shapes_96x96.py"


def digest(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*.png"))
    }


def test_same_seed_same_bytes_in_any_order(tmp_path):
    assert generate_shapes(tmp_path / "a", 4, 2, 48, seed=5) == 6
    whole = digest(tmp_path / "a")
    assert len(whole) == 12

    # Another process order: some files are there before, the rest is filled in.
    generate_shapes(tmp_path / "b", 4, 2, 48, seed=5)
    for name in ("images/training/00001.png", "annotations/validation/00000.png"):
        (tmp_path / "b" / name).unlink()
    assert generate_shapes(tmp_path / "b", 4, 2, 48, seed=5) == 2
    assert digest(tmp_path / "b") == whole

    generate_shapes(tmp_path / "c", 4, 2, 48, seed=6)
    assert not set(digest(tmp_path / "c").values()) & set(whole.values())
    assert len(set(whole.values())) == 12  # splits and numbers differ too


def test_second_call_makes_nothing_and_other_arguments_are_refused(tmp_path):
    calls = []
    generate_shapes(tmp_path, 2, 1, 48, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert generate_shapes(tmp_path, 2, 1, 48) == 0
    with pytest.raises(UserError, match="holds seed=0, asked is seed=1; remove it or name"):
        generate_shapes(tmp_path, 2, 1, 48, seed=1)
    assert not list(tmp_path.rglob("*.tmp"))


def test_config_reads_what_the_generator_writes(tmp_path):
    generate_shapes(tmp_path, 3, 2, 96)
    config = Config.fromfile(CONFIG)
    settings = config.train_dataloader.dataset
    settings.data_root = str(tmp_path)
    dataset = DATASETS.build(settings)
    assert type(dataset) is ShapesDataset
    assert len(dataset) == 3
    assert dataset.metainfo["classes"] == CLASSES
    assert len(np.unique(dataset.metainfo["palette"], axis=0)) == len(CLASSES)
    item = dataset[0]
    assert item["inputs"].shape == (3, *config.crop_size)
    expected = render(np.random.default_rng((0, 0, 0)), 96)[1]
    found = item["data_samples"].gt_sem_seg.data[0].numpy()
    flipped = item["data_samples"].flip
    assert np.array_equal(found[:, ::-1] if flipped else found, expected)

    settings = config.val_dataloader.dataset
    settings.data_root = str(tmp_path)
    item = DATASETS.build(settings)[1]
    image, labels = render(np.random.default_rng((0, 1, 1)), 96)
    assert np.array_equal(item["data_samples"].gt_sem_seg.data[0].numpy(), labels)
    assert np.array_equal(item["inputs"].numpy(), image.transpose(2, 0, 1)[::-1])  # mmcv: BGR


def test_missing_folder_says_how_to_make_it(tmp_path):
    with pytest.raises(MissingFile, match=r"tools/dataset_converters/shapes\.py"):
        ShapesDataset(data_root=str(tmp_path), data_prefix={"img_path": "images/training"})
