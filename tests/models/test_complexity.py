"""What a whole segmentor costs, against the published head."""

import pytest
from mmengine.registry import MODELS, init_default_scope

from mmsn.models import head_macs, segmentor_macs, segmentor_params, stitched_backbone

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
