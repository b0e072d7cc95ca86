"""NYUv2DepthDataset: its three layouts, and each dataset base built on data of its layout."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmseg.registry import DATASETS, METRICS, TRANSFORMS
from PIL import Image

from mmsn.datasets import NYUv2DepthDataset
from mmsn.datasets.files import encode
from mmsn.errors import MissingFile, UserError
from mmsn.evaluation import DepthMetric

FOLDER = Path(__file__).parents[2] / "configs/_base_/datasets"
COPY = Path(os.environ.get("MMSN_NYUV2") or Path(__file__).parents[3] / "shared/data/nyuv2")
# base: crop, scale of the files, largest zoom
BASES = {
    "nyuv2-depth_416x544.py": ((416, 544), 1e-3, 1),
    "nyuv2-depth-raw_416x544.py": ((416, 544), 1e-3, 1),
    "nyuv2-depth_168x224.py": ((168, 224), 10 / 255, 1),
    "nyuv2-depth_192x256.py": ((192, 256), 10 / 255, 1),
    "nyuv2-seg-depth_480x480.py": ((480, 480), 1e-3, 2),
    "nyuv2-seg39-depth_168x224.py": ((168, 224), 10 / 255, 1.5),
}


def make_data(root, dataset):
    """Two images as a base's `dataset` wants them: depth 2 m at the left and 4 m at the right."""
    prefix = dataset.data_prefix
    meters = np.full((480, 640), 2.0)
    meters[:, 320:] = 4.0
    meters[200:280, 280:360] = 0
    steps = {step.type: step for step in dataset.pipeline}
    scale = steps["LoadDepthAnnotation"].depth_rescale_factor
    bits = np.uint16 if scale == 1e-3 else np.uint8
    rng = np.random.default_rng(0)
    for name in ("a_1", "b_2"):
        for folder in prefix.values():
            (root / folder).mkdir(parents=True, exist_ok=True)
        image = encode(rng.integers(0, 256, (480, 640, 3), np.uint8), ".jpg")
        (root / prefix.img_path / f"{name}{dataset.get('img_suffix', '.png')}").write_bytes(image)
        depth = encode(np.rint(meters / scale).astype(bits), ".png")
        (root / prefix.depth_map_path / f"{name}.png").write_bytes(depth)
        if "seg_map_path" in prefix:
            labels = encode((meters * 3).astype(np.uint8), ".png")  # 6, 12, and 0
            (root / prefix.seg_map_path / f"{name}.png").write_bytes(labels)
    if dataset.get("ann_file"):
        (root / dataset.ann_file).write_text("a_1\nb_2\n")
    dataset.data_root = str(root)


def test_every_base_with_depth_is_listed():
    assert set(BASES) == {path.name for path in FOLDER.glob("nyuv2*depth*.py")}


@pytest.mark.parametrize("name", BASES)
def test_a_base_gives_samples(name, tmp_path):
    crop, scale, zoom = BASES[name]
    config = Config.fromfile(FOLDER / name)
    assert config.crop_size == crop
    assert config.test_dataloader == config.val_dataloader
    assert config.val_evaluator == config.test_evaluator
    for loader in ("train_dataloader", "test_dataloader"):
        make_data(tmp_path / loader, config[loader].dataset)
    train = DATASETS.build(config.train_dataloader.dataset)
    assert type(train) is NYUv2DepthDataset
    assert len(train) == 2
    np.random.seed(0)  # noqa: NPY002  # what transforms draw from
    zoomed = 0
    for i in range(8):
        sample = train[i % 2]
        truth = sample["data_samples"].gt_depth_map.data
        assert sample["inputs"].shape == (3, *crop)
        assert truth.shape == (1, *crop)
        assert truth.dtype == torch.float32
        near, *far = truth[truth > 0].unique().tolist()  # one of both may be out of the crop
        assert 2 / zoom - 0.02 <= near <= 4.02
        zoomed += min(abs(near - 2), abs(near - 4)) > 0.02
        assert all(value == pytest.approx(2 * near, rel=0.02) for value in far)
        assert (truth == 0).any()
        if "seg" in name:
            labels = sample["data_samples"].gt_sem_seg.data
            unlabeled = labels == (0 if "39" in name else 255)
            assert torch.equal(unlabeled, truth == 0)  # both are cut alike
    assert (zoomed > 4) == (zoom > 1)  # depth is divided by the zoom

    test = DATASETS.build(config.test_dataloader.dataset)
    sample = test[0]["data_samples"]
    assert sample.gt_depth_map.data.shape == (1, 480, 640)  # as Eigen's crop needs
    assert sample.gt_depth_map.data[0, 10, 10] == pytest.approx(2.0, abs=scale / 2)
    assert ("gt_sem_seg" in sample) == ("seg" in name)
    alone = Compose(config.test_pipeline)(dict(img_path=sample.img_path))  # as inference runs it
    assert torch.equal(alone["inputs"], test[0]["inputs"])
    evaluators = config.test_evaluator
    evaluators = evaluators if isinstance(evaluators, list) else [evaluators]
    built = [METRICS.build(evaluator) for evaluator in evaluators]
    assert isinstance(built[-1], DepthMetric)
    assert (built[-1].min_depth, built[-1].max_depth) == config.depth_range == (1e-3, 10.0)
    assert len(built) == 1 + ("seg" in name)


def test_paths_with_folders_and_without_labels(tmp_path):
    for folder, suffix in (("i", ".jpg"), ("d", ".png")):
        (tmp_path / folder / "scene").mkdir(parents=True)
        for name in ("scene/1", "2"):
            (tmp_path / folder / f"{name}{suffix}").touch()
    prefix = dict(img_path="i", depth_map_path="d")
    dataset = NYUv2DepthDataset(data_root=str(tmp_path), data_prefix=prefix, img_suffix=".jpg")
    paths = [(d["img_path"], d["depth_map_path"]) for d in dataset]
    assert paths == [
        (str(tmp_path / "i/2.jpg"), str(tmp_path / "d/2.png")),
        (str(tmp_path / "i/scene/1.jpg"), str(tmp_path / "d/scene/1.png")),
    ]
    assert all("seg_map_path" not in d for d in dataset)

    settings = dict(data_root=str(tmp_path), img_suffix=".jpg")
    (tmp_path / "d/2.png").unlink()
    with pytest.raises(MissingFile, match=r"1 of 2 images have no depth map, .*/d/2"):
        NYUv2DepthDataset(data_prefix=prefix, **settings)
    with pytest.raises(MissingFile, match="2 of 2 images have no depth map"):
        NYUv2DepthDataset(data_prefix=prefix | dict(depth_map_path="none"), **settings)
    with pytest.raises(UserError, match="data_prefix has no depth_map_path; give"):
        NYUv2DepthDataset(data_prefix=dict(img_path="i"), **settings)
    with pytest.raises(MissingFile, match=r"has no image with suffix '\.bmp'"):
        NYUv2DepthDataset(data_prefix=prefix, **settings | dict(img_suffix=".bmp"))
    with pytest.raises(MissingFile, match=r"none is not a folder .*nyuv2_depth\.py raw"):
        NYUv2DepthDataset(data_prefix=prefix | dict(img_path="none"), **settings)
    with pytest.raises(MissingFile, match=r"no\.txt does not exist; .*nyuv2_depth\.py l"):
        NYUv2DepthDataset(data_prefix=prefix, ann_file="no.txt", **settings)


def test_mmsegs_dataset_ignores_lists_and_lacks_what_labels_need(tmp_path):
    """Why NYUv2DepthDataset does not build on mmseg's NYUDataset."""
    for name in ("i/1.jpg", "i/2.jpg", "d/1.png", "d/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "one.txt").write_text("1\n")
    dataset = DATASETS.build(
        dict(
            type="NYUDataset",
            data_root=str(tmp_path),
            ann_file="one.txt",
            data_prefix=dict(img_path="i", depth_map_path="d"),
        )
    )
    assert len(dataset) == 2
    with pytest.raises(KeyError, match="reduce_zero_label"):
        TRANSFORMS.build(dict(type="LoadAnnotations")).transform(
            dataset[0] | dict(seg_map_path=_white(tmp_path / "label.png"))
        )


def _white(path):
    Image.new("L", (4, 4), 255).save(path)
    return str(path)


@pytest.mark.skipif(
    not (COPY / "depths").is_dir(),
    reason=f"no NYUv2 at {COPY}; set MMSN_NYUV2 to a folder with images/, depths/, train.txt",
)
def test_depth_of_the_copy(monkeypatch):
    monkeypatch.setenv("MMSN_NYUV2", str(COPY))
    config = Config.fromfile(FOLDER / "nyuv2-seg39-depth_168x224.py")
    dataset = DATASETS.build(config.test_dataloader.dataset)
    assert len(dataset) == 654
    depth = torch.stack(
        [dataset[i]["data_samples"].gt_depth_map.data for i in range(0, 654, 50)]
    ).double()
    assert 0.5 < depth.min() < 1.5
    assert 5 < depth.max() <= 10
    assert 2.3 < depth.mean() < 3.3  # 2.78 m over the whole set
    metric = DepthMetric()
    constant = torch.full_like(depth[0], 2.78)
    for truth in depth:
        metric.process(
            {}, [dict(pred_depth_map=dict(data=constant), gt_depth_map=dict(data=truth))]
        )
    assert 0.6 < metric.compute_metrics(metric.results)["rmse"] < 2.0
