"""The depth converters on made-up files in the layouts of the official ones."""

import zipfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmseg.registry import DATASETS
from PIL import Image

from mmsn.datasets.files import encode
from mmsn.datasets.nyuv2_convert import convert_nyuv2
from mmsn.datasets.nyuv2_depth_convert import (
    convert_nyuv2_depths,
    convert_nyuv2_raw,
    to_millimeters,
)
from mmsn.errors import MissingFile, UserError

h5py = pytest.importorskip("h5py")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def with_depth(official):
    """The made-up official pair with depth; returns (mat, splits, filled NHW, raw NHW)."""
    mat, splits, *_ = official
    rng = np.random.default_rng(1)
    filled = rng.uniform(0.7, 10, (3, 48, 64)).astype(np.float32).repeat(10, 1).repeat(10, 2)
    raw = filled + np.float32(0.25)
    raw[:, :50] = 0
    with h5py.File(mat, "a") as file:
        file["depths"] = filled.transpose(0, 2, 1)
        file["rawDepths"] = raw.transpose(0, 2, 1)
    return mat, splits, filled, raw


@pytest.fixture
def tool():
    path = ROOT / "tools/dataset_converters/nyuv2_depth.py"
    spec = spec_from_file_location("nyuv2_depth", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)

    def status(words):
        """Of the command as a process."""
        with pytest.raises(SystemExit) as stop:
            module.run(lambda: module.main(words))
        return stop.value.code

    return status


def meters(path):
    array = np.asarray(Image.open(path))
    assert array.dtype == np.uint16
    return array / 1000


class TestLabeled:
    def test_depth_is_right_to_half_a_millimeter(self, with_depth, tmp_path):
        mat, _, filled, raw = with_depth
        calls = []
        done = convert_nyuv2_depths(mat, tmp_path / "out", lambda *n: calls.append(n))
        assert done == (3, 0)
        assert calls == [(1, 3), (2, 3), (3, 3)]
        for i in range(3):
            for folder, truth in (("depths", filled), ("raw_depths", raw)):
                found = meters(tmp_path / f"out/{folder}/{i + 1:04d}.png")
                assert np.abs(found - truth[i]).max() <= 0.0005 + 1e-9
        assert (meters(tmp_path / "out/raw_depths/0001.png")[:50] == 0).all()

    def test_an_interrupted_conversion_continues(self, with_depth, tmp_path):
        mat, *_ = with_depth
        out = tmp_path / "out"

        def stop(done, total):
            if done == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            convert_nyuv2_depths(mat, out, stop)
        before = (out / "depths/0001.png").stat().st_mtime_ns
        (out / "raw_depths/0002.png").unlink()
        assert convert_nyuv2_depths(mat, out) == (2, 1)
        assert (out / "depths/0001.png").stat().st_mtime_ns == before
        assert not list(out.rglob("*.tmp"))

    def test_configs_read_what_the_command_writes(self, with_depth, tmp_path, tool, capsys):
        mat, splits, filled, raw = with_depth
        out = tmp_path / "out"
        assert tool(["labeled", str(mat), str(splits), "--out", str(out)]) == 0
        said = capsys.readouterr().out
        assert "2 train and 1 test images (3 written now, 0 were ready, 0 left out)" in said
        assert "depth maps of 3 images (3 written now, 0 were ready)" in said
        for name in ("nyuv2-depth_416x544.py", "nyuv2-seg-depth_480x480.py"):
            config = Config.fromfile(ROOT / "configs/_base_/datasets" / name)
            for loader, number, truth in (
                (config.train_dataloader, 1, filled),
                (config.test_dataloader, 2, raw),
            ):
                loader.dataset.data_root = str(out)
                loader.dataset.pipeline = config.val_pipeline
                sample = DATASETS.build(loader.dataset)[0]["data_samples"]
                found = sample.gt_depth_map.data[0].numpy()
                assert np.abs(found - truth[number - 1]).max() < 0.00051
                assert sample.img_path.endswith(f"{number:04d}.png")
                assert ("gt_sem_seg" in sample) == ("seg" in name)

    def test_unusable_files_are_named_in_one_line(self, with_depth, tmp_path, tool, capsys):
        mat, splits, *_ = with_depth
        arguments = ["labeled", str(mat), str(splits), "--out", str(tmp_path / "out")]
        with h5py.File(mat, "a") as file:
            file["rawDepths"][2, 5, 5] = 70.0
        assert tool(arguments) == 2
        with h5py.File(mat, "a") as file:
            del file["rawDepths"]
        assert tool(arguments) == 2
        with h5py.File(mat, "a") as file:
            file["rawDepths"] = np.zeros((2, 640, 480), np.float32)
        assert tool(arguments) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 3
        assert lines[0] == (
            "error: rawDepths 3 holds 70 m; 0 to 65.535 m is allowed: give the official "
            "nyu_depth_v2_labeled.mat"
        )
        assert lines[1].endswith("nyu.mat has no rawDepths; give nyu_depth_v2_labeled.mat")
        assert "(2, 640, 480); (3, 640, 480) is needed" in lines[2]

    def test_a_damaged_block_is_named(self, with_depth, tmp_path):
        mat, *_ = with_depth
        with h5py.File(mat, "a") as file:
            values = file["depths"][()]
            del file["depths"]
            file.create_dataset("depths", data=values, chunks=(1, 640, 480), compression="gzip")
            block = file["depths"].id.get_chunk_info(1)
        with open(mat, "r+b") as file:
            file.seek(block.byte_offset)
            file.write(bytes(block.size))
        with pytest.raises(UserError, match=r"depths of image 2 in .*nyu\.mat is damaged"):
            convert_nyuv2_depths(mat, tmp_path / "out")

    def test_what_is_no_number_is_invalid(self):
        found = to_millimeters(np.array([[np.nan, np.inf, 1.2345, 65.535]]), "x")
        assert found.tolist() == [[0, 0, 1234, 65535]]
        with pytest.raises(UserError, match=r"x holds -0\.5 m"):
            to_millimeters(np.array([[-0.5, 70.0]]), "x")


@pytest.fixture
def raw_list(tmp_path):
    """A made-up raw list: two training pairs and one test pair below a folder `nyu`."""
    rng = np.random.default_rng(0)
    root = tmp_path / "source/nyu"
    lines = {"train": [], "test": []}
    for split, scene, number in (
        ("train", "kitchen_0028b", "00045"),
        ("train", "bathroom_0001", "00007"),
        ("test", "bathroom", "00045"),
    ):
        # as in the lists that go round: training scenes at the top, tests in a folder of their own
        folder = root / ("test" if split == "test" else ".") / scene
        folder.mkdir(parents=True)
        image = rng.integers(0, 256, (480, 640, 3), np.uint8)
        depth = rng.integers(0, 10_000, (480, 640)).astype(np.uint16)
        (folder / f"rgb_{number}.jpg").write_bytes(encode(image, ".jpg"))
        (folder / f"sync_depth_{number}.png").write_bytes(encode(depth, ".png"))
        lines[split].append(f"/{scene}/rgb_{number}.jpg /{scene}/sync_depth_{number}.png 518.8579")
    for split, text in lines.items():
        (root / f"nyu_{split}.txt").write_text("\n".join(text) + "\n\n")
    return root.parent


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class TestRaw:
    def test_files_are_copied_into_mmsegs_layout(self, raw_list, tmp_path):
        before = content(raw_list)
        done = convert_nyuv2_raw(raw_list, tmp_path / "out")
        assert (done.train, done.test, done.written, done.ready, done.broken) == (2, 1, 3, 0, ())
        found = content(tmp_path / "out")
        assert set(found) == {
            f"{kind}/{name}.{suffix}"
            for kind, suffix in (("images", "jpg"), ("annotations", "png"))
            for name in (
                "train/kitchen_0028b_00045",
                "train/bathroom_0001_00007",
                "test/bathroom_00045",
            )
        }
        source = before["nyu/kitchen_0028b/sync_depth_00045.png"]
        assert found["annotations/train/kitchen_0028b_00045.png"] == source
        assert content(raw_list) == before  # nothing is moved away

    def test_a_zip_gives_the_same(self, raw_list, tmp_path):
        with zipfile.ZipFile(tmp_path / "nyu.zip", "w") as archive:
            for name, data in content(raw_list).items():
                archive.writestr(name, data)
        convert_nyuv2_raw(raw_list, tmp_path / "out")
        done = convert_nyuv2_raw(tmp_path / "nyu.zip", tmp_path / "unzipped")
        assert (done.train, done.test, done.broken) == (2, 1, ())
        assert content(tmp_path / "unzipped") == content(tmp_path / "out")

    def test_the_config_reads_it(self, raw_list, tmp_path):
        convert_nyuv2_raw(raw_list, tmp_path / "out")
        config = Config.fromfile(ROOT / "configs/_base_/datasets/nyuv2-depth-raw_416x544.py")
        config.test_dataloader.dataset.data_root = str(tmp_path / "out")
        (sample,) = DATASETS.build(config.test_dataloader.dataset)
        listed = raw_list / "nyu/test/bathroom/sync_depth_00045.png"
        assert np.allclose(sample["data_samples"].gt_depth_map.data[0], meters(listed))

    def test_an_interrupted_copy_continues(self, raw_list, tmp_path):
        def stop(done, total):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            convert_nyuv2_raw(raw_list, tmp_path / "out", stop)
        calls = []
        done = convert_nyuv2_raw(raw_list, tmp_path / "out", lambda *n: calls.append(n))
        assert (done.written, done.ready) == (2, 1)
        assert calls == [(1, 3), (2, 3), (3, 3)]

    @pytest.mark.parametrize(
        ("damage", "line"),
        [
            (lambda d: (d / "rgb_00045.jpg").unlink(), "rgb_00045.jpg is missing"),
            (lambda d: cut(d / "rgb_00045.jpg"), "its image is damaged"),
            (lambda d: cut(d / "sync_depth_00045.png"), "its depth map is damaged"),
            (
                lambda d: (d / "sync_depth_00045.png").write_bytes(
                    encode(np.zeros((480, 640), np.uint8), ".png")
                ),
                "its depth map has pixels of type 'L'; 16-bit millimeters are needed",
            ),
            (
                lambda d: (d / "rgb_00045.jpg").write_bytes(
                    encode(np.zeros((48, 64, 3), np.uint8), ".jpg")
                ),
                "its image has 64x48 pixels; 640x480 are needed",
            ),
        ],
    )
    def test_a_broken_pair_is_left_out(self, raw_list, tmp_path, tool, capsys, damage, line):
        damage(raw_list / "nyu/kitchen_0028b")
        assert tool(["raw", str(raw_list), "--out", str(tmp_path / "out")]) == 1
        said = capsys.readouterr()
        (error,) = said.err.splitlines()
        assert error.startswith("left out: train image kitchen_0028b/rgb_00045.jpg: ")
        assert line in error
        assert "1 train and 1 test images (2 written now, 0 were ready, 1 left out)" in said.out
        assert not list((tmp_path / "out").rglob("kitchen*"))

    def test_damaged_archives_are_refused_in_one_line(self, raw_list, tmp_path):
        path = tmp_path / "nyu.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in content(raw_list).items():
                archive.writestr(name, data)
        whole = path.read_bytes()
        start = whole.rindex(b"PK\3\4", 0, whole.index(b"nyu_test.txt"))
        path.write_bytes(whole[:start] + b"XXXX" + whole[start + 4 :])
        with pytest.raises(UserError, match=r"nyu_test\.txt cannot be read \(Bad magic number"):
            convert_nyuv2_raw(path, tmp_path / "out")
        path.write_bytes(b"no archive")
        with pytest.raises(UserError, match="is not a complete zip"):
            convert_nyuv2_raw(path, tmp_path / "out")

    def test_names_that_no_file_can_have(self, raw_list, tmp_path):
        listed = raw_list / "nyu/nyu_train.txt"
        names = ("x" * 5000, "a\0b")
        rows = [f"{name}/rgb_1.jpg {name}/sync_depth_1.png" for name in names]
        listed.write_text("\n".join(rows))
        done = convert_nyuv2_raw(raw_list, tmp_path / "out")
        assert (done.train, done.test, len(done.broken)) == (0, 1, 2)

    def test_pairs_that_do_not_belong_together(self, raw_list, tmp_path):
        path = raw_list / "nyu/nyu_train.txt"
        path.write_text(path.read_text().replace("sync_depth_00007", "sync_depth_00008"))
        (line,) = convert_nyuv2_raw(raw_list, tmp_path / "out").broken
        assert "rgb_00007.jpg: does not belong to bathroom_0001/sync_depth_00008.png" in line

    def test_unusable_sources(self, raw_list, tmp_path, tool, capsys):
        (tmp_path / "half.zip").write_bytes(b"PK\3\4 and no more")
        (tmp_path / "empty").mkdir()
        for source in ("none", "half.zip", "empty"):
            assert tool(["raw", str(tmp_path / source), "--out", str(tmp_path / "out")]) == 2
        (raw_list / "nyu/nyu_test.txt").unlink()
        assert tool(["raw", str(raw_list), "--out", str(tmp_path / "out")]) == 2
        (raw_list / "nyu/nyu_test.txt").write_text("only/one\n")
        assert tool(["raw", str(raw_list), "--out", str(tmp_path / "out")]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 5
        for line, words in zip(
            lines,
            (
                "none does not exist; give the folder or zip",
                "half.zip is not a complete zip",
                "empty has no nyu_train.txt; put it and nyu_test.txt",
                "nyu_test.txt does not exist; put it next to",
                "nyu_test.txt has the line ['only/one']; an image and a depth map",
            ),
            strict=True,
        ):
            assert words in line


def cut(path):
    path.write_bytes(path.read_bytes()[:-2000])


def test_a_conversion_without_depth_is_noticed(with_depth, tmp_path):
    mat, splits, *_ = with_depth
    convert_nyuv2(mat, splits, tmp_path / "out")
    config = Config.fromfile(ROOT / "configs/_base_/datasets/nyuv2-depth_416x544.py")
    config.test_dataloader.dataset.data_root = str(tmp_path / "out")
    with pytest.raises(MissingFile, match=r"1 of 1 images have no depth map"):
        DATASETS.build(config.test_dataloader.dataset)
