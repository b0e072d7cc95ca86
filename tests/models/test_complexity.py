"""What a whole segmentor costs, against the published head."""

import pytest
import torch
from mmengine.analysis import FlopAnalyzer
from mmengine.registry import MODELS, init_default_scope
from torch.utils.flop_counter import FlopCounterMode

from mmsn.models import head_macs, segmentor_macs, segmentor_params, stitched_backbone
from mmsn.models.complexity import _Head
from tests.models.conftest import tiny_anchor

HEAD = 920_125_440  # SETR-naive, 150 classes, 1024 wide, 512x512, as the published file counts it


@pytest.fixture(scope="module")
def model():
    """The published head on anchors of one block."""
    init_default_scope("mmseg")
    anchors = [dict(model_name=f"deit3_{size}_patch16_224", depth=1) for size in ("small", "large")]
    return MODELS.build(
        dict(
            type="EncoderDecoder",
            backbone=dict(
                type="mmsn.StitchedViT", anchors=anchors, img_size=512, out_indices=(0,), rank=4
            ),
            decode_head=dict(
                type="SETRUPHead",
                in_channels=1024,
                channels=256,
                in_index=0,
                num_classes=150,
                num_convs=1,
                up_scale=4,
                kernel_size=1,
                norm_cfg=dict(type="BN"),
            ),
        )
    )


def test_the_head_takes_what_was_published(model):
    assert head_macs(model, (512, 512)) == HEAD
    backbone = model.backbone.stitch_macs((512, 512))
    assert segmentor_macs(model, (512, 512)) == {i: m + HEAD for i, m in backbone.items()}
    assert model.training  # as before


def test_parameters_are_backbone_and_head(model):
    head = sum(p.numel() for p in model.decode_head.parameters())
    assert head == 1024 * 256 + 2 * 256 + 256 * 150 + 150 + 2 * 1024
    backbone = model.backbone.stitch_params()
    assert segmentor_params(model) == {i: p + head for i, p in backbone.items()}


def test_a_model_without_a_stitched_backbone_is_refused(model):
    assert stitched_backbone(model) is model.backbone
    with pytest.raises(ValueError, match="SETRUPHead has 0 StitchedViT backbones"):
        stitched_backbone(model.decode_head)


LEVELS = dict(in_channels=[24] * 4, in_index=[0, 1, 2, 3], num_classes=5)
LAST = dict(in_channels=24, in_index=3, num_classes=5)
BN = dict(norm_cfg=dict(type="BN"))
NECK = dict(type="MultiLevelNeck", in_channels=[24] * 4, out_channels=24, scales=[4, 2, 1, 0.5])
HEADS = {
    "upernet": (dict(type="UPerHead", channels=16, **LEVELS, **BN), NECK),
    "setr": (dict(type="SETRUPHead", channels=8, num_convs=2, up_scale=2, **LAST, **BN), None),
    "groupnorm": (
        dict(type="FCNHead", channels=8, norm_cfg=dict(type="GN", num_groups=2), **LAST),
        None,
    ),
    "depthwise": (
        dict(
            type="DepthwiseSeparableASPPHead",
            channels=16,
            dilations=(1, 3),
            c1_in_channels=24,
            c1_channels=8,
            **LAST,
            **BN,
        ),
        None,
    ),
    "segmenter": (
        dict(
            type="SegmenterMaskTransformerHead",
            channels=32,
            num_layers=2,
            num_heads=2,
            embed_dims=32,
            **LAST,
        ),
        None,
    ),
}


@pytest.mark.parametrize("name", HEADS)
def test_heads_are_counted_as_fvcore_counts_and_left_alone(name):
    init_default_scope("mmseg")
    head, neck = HEADS[name]
    backbone = dict(
        type="mmsn.StitchedViT",
        anchors=[tiny_anchor(16, 2), tiny_anchor(24, 4)],
        img_size=64,
        out_indices=(0, 1, 2, 3),
    )
    config = dict(type="EncoderDecoder", backbone=backbone, decode_head=head)
    model = MODELS.build(config | (dict(neck=neck) if neck else {}))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    count = head_macs(model, (96, 64))
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    model.eval()
    levels = model.backbone.zero_levels((96, 64))
    analyzer = FlopAnalyzer(_Head(model), levels)
    analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    assert count == analyzer.total()
    with FlopCounterMode(display=False) as products, torch.no_grad():  # two per product
        _Head(model)(*levels)
    assert products.get_total_flops() / 2 <= count
