"""Train, resume and test a tiny mmseg model through the command lines, on random images."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import mmcv
import numpy as np
import pytest
import torch

CONFIG = """
default_scope = 'mmseg'
custom_imports = dict(imports=['mmsn'])
randomness = dict(seed=0)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[127.0] * 3, std=[50.0] * 3, size=(32, 32),
        seg_pad_val=255),
    backbone=dict(
        type='VisionTransformer', img_size=(32, 32), patch_size=8, embed_dims=16, num_layers=1,
        num_heads=2, mlp_ratio=2, out_indices=(0,), final_norm=True),
    decode_head=dict(
        type='FCNHead', in_channels=16, in_index=0, channels=8, num_convs=1, num_classes=3,
        concat_input=False, norm_cfg=dict(type='BN'),
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True)),
    train_cfg=dict(), test_cfg=dict(mode='whole'))
dataset = dict(
    type='BaseSegDataset', data_root={root!r}, img_suffix='.png', seg_map_suffix='.png',
    data_prefix=dict(img_path='images', seg_map_path='labels'),
    metainfo=dict(classes=('a', 'b', 'c'), palette=[[0, 0, 0], [1, 1, 1], [2, 2, 2]]),
    pipeline=[
        dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')])
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='InfiniteSampler'), dataset=dataset)
val_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dataset)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric')
test_evaluator = val_evaluator
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2))
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for index in range(2):
        image = random.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        label = random.integers(0, 3, (32, 32), dtype=np.uint8)
        mmcv.imwrite(image, str(tmp_path / "images" / f"{index}.png"))
        mmcv.imwrite(label, str(tmp_path / "labels" / f"{index}.png"))
    path = tmp_path / "tiny_round_trip.py"
    path.write_text(CONFIG.replace("{root!r}", repr(str(tmp_path))))
    return path


@pytest.fixture(autouse=True)
def _no_traces() -> Iterator[None]:
    """A Runner makes random state, the thread count and log handlers its own."""
    threads = torch.get_num_threads()
    handlers = list(logging.getLogger().handlers)
    yield
    torch.set_num_threads(threads)
    logging.getLogger().handlers[:] = handlers


def test_train_resume_and_test(
    tool: Callable[[str], ModuleType],
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runners = []

    def run(name: str, *words: str) -> None:
        module = tool(name)
        build = module.build_runner

        def keep(*args, **kwargs):
            runners.append(build(*args, **kwargs))
            return runners[-1]

        monkeypatch.setattr(module, "build_runner", keep)
        # one name per run: mmengine shares message hubs between runners of the same name
        options = [f"experiment_name=round_trip_{len(runners)}"]
        if runners:
            options.append("train_cfg.max_iters=4")
        work_dir = str(tmp_path / "work")
        module.main([str(config), *words, "--work-dir", work_dir, "--cfg-options", *options])

    run("train")
    assert (tmp_path / "work" / "iter_2.pth").is_file()
    run("train", "--resume")
    trained, resumed = runners
    assert trained.iter == 2
    assert resumed.iter == 4
    # the message hub came through torch.load: all four losses, the first two from the first run
    losses = [r.message_hub.get_scalar("train/loss").data[0] for r in runners]
    assert len(losses[1]) == 4
    np.testing.assert_array_equal(losses[1][:2], losses[0])

    run("test", str(tmp_path / "work" / "iter_4.pth"), "--out", str(tmp_path / "out"))
    hub = [r.message_hub for r in runners]
    assert hub[2].get_scalar("test/mIoU").current() == hub[1].get_scalar("val/mIoU").current()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"0.png", "1.png"}
