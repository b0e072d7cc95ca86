"""What a whole segmentor costs, against the published head."""

import pytest
import torch
from mmengine.analysis import FlopAnalyzer
from mmengine.registry import MODELS, init_default_scope
from torch.utils.flop_counter import FlopCounterMode

from mmsn.errors import UserError
from mmsn.models import head_macs, segmentor_macs, segmentor_params, stitched_backbone
from mmsn.models.complexity import NeckAndHeads
from mmsn.stitching import CostModel, StitchSpace
from tests.stitching.test_cost import plain_vit
from tests.tiny import tiny_anchor

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
    with pytest.raises(UserError, match="SETRUPHead has 0 stitched backbones"):
        stitched_backbone(model.decode_head)


@pytest.fixture(scope="module")
def dpt():
    """The published depth head, for images of 480x640, on anchors of few blocks."""
    init_default_scope("mmseg")
    depths = dict(small=2, large=4)
    anchors = [dict(model_name=f"deit3_{k}_patch16_224", depth=d) for k, d in depths.items()]
    return MODELS.build(
        dict(
            type="mmsn.DepthEstimator",
            backbone=dict(
                type="mmsn.StitchedViT",
                anchors=anchors,
                img_size=(480, 640),
                out_indices=(0, 1, 2, 3),
                output_cls_token=True,
            ),
            decode_head=dict(
                type="mmsn.DPTDepthHead",
                post_process_channels=[96, 192, 384, 768],
                readout_type="project",
                in_channels=[1024] * 4,
                in_index=[0, 1, 2, 3],
                channels=256,
            ),
        )
    )


def test_the_depth_head_and_all_134_stitches_take_what_was_published(dpt):
    """Published: the closed form of the FLOPs files at 480x640, in millions."""
    head = head_macs(dpt, (480, 640))
    # Their trace also counts the resizing of the depth map, 4 per pixel, to the size it has.
    head += 4 * 480 * 640
    assert head / 1e6 == pytest.approx(167_782.81, abs=5e-3)
    tokens = 1201
    for small, depths in ((384, (12, 24)), (768, (12, 24))):
        large, space = 1024, StitchSpace.two_way(depths)
        model = CostModel(space, (plain_vit(small), plain_vit(large)), 0, (4, 11, 17, 23))
        totals = {}
        for stitch in space:
            dims = [(small, large)[segment.anchor] for segment in stitch.segments]
            blocks = [segment.stop - segment.start for segment in stitch.segments]
            total = 1200 * 768 * dims[0] + head
            for d, n in zip(dims, blocks, strict=True):
                total += n * (12 * tokens * d * d + 2 * tokens * tokens * d + 10 * tokens * d)
            from_small = sum(run_by_small(stitch, block) for block in (4, 11, 17, 23))
            total += (len(dims) - 1 + from_small) * tokens * small * large
            assert model.published_macs(stitch, (480, 640), range(4)) + head == total
            totals[stitch.id] = total / 1e9
        assert len(totals) == 134
        assert totals[1] == pytest.approx(602.608, abs=5e-4)
        if small == 384:
            # the 13 groups as published, from the lowest to the highest of each
            edges = (
                (208.876, 208.876), (241.8, 242.9), (274.7, 275.8), (307.6, 308.7), (340.1, 341.6),
                (373.0, 374.5), (405.9, 407.0), (438.4, 439.9), (471.3, 472.8), (504.2, 505.3),
                (536.7, 538.2), (569.6, 571.1), (602.608, 602.608),
            )  # fmt: skip
            ordered = sorted(totals.values())
            groups = [ordered[:1], *(ordered[1 + 12 * i : 13 + 12 * i] for i in range(11))]
            for group, (low, high) in zip([*groups, ordered[-1:]], edges, strict=True):
                assert group[0] == pytest.approx(low, abs=0.05)
                assert group[-1] == pytest.approx(high, abs=0.05)
        else:
            assert totals[0] == pytest.approx(300.972, abs=5e-4)


def run_by_small(stitch, block):
    """Whether the small anchor computes the level of this block of the large one."""
    for segment in stitch.segments:
        ratio = 1 if segment.anchor else 2
        if segment.start * ratio <= block < segment.stop * ratio:
            return segment.anchor == 0
    raise AssertionError(f"{stitch} has no level at block {block}")


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
    analyzer = FlopAnalyzer(NeckAndHeads(model), levels)
    analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    assert count == analyzer.total()
    with FlopCounterMode(display=False) as products, torch.no_grad():  # two per product
        NeckAndHeads(model)(*levels)
    assert products.get_total_flops() / 2 <= count
