"""A depth estimator and a dataset so small that testing all stitches takes a second."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmsn.datasets.files import encode
from mmsn.evaluation import Training
from tests.evaluation.reports import G, report, result, stitches
from tests.tiny import tiny_backbone, tiny_head, tiny_segmentor

HEIGHT, WIDTH = 32, 48


@pytest.fixture
def depth_config(tmp_path):
    """Three images with depth in whole millimeters, and stitches 0, 1, 2 and 4; see `checkpoint`.

    mmseg's DepthEstimator under a head of one channel; the second image has no valid depth.
    """
    root, rng = tmp_path / "data", np.random.default_rng(0)
    for folder in ("images", "depths"):
        (root / folder).mkdir(parents=True)
    for i in range(3):
        image = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        depth = rng.integers(500, 9000, (HEIGHT, WIDTH)).astype(np.uint16) * (i != 1)
        depth[:4] = 0
        (root / f"images/{i}.png").write_bytes(encode(image, ".png"))
        (root / f"depths/{i}.png").write_bytes(encode(depth.astype(np.uint16), ".png"))
    config = Config(
        dict(
            custom_imports=dict(imports=["mmsn"]),
            default_scope="mmseg",
            work_dir=str(tmp_path / "run"),
            model=tiny_segmentor(
                tiny_backbone((2, 4), (1, 3), (HEIGHT, WIDTH)),
                tiny_head(1),
                kind="DepthEstimator",
                mean=[127.5] * 3,
                std=[60.0] * 3,
            ),
            test_dataloader=dict(
                batch_size=2,
                num_workers=0,
                sampler=dict(type="DefaultSampler", shuffle=False),
                dataset=dict(
                    type="mmsn.NYUv2DepthDataset",
                    data_root=str(root),
                    data_prefix=dict(img_path="images", depth_map_path="depths"),
                    pipeline=[
                        dict(type="LoadImageFromFile"),
                        dict(type="LoadDepthAnnotation", depth_rescale_factor=1e-3),
                        dict(type="PackSegInputs"),
                    ],
                ),
            ),
            test_evaluator=dict(type="mmsn.DepthMetric", eigen_crop=False),
            test_cfg=dict(type="mmsn.ParetoTestLoop", chunk=2),
        )
    )
    config.dump(tmp_path / "depth.py")
    return Config.fromfile(tmp_path / "depth.py")


@pytest.fixture
def depth_checkpoint(depth_config, tmp_path):
    """Random weights of `depth_config`, whose predictions are of the order of meters."""
    init_default_scope("mmseg")
    model = MODELS.build(depth_config.model)
    model.init_weights()
    model.decode_head.conv_seg.bias.data += 3.0
    model.decode_head.conv_seg.weight.data *= 50.0
    path = tmp_path / "depth.pth"
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta={})), path)
    return str(path)


@pytest.fixture
def folder(tmp_path):
    """Two seeds of two curves and of the anchors alone; the small anchor alone costs less."""
    for seed, shift in ((0, 0.0), (1, 1.0)):
        training = Training(train_macs=3 * 10**13, images_seen=12_000, seed=seed)
        runs = {
            "small": [result(0, int(1.9 * G), 10.0 + shift)],
            "large": [result(1, 6 * G, 20.0 + shift)],
            "ours": stitches([12.0 + shift, 14.0, 16.0 + shift, 15.0, 22.0]),
            "snnetv2": stitches([11.0, 9.0, 10.0, 13.0, 21.0 + shift]),
        }
        for method, results in runs.items():
            made = report(*results, images=4, training=training)
            made.save(tmp_path / "reports" / f"a_b_{method}_{seed}.json")
    return tmp_path / "reports"
