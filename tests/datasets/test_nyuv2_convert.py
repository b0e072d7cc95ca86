"""The converter on a tiny file in the layout of the official one: exact pixels, split, resume."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmseg.registry import DATASETS
from PIL import Image
from scipy.io import savemat

from mmsn.datasets import NYUv2SegDataset, convert_nyuv2
from mmsn.datasets.nyuv2_convert import read_class_mapping, read_splits
from mmsn.datasets.nyuv2_mapping import mapping40
from mmsn.errors import MissingFile, UserError

h5py = pytest.importorskip("h5py")
ROOT = Path(__file__).parents[2]


def test_pixels_labels_and_lists_are_exact(official, tmp_path):
    mat, splits, images, labels = official
    out, calls = tmp_path / "out", []
    done = convert_nyuv2(mat, splits, out, progress=lambda *numbers: calls.append(numbers))
    assert (done.train, done.test, done.written, done.ready) == (2, 1, 3, 0)
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert (out / "train.txt").read_text() == "0001\n0003\n"
    assert (out / "test.txt").read_text() == "0002\n"
    for i in range(3):
        image = np.asarray(Image.open(out / f"images/{i + 1:04d}.png"))
        assert image.shape == (480, 640, 3)
        assert np.array_equal(image, images[i])
        mapped = np.asarray(Image.open(out / f"labels40/{i + 1:04d}.png"))
        assert mapped.dtype == np.uint8
        assert np.array_equal(mapped, mapping40()[labels[i]])


def test_config_reads_what_the_converter_writes(official, tmp_path):
    mat, splits, _, labels = official
    convert_nyuv2(mat, splits, tmp_path / "out")
    config = Config.fromfile(ROOT / "configs/_base_/datasets/nyuv2-seg_480x480.py")
    settings = config.train_dataloader.dataset
    settings.data_root = str(tmp_path / "out")
    dataset = DATASETS.build(settings)
    assert type(dataset) is NYUv2SegDataset
    assert len(dataset) == 2
    height, width = dataset[0]["inputs"].shape[1:]  # smaller scales are padded by the model
    assert 240 <= height <= 480
    assert 240 <= width <= 480
    settings = config.val_dataloader.dataset
    settings.data_root = str(tmp_path / "out")
    item = DATASETS.build(settings)[0]
    assert item["inputs"].shape == (3, 480, 640)
    expected = mapping40()[labels[1]] - 1  # 0, unlabeled, becomes 255
    assert np.array_equal(item["data_samples"].gt_sem_seg.data[0].numpy(), expected)


def test_resume_keeps_what_is_there_and_leaves_no_half_files(official, tmp_path):
    mat, splits, images, _ = official
    out = tmp_path / "out"

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_nyuv2(mat, splits, out, progress=stop)
    assert not (out / "train.txt").exists()  # not finished, so no list
    before = (out / "images/0001.png").stat().st_mtime_ns
    (out / "labels40/0002.png").unlink()
    done = convert_nyuv2(mat, splits, out)
    assert (done.written, done.ready) == (2, 1)
    assert (out / "images/0001.png").stat().st_mtime_ns == before
    assert np.array_equal(np.asarray(Image.open(out / "images/0003.png")), images[2])
    assert not list(out.rglob("*.tmp"))
    with pytest.raises(UserError, match=r"image_suffix='\.png', asked is image_suffix='\.jpg'"):
        convert_nyuv2(mat, splits, out, image_suffix=".jpg")


def test_jpg_is_close(official, tmp_path):
    mat, splits, images, _ = official
    convert_nyuv2(mat, splits, tmp_path / "out", image_suffix=".jpg")
    image = np.asarray(Image.open(tmp_path / "out/images/0001.jpg")).astype(int)
    assert np.abs(image - images[0]).mean() < 3


def test_own_class_mapping(official, tmp_path):
    mat, splits, _, labels = official
    path = tmp_path / "classMapping40.mat"
    savemat(path, {"mapClass": (np.arange(894) % 40 + 1)[None].astype(np.uint8)})
    table = read_class_mapping(path)
    assert table.tolist() == [0] + [i % 40 + 1 for i in range(894)]
    convert_nyuv2(mat, splits, tmp_path / "out", class_mapping=path)
    mapped = np.asarray(Image.open(tmp_path / "out/labels40/0001.png"))
    assert np.array_equal(mapped, table[labels[0]])
    savemat(path, {"mapClass": np.ones((1, 13), np.uint8)})
    with pytest.raises(UserError, match="mapClass of 13 values; give 894"):
        read_class_mapping(path)


def test_unusable_inputs_are_named_in_one_line(official, tmp_path):
    mat, splits, images, _ = official
    out = tmp_path / "out"
    with pytest.raises(MissingFile, match=r"no\.mat does not exist; download it"):
        convert_nyuv2(tmp_path / "no.mat", splits, out)
    with pytest.raises(UserError, match="not a complete HDF5 file"):
        convert_nyuv2(splits, splits, out)
    savemat(splits, {"trainNdxs": [[1], [2]], "testNdxs": [[2]]})
    with pytest.raises(UserError, match="every number from 1 to 3 once"):
        convert_nyuv2(mat, splits, out)
    savemat(splits, {"trainNdxs": [[1], [2]], "testNdxs": [[4], [3]]})
    with pytest.raises(UserError, match=r"\(3, 3, 640, 480\); \(4, 3, 640, 480\) is needed"):
        convert_nyuv2(mat, splits, out)
    savemat(splits, {"trainNdxs": [[1], [2]], "testNdxs": [[3]]})
    with h5py.File(mat, "a") as file:
        labels = file["labels"][()]
        labels[1, 5, 5] = 999
        file["labels"][...] = labels
    with pytest.raises(UserError, match="image 2 has label 999; at most 894"):
        convert_nyuv2(mat, splits, out)
    with h5py.File(mat, "a") as file:
        references = file["names"][()]
        references[0, [20, 10]] = references[0, [10, 20]]
        file["names"][...] = references
    with pytest.raises(UserError, match="894 names in another order"):
        convert_nyuv2(mat, splits, out)
    with h5py.File(mat, "a") as file:
        del file["images"]
        file["images"] = images  # height, width, channel: not the official layout
    with pytest.raises(UserError, match=r"images in .* is"):
        convert_nyuv2(mat, splits, out)


@pytest.mark.parametrize("value", [np.nan, 1.5, np.inf, -1])
def test_numbers_that_count_nothing_are_refused(value, tmp_path):
    path = tmp_path / "x.mat"
    savemat(path, {"trainNdxs": [[1.0], [value]], "testNdxs": [[3.0]], "mapClass": [[value] * 894]})
    with pytest.raises(UserError, match="every number from 1 to 3 once"):
        read_splits(path)
    with pytest.raises(UserError, match="give 894 whole values from 1 to 40"):
        read_class_mapping(path)


def test_a_damaged_file_is_refused_in_one_line(official, tmp_path):
    mat, splits, *_ = official
    with h5py.File(mat, "a") as file:
        del file["labels"]
        file["labels"] = np.zeros((3, 640, 480), np.float32)
    with pytest.raises(UserError, match=r"labels in .* has values of kind 'f', not 'u'"):
        convert_nyuv2(mat, splits, tmp_path / "out")
    whole = mat.read_bytes()
    start = whole.index(b"HEAP")  # where names are
    mat.write_bytes(whole[:start] + b"XXXX" + whole[start + 4 :])
    with pytest.raises(UserError, match=r"nyu\.mat is damaged \(.*heap.*\); download it again"):
        convert_nyuv2(mat, splits, tmp_path / "out")


def test_command_line(official, tmp_path, capsys):
    mat, splits, *_ = official
    spec = spec_from_file_location("nyuv2_seg", ROOT / "tools/dataset_converters/nyuv2_seg.py")
    tool = module_from_spec(spec)
    spec.loader.exec_module(tool)
    tool.main([str(mat), str(splits), "--out", str(tmp_path / "out")])
    assert "2 train and 1 test images (3 written now, 0 were ready)" in capsys.readouterr().out
    with pytest.raises(MissingFile, match=r"no.mat does not exist"):
        tool.main([str(tmp_path / "no.mat"), str(splits)])
