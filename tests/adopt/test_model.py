"""What an adoption does to neck, heads and backbone."""

import pytest

from mmsn.adopt import adopt
from mmsn.errors import UserError
from tests.adopt.names import (
    DEEPLAB,
    DEIT3,
    SEGMENTER,
    SETR_PUP,
    UPERNET,
    changed,
    mmseg_config,
    published,
)
from tests.tiny import tiny_anchor


def test_a_pyramid_head_gets_a_neck_and_its_width():
    adoption = adopt(mmseg_config(UPERNET), DEIT3)
    model = adoption.config.model
    assert model.neck == dict(
        type="MultiLevelNeck", in_channels=[1024] * 4, out_channels=256, scales=[4, 2, 1, 0.5]
    )
    assert model.decode_head.in_channels == [256] * 4
    assert model.auxiliary_head.in_channels == 256
    assert model.backbone.out_indices == (5, 11, 17, 23)
    assert "eval_levels" not in model.backbone  # the neck reads all
    assert "pretrained" not in model
    assert [anchor.model_name for anchor in model.backbone.anchors] == [
        anchor["model_name"] for anchor in DEIT3
    ]
    assert {"model.neck", "model.backbone", "model.decode_head.in_channels"} <= set(
        changed(adoption)
    )


def test_levels_of_a_plain_backbone_stay_where_they_were():
    setr = adopt(mmseg_config(SETR_PUP), DEIT3).config.model
    assert setr.backbone.out_indices == (9, 14, 19, 23)
    assert setr.backbone.eval_levels == (3,)
    assert setr.decode_head.in_channels == 1024
    half = adopt(mmseg_config(SETR_PUP), [tiny_anchor(32, 6), tiny_anchor(64, 12)], 4).config
    assert half.model.backbone.out_indices == (4, 7, 9, 11)
    assert [head.in_channels for head in half.model.auxiliary_head] == [64] * 3
    assert adopt(mmseg_config(SEGMENTER), DEIT3).config.model.backbone.out_indices == (23,)


def test_levels_that_are_counted_from_the_last():
    """Fast-SCNN's auxiliary heads read -2 and -3."""
    name = "fast_scnn_8xb4-160k_cityscapes-512x1024.py"
    model = adopt(mmseg_config(name), DEIT3).config.model
    assert model.backbone.out_indices == (7, 15, 23)
    assert model.backbone.eval_levels == (2,)


def test_segmenter_stays_as_wide_as_the_backbone():
    head = adopt(mmseg_config(SEGMENTER), DEIT3).config.model.decode_head
    assert (head.in_channels, head.channels, head.embed_dims, head.num_heads) == (
        1024,
        1024,
        1024,
        16,
    )


def test_deeplab_reads_the_first_level_and_reaches_as_far():
    model = adopt(mmseg_config(DEEPLAB), DEIT3).config.model
    assert model.decode_head.c1_in_channels == 1024
    assert model.backbone.eval_levels == (0, 3)
    assert model.decode_head.dilations == (1, 6, 12, 18)  # at stride 16 instead of 8


def test_dpt_gets_class_tokens_or_is_refused():
    config = mmseg_config("dpt_vit-b16_8xb2-160k_ade20k-512x512.py")
    model = adopt(config, DEIT3).config.model
    assert model.backbone.output_cls_token
    assert model.decode_head.embed_dims == 1024
    sizes = [f"vit_{size}_patch16_siglip_gap_512.v2_webli" for size in ("base", "large")]
    with pytest.raises(UserError, match="DPTHead reads a class token"):
        adopt(config, published(*sizes))
