"""A config of mmseg's kind, adopted and run by a Runner: it initializes, trains and validates."""

import pytest
from mmengine.runner import Runner

from mmsn.adopt import adopt
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
