"""Configs of mmseg's kind with a stitched backbone: they initialize, train and validate."""

import re

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from mmsn.adopt import adopt
from tests.conftest import ROOT
from tests.engine.conftest import SIZE
from tests.tiny import tiny_anchor, tiny_head


@pytest.fixture
def plain(config):
    """The tests' config, as it is without mmsn."""
    config.model.backbone = dict(type="ResNetV1c", depth=18, strides=(1, 2, 1, 1))
    config.model.pretrained = "open-mmlab://resnet18_v1c"
    config.model.decode_head = tiny_head(12, in_index=3, in_channels=512)
    config.model.auxiliary_head = tiny_head(12, in_index=2, in_channels=256)
    config.custom_hooks = []
    config.val_cfg, config.test_cfg = dict(type="ValLoop"), dict(type="TestLoop")
    return config


def test_an_adopted_config_runs(plain):
    config = adopt(plain, [tiny_anchor(16, 2), tiny_anchor(24, 4)], rank=2).config
    runner = Runner.from_cfg(config)
    runner.train()
    backbone = runner.model.backbone
    assert runner.iter == 4
    assert not backbone.uninitialized
    assert backbone.eval_levels == (3,)
    scalars = runner.message_hub.log_scalars
    metrics = {name for name in scalars if name.endswith("mIoU")}
    assert metrics == {f"val/{s}mIoU" for s in ("", "stitch0/", "stitch1/", "stitch2/")}


def test_the_readme_s_config_runs(config, tmp_path):
    """With anchors of the same depths that are narrow, narrow heads, and the data of the tests."""
    readme = (ROOT / "README.md").read_text()
    program = re.search(r"```python\n(# upernet_by_hand.*?)```", readme, re.DOTALL)
    (tmp_path / "c.py").write_text(program[1])
    mine = Config.fromfile(tmp_path / "c.py")
    model = mine.model
    model.backbone.update(anchors=[tiny_anchor(16, 12), tiny_anchor(24, 24)], img_size=SIZE)
    model.neck.update(in_channels=[24] * 4, out_channels=8)
    model.decode_head.update(in_channels=[8] * 4, channels=8, num_classes=12)
    model.auxiliary_head.update(in_channels=8, channels=8, num_classes=12)
    model.data_preprocessor.size = (SIZE, SIZE)
    data = ("train_dataloader", "val_dataloader", "val_evaluator", "test_dataloader")
    for key in (*data, "test_evaluator", "train_cfg", "work_dir", "experiment_name"):
        mine[key] = config[key]
    mine.custom_hooks[0].num_images = 6
    runner = Runner.from_cfg(mine)
    runner.train()
    assert runner.iter == 4
    assert not runner.model.backbone.uninitialized
    losses, _ = runner.message_hub.get_scalar("train/loss").data
    assert len(losses) == 4
    assert np.isfinite(losses).all()
    scalars = runner.message_hub.log_scalars
    assert {"val/stitch0/mIoU", "val/stitch1/mIoU"} <= scalars.keys()
