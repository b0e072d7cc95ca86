"""What a config says of its segmentor: wrappers, heads, levels, and the facts of anchors."""

import pytest
from mmengine.config import Config, ConfigDict
from mmseg.models import EncoderDecoder

from mmsn.errors import UserError
from mmsn.segmentor_config import (
    anchor_facts,
    heads_of,
    is_stitched,
    model_of,
    published_normalization,
    type_name,
)
from tests.tiny import tiny_anchor, tiny_backbone, tiny_head, tiny_segmentor


def test_a_type_is_named_without_scope_or_module():
    assert type_name(dict(type="mmsn.StitchedViT")) == "StitchedViT"
    assert type_name(dict(type="FCNHead")) == "FCNHead"
    assert type_name(dict(type=EncoderDecoder)) == "EncoderDecoder"
    assert type_name(dict()) == type_name(None) == ""


def test_a_model_is_found_inside_wrappers():
    model = tiny_segmentor(tiny_backbone((2, 4), (1, 3)), tiny_head(3))
    wrapped = Config(dict(model=dict(type="SegTTAModel", module=dict(type="X", module=model))))
    assert model_of(wrapped) == model
    assert is_stitched(model_of(wrapped))
    model["backbone"] = dict(type="mmseg.ResNet")
    assert not is_stitched(model)


@pytest.mark.parametrize("config", [{}, dict(model=dict(type="X")), dict(model=[])], ids=str)
def test_a_config_without_a_segmentor_is_refused(config):
    with pytest.raises(UserError, match="has no model with a backbone: give that of a segmentor"):
        model_of(config)


def test_heads_are_listed_with_their_places():
    model = ConfigDict(
        decode_head=dict(type="UPerHead", in_channels=[8] * 4, in_index=[0, 1, 2, 3]),
        auxiliary_head=[dict(type="FCNHead", in_channels=8, in_index=i) for i in (2, 1)],
    )
    heads = heads_of(model)
    assert [head.key for head in heads] == ["decode_head", "auxiliary_head[0]", "auxiliary_head[1]"]
    assert [head.type for head in heads] == ["UPerHead", "FCNHead", "FCNHead"]
    assert [head.reads_many for head in heads] == [True, False, False]
    assert [head.levels(4) for head in heads] == [(0, 1, 2, 3), (2,), (1,)]
    assert [head.key for head in heads_of(model, training=False)] == ["decode_head"]


def test_levels_count_from_the_end_and_details_are_of_the_first():
    model = dict(decode_head=[dict(type="A"), dict(type="B", in_index=-2, c1_in_channels=8)])
    last, detail = heads_of(model)
    assert last.levels(4) == (3,)  # mmseg's default
    assert (detail.levels(4), detail.reads_detail) == ((0, 2), True)
    assert not last.reads_detail


def test_facts_are_those_of_the_anchor_and_of_its_published_weights():
    facts = anchor_facts(tiny_anchor(24, 4), (32, 32))
    assert (facts.width, facts.depth, facts.patch, facts.class_tokens) == (24, 4, 16, 1)
    assert (facts.mean, facts.std) == (None, None)  # local weights may have any
    augreg = dict(model_name="vit_tiny_patch16_224.augreg_in21k", pretrained=True)
    assert published_normalization(augreg) == ((127.5,) * 3, (127.5,) * 3)
    assert published_normalization(augreg | dict(pretrained=False)) == (None, None)
    with pytest.raises(UserError, match="'vit_huge_imaginary' is not a timm model"):
        anchor_facts(dict(model_name="vit_huge_imaginary"), (32, 32))
