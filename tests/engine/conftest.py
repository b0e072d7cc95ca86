"""A stitched segmentor and a dataset so small that a Runner trains it in a second."""

import copy
import socket
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from mmsn.datasets import generate_shapes
from tests.engine.reading import hooks
from tests.tiny import tiny_anchor, tiny_backbone, tiny_head, tiny_segmentor

NUM_TRAIN, NUM_VAL, SIZE = 10, 3, 32


@pytest.fixture(scope="session")
def shapes(tmp_path_factory):
    """Folder of a few small images."""
    root = tmp_path_factory.mktemp("shapes")
    generate_shapes(root, num_train=NUM_TRAIN, num_val=NUM_VAL, size=SIZE)
    return root


def _loader(root, split, batch_size, sampler):
    pipeline = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations")]
    return dict(
        batch_size=batch_size,
        num_workers=0,
        sampler=sampler,
        dataset=dict(
            type="mmsn.ShapesDataset",
            data_root=str(root),
            data_prefix=dict(img_path=f"images/{split}", seg_map_path=f"annotations/{split}"),
            pipeline=[*pipeline, dict(type="PackSegInputs")],
        ),
    )


@pytest.fixture
def config(shapes, tmp_path):
    """Depths (2, 4) under a SETR head; stitches 0, 1, 2 and 4."""
    anchors = [tiny_anchor(16, 2, drop_path_rate=0.1), tiny_anchor(24, 4)]
    val = _loader(shapes, "validation", 2, dict(type="DefaultSampler", shuffle=False))
    return Config(
        dict(
            custom_imports=dict(imports=["mmsn"]),
            default_scope="mmseg",
            work_dir=str(tmp_path / "run"),
            # Else the time in seconds; mmengine shares loggers between runs of one name.
            experiment_name=tmp_path.name,
            model=tiny_segmentor(
                tiny_backbone((2, 4), (1, 3), SIZE, anchors=anchors),
                tiny_head(12),
                size=(SIZE, SIZE),
            ),
            train_dataloader=_loader(
                shapes, "training", 2, dict(type="InfiniteSampler", shuffle=True)
            ),
            val_dataloader=val,
            test_dataloader=copy.deepcopy(val),
            val_evaluator=dict(type="IoUMetric", iou_metrics=["mIoU"]),
            test_evaluator=dict(type="IoUMetric", iou_metrics=["mIoU"]),
            optim_wrapper=dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.01)),
            train_cfg=dict(type="IterBasedTrainLoop", max_iters=4, val_interval=2),
            val_cfg=dict(type="mmsn.ParetoValLoop", stitches=["anchors", "middle"]),
            test_cfg=dict(type="mmsn.ParetoTestLoop"),
            default_hooks=dict(
                logger=dict(type="LoggerHook", interval=1, log_metric_by_epoch=False),
                checkpoint=dict(type="mmsn.AtomicCheckpointHook", by_epoch=False, interval=2),
            ),
            custom_hooks=[
                dict(type="mmsn.StitchInitHook", num_images=6),
                dict(type="mmsn.FLOPsConstrainedSamplingHook"),
            ],
            log_processor=dict(by_epoch=False),
            randomness=dict(seed=0),
        )
    )


@pytest.fixture
def run(config, tmp_path):
    """Make a Runner of the config with some changes, each in a folder of its own."""
    count = 0

    def make(**changes):
        nonlocal count
        count += 1
        mine = copy.deepcopy(config)
        mine.work_dir = str(tmp_path / f"run{count}")
        mine.experiment_name = f"{tmp_path.name}_{count}"
        mine.merge_from_dict(changes)
        return Runner.from_cfg(mine)

    return make


@pytest.fixture
def trained(run):
    """A finished run of four iterations, with one stitch each."""
    runner = run(custom_hooks=hooks(parts=1))
    runner.train()
    return runner


@pytest.fixture
def port():
    """One that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def pair_config(config):
    """The config for two processes without GPUs."""
    config.launcher = "pytorch"
    config.find_unused_parameters = True
    config.model_wrapper_cfg = dict(
        type="MMDistributedDataParallel",
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=True,
    )
    config.env_cfg = dict(dist_cfg=dict(backend="gloo"))
    return config


@pytest.fixture
def checkpoint(run, tmp_path):
    """Weights of some initialization."""
    runner = run(**{"train_cfg.max_iters": 1})
    runner.train()
    return str(Path(runner.work_dir) / "iter_1.pth")
