"""What the config of a segmentor says."""

import pytest
from mmengine.config import ConfigDict
from mmseg.models import EncoderDecoder

from mmsn.errors import UserError
from mmsn.segmentor_config import (
    Head,
    anchor_facts,
    has_foreign_layer_decay,
    heads_of,
    is_close,
    is_stitched,
    model_of,
    published_normalization,
    type_name,
)
from tests.tiny import tiny_anchor


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (dict(type="mmseg.EncoderDecoder"), "EncoderDecoder"),
        (dict(type="EncoderDecoder"), "EncoderDecoder"),
        (dict(type=EncoderDecoder), "EncoderDecoder"),  # of mmengine's new style
        (dict(), ""),
        (None, ""),
    ],
)
def test_names_of_types(config, name):
    assert type_name(config) == name


def test_the_segmentor_inside_a_wrapper_for_augmented_tests():
    model = dict(backbone=dict(type="mmsn.StitchedViT"))
    assert model_of(dict(model=model)) is model
    assert model_of(dict(model=dict(type="SegTTAModel", module=model))) is model
    assert is_stitched(model)
    for wrong in ({}, dict(model=3), dict(model=dict(type="X"))):
        with pytest.raises(UserError, match="no model with a backbone"):
            model_of(wrong)


def test_heads_and_the_levels_they_read():
    model = dict(
        backbone=dict(),
        decode_head=[
            dict(type="A", in_index=2),
            dict(type="B", in_channels=[8, 8], in_index=[0, 1]),
        ],
        auxiliary_head=dict(type="C"),
    )
    heads = heads_of(model)
    assert [(h.key, h.type) for h in heads] == [
        ("decode_head[0]", "A"),
        ("decode_head[1]", "B"),
        ("auxiliary_head", "C"),
    ]
    assert [h.levels(4) for h in heads] == [(2,), (0, 1), (3,)]
    assert [h.reads_many for h in heads] == [False, True, False]
    assert [h.type for h in heads_of(model, training=False)] == ["A", "B"]
    detail = Head("decode_head", ConfigDict(in_index=3, c1_in_channels=256))
    assert detail.reads_detail
    assert detail.levels(4) == (0, 3)


def test_facts_of_an_anchor():
    facts = anchor_facts(tiny_anchor(24, 4, patch_size=8), (32, 48))
    assert (facts.width, facts.depth, facts.patch, facts.class_tokens) == (24, 4, 8, 1)
    assert facts.mean is facts.std is None


def test_normalization_is_that_of_published_weights():
    name = "vit_tiny_patch16_224.augreg_in21k"
    assert published_normalization(dict(model_name=name, pretrained=True)) == (
        (127.5, 127.5, 127.5),
        (127.5, 127.5, 127.5),
    )
    assert published_normalization(dict(model_name=name, checkpoint="own.pth")) == (None, None)


def test_closeness_forgives_how_people_round():
    assert is_close([123.675, 116.28, 103.53], (123.68, 116.28, 103.53))
    assert not is_close([123.675, 116.28, 103.53], (127.5, 127.5, 127.5))
    assert not is_close([1.0], (1.0, 1.0))
    assert not is_close(None, (1.0,))
    assert is_close(None, None)


def test_layer_decay_of_others():
    for name in ("LayerDecayOptimizerConstructor", "mmseg.LearningRateDecayOptimizerConstructor"):
        assert has_foreign_layer_decay(dict(constructor=name))
    assert not has_foreign_layer_decay(dict(constructor="mmsn.LayerDecayOptimizerConstructor"))
    assert not has_foreign_layer_decay(dict(constructor="DefaultOptimWrapperConstructor"))
    assert not has_foreign_layer_decay({})
