"""The pyramid of ViTDet: strides, values against torch's own modules, and use under mmseg."""

import pytest
import torch
import torch.nn.functional as F
from fvcore.nn import FlopCountAnalysis
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from mmsn.models import SimpleFeaturePyramid, head_macs
from tests.tiny import tiny_backbone, tiny_segmentor


def normed(maps, norm):
    """LayerNorm over channels, at every position."""
    last = maps.movedim(1, -1)
    return F.layer_norm(last, norm.weight.shape, norm.weight, norm.bias, 1e-6).movedim(-1, 1)


@torch.no_grad()
def test_every_map_is_what_the_paper_says():
    torch.manual_seed(0)
    neck = SimpleFeaturePyramid(16, out_channels=8)
    last = torch.randn(2, 16, 6, 4)
    found = neck((torch.zeros(2, 16, 6, 4), last))
    assert [tuple(m.shape[1:]) for m in found] == [
        *((8, 24, 16), (8, 12, 8), (8, 6, 4), (8, 3, 2), (8, 2, 1))
    ]
    quarter, half = neck.scales[0], neck.scales[1]
    up = F.conv_transpose2d(last, quarter[0].weight, quarter[0].bias, 2)
    up = F.gelu(normed(up, quarter[1]))
    scaled = [
        F.conv_transpose2d(up, quarter[3].weight, quarter[3].bias, 2),
        F.conv_transpose2d(last, half.weight, half.bias, 2),
        last,
        F.max_pool2d(last, 2),
    ]
    for maps, expected, out in zip(found, scaled, neck.outs, strict=False):
        expected = normed(F.conv2d(expected, out[0].weight), out[1])
        expected = normed(F.conv2d(expected, out[2].weight, padding=1), out[3])
        assert torch.allclose(maps, expected, atol=1e-5)
    assert torch.equal(found[4], found[3][:, :, ::2, ::2])


def test_a_level_is_chosen_and_class_tokens_are_left():
    neck = SimpleFeaturePyramid(16, out_channels=8, num_outs=4, in_index=0)
    first = torch.randn(1, 16, 2, 2)
    found = neck(((first, torch.zeros(1, 16)), (torch.zeros(1, 16, 2, 2), torch.zeros(1, 16))))
    assert len(found) == 4
    assert torch.equal(found[2], neck.outs[2](first))


@pytest.fixture
def segmentor():
    init_default_scope("mmseg")
    head = dict(
        type="FPNHead",
        in_channels=[8] * 4,
        in_index=[0, 1, 2, 3],
        feature_strides=[4, 8, 16, 32],
        channels=8,
        num_classes=3,
        norm_cfg=dict(type="BN"),
    )
    backbone = tiny_backbone((2, 4), (3,), img_size=64)
    neck = dict(type="mmsn.SimpleFeaturePyramid", in_channels=24, out_channels=8, num_outs=4)
    config = tiny_segmentor(backbone, head, size=(64, 64)) | dict(neck=neck)
    return MODELS.build(ConfigDict(config)).eval()


@torch.no_grad()
def test_it_is_a_neck_of_mmseg_and_is_counted(segmentor):
    (levels,) = [segmentor.backbone.zero_levels((64, 64))]
    assert segmentor(torch.randn(1, 3, 64, 64)).shape == (1, 3, 16, 16)

    class Both(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.neck, self.head = segmentor.neck, segmentor.decode_head

        def forward(self, level):
            return self.head(self.neck((level,)))

    counted = FlopCountAnalysis(Both(), levels[0])
    counted.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    assert head_macs(segmentor, (64, 64)) == counted.total()
