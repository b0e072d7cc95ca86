"""Small segmentors under the heads of the configs, their weights as after some training."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from tests.configs.test_configs import build, shrink

CONFIGS = Path(__file__).parents[2] / "configs"
HEADS = ("setr-naive", "upernet", "fpn")
# The anchors, both directions, there and back both ways; ids of depths (4, 8).
STITCHES = (0, 1, 2, 6, 9, 12)


def small_config(head: str, depths: tuple[int, int] = (4, 8)) -> Config:
    folder = head.partition("-")[0]
    name = f"snnetv2_deit3-s-l-r16_{head}_8xb2-160k_ade20k-512x512.py"
    config = shrink(Config.fromfile(CONFIGS / folder / name))
    backbone = config.model.backbone
    for anchor, depth in zip(backbone.anchors, depths, strict=True):
        anchor.depth = depth
    backbone.out_indices = [(i + 1) * depths[1] // 4 - 1 for i in range(4)]
    config.model.test_cfg.update(crop_size=(64, 64), stride=(43, 43))
    return config


def trained(config: Config):
    """A segmentor none of whose parts is as it was made: updates, norms, statistics."""
    model = build(config).eval()
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.randn_like(tensor) * 0.05
            tensor.add_(noise.abs() if name.endswith("running_var") else noise)
    for key in model.backbone.layer_keys:
        layer = model.backbone.layer(key)
        layer.lora_B.data.normal_()
        layer.initialized.fill_(True)
    return model


@pytest.fixture(params=HEADS)
def supernet(request):
    """(config, segmentor, some stitches), one after the other for three heads."""
    config = small_config(request.param)
    return config, trained(config), STITCHES if request.param == "setr-naive" else (0, 9)


@pytest.fixture
def setr():
    """(config, segmentor) with a SETR head, which reads the last of four levels."""
    config = small_config("setr-naive")
    return config, trained(config)
