"""Learning rates by layer, against the numbers that BEiT's rule gives."""

import pytest
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope

from mmsn.errors import UserError
from tests.tiny import (
    tiny_anchor,
    tiny_backbone,
    tiny_head,
    tiny_segmentor,
    tiny_swin_backbone,
    tiny_upernet,
)


@pytest.fixture
def model():
    init_default_scope("mmseg")
    anchors = [tiny_anchor(16, 2, rel_pos_bias=True), tiny_anchor(24, 4)]
    return MODELS.build(
        tiny_segmentor(tiny_backbone((2, 4), (1, 3), anchors=anchors), tiny_head(3))
    )


def rates(model, **options):
    """(learning rate, weight decay) by the name of each parameter that is trained."""
    wrapper = dict(
        type="OptimWrapper",
        optimizer=dict(type="AdamW", lr=0.1, weight_decay=0.05),
        constructor="mmsn.LayerDecayOptimizerConstructor",
        paramwise_cfg=options,
    )
    groups = build_optim_wrapper(model, wrapper).optimizer.param_groups
    known = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert sum(len(group["params"]) for group in groups) == len(known)  # each of them once
    return {name: known[id(p)] for name, p in model.named_parameters() if id(p) in known}


def test_blocks_learn_more_slowly_towards_the_image(model):
    found = rates(model, decay_rate=0.5)
    assert found.keys() == {n for n, p in model.named_parameters() if p.requires_grad}
    expected = {
        "backbone.anchors.0.vit.patch_embed.proj.weight": 0.1 / 8,  # depth 2
        "backbone.anchors.0.vit.pos_embed": 0.1 / 8,
        "backbone.anchors.0.vit.cls_token": 0.1 / 8,
        "backbone.anchors.0.vit.blocks.0.attn.qkv.weight": 0.1 / 4,
        "backbone.anchors.0.vit.blocks.1.attn.qkv.weight": 0.1 / 2,
        "backbone.anchors.0.rel_pos.tables.0": 0.1 / 4,
        "backbone.anchors.1.vit.patch_embed.proj.weight": 0.1 / 32,  # depth 4
        "backbone.anchors.1.vit.blocks.0.mlp.fc1.weight": 0.1 / 16,
        "backbone.anchors.1.vit.blocks.3.ls1.gamma": 0.1 / 2,
        "backbone.stitching_layers.0_to_1_after_0.lora_A": 0.1,
        "backbone.stitching_layers.0_to_1_after_0.bias": 0.1,
        "decode_head.conv_seg.weight": 0.1,
    }
    assert {name: found[name][0] for name in expected} == pytest.approx(expected)


def test_vectors_and_tokens_do_not_decay(model):
    found = rates(model, decay_rate=0.9)
    undecayed = {name for name, (_, decay) in found.items() if decay == 0}
    for name, parameter in model.named_parameters():
        if name in found:
            small = parameter.ndim == 1 or name.endswith(("pos_embed", "cls_token"))
            assert (name in undecayed) == small, name
    assert {decay for _, decay in found.values()} == {0.0, 0.05}


def test_custom_keys_multiply(model):
    keys = dict(head=dict(lr_mult=10.0), stitching_layers=dict(lr_mult=2.0, decay_mult=0.0))
    found = rates(model, decay_rate=0.5, custom_keys=keys)
    assert found["decode_head.conv_seg.weight"] == pytest.approx((1.0, 0.05))
    assert found["backbone.stitching_layers.0_to_1_after_0.lora_A"] == pytest.approx((0.2, 0.0))
    assert found["backbone.anchors.0.vit.blocks.1.attn.qkv.weight"][0] == pytest.approx(0.05)


def test_frozen_anchors_are_left_out(model):
    model.backbone.anchors.requires_grad_(False)
    assert not any(".anchors." in name for name in rates(model, decay_rate=0.9))


@pytest.mark.parametrize("options", [{}, dict(decay_rate=1.5), dict(decay_rate=0.9, num_layers=12)])
def test_other_options_are_refused(model, options):
    if not options:  # mmengine asks the constructor only where there are options
        options = dict(custom_keys={})
    with pytest.raises(UserError, match="give decay_rate, above 0 and up to 1"):
        rates(model, **options)


def test_blocks_of_hierarchical_anchors_count_over_all_stages():
    init_default_scope("mmseg")
    head = tiny_upernet(3, (16, 32, 64, 128))
    found = rates(MODELS.build(tiny_segmentor(tiny_swin_backbone(), head)), decay_rate=0.5)
    expected = {
        "backbone.anchors.0.vit.patch_embed.proj.weight": 0.1 / 2**7,  # depth 2 + 1 + 2 + 1
        "backbone.anchors.0.vit.layers.0.blocks.1.attn.qkv.weight": 0.1 / 2**5,
        "backbone.anchors.0.vit.layers.1.downsample.reduction.weight": 0.1 / 2**4,
        "backbone.anchors.0.vit.layers.1.blocks.0.attn.relative_position_bias_table": 0.1 / 2**4,
        "backbone.anchors.2.vit.layers.3.blocks.0.mlp.fc2.weight": 0.1 / 2,
        "backbone.stitching_layers.0_to_1_after_0.weight": 0.1,
        "backbone.norms.0.weight": 0.1,
    }
    assert {name: found[name][0] for name in expected} == pytest.approx(expected)
