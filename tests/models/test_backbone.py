"""What holds for every kind of stitched backbone; plain ViTs have more in test_stitched_vit.py."""

import pytest
import torch
from torch.utils._pytree import tree_map

from mmsn.models import StitchedSwin, StitchedViT
from tests.tiny import tiny_anchor, tiny_swin_backbone


def vit(**changes):
    anchors = [tiny_anchor(d, 4, init_values=1.0) for d in (16, 24, 32)]
    options = dict(anchors=anchors, img_size=64, out_indices=(0, 1, 2, 3), rank=0, space="one_way")
    return StitchedViT(**(options | changes)).eval()


def swin(**changes):
    options = tiny_swin_backbone(**changes)
    options.pop("type")
    return StitchedSwin(**options).eval()


@pytest.fixture(params=[vit, swin])
def build(request):
    """Makes a backbone of three anchors, stitched one way; weights show in outputs."""

    def make(**changes):
        backbone = request.param(**changes)
        for name, parameter in backbone.named_parameters():
            if "norm" not in name:
                torch.nn.init.normal_(parameter, std=0.2)
        return backbone

    return make


def outputs(backbone, image):
    found = {}
    for stitch in backbone.space.ids:
        with backbone.use_stitch(stitch):
            found[stitch] = backbone(image)
    return found


@torch.no_grad()
def test_shared_beginnings_change_no_bit(build):
    backbone, image = build(), torch.randn(2, 3, 64, 48)
    expected = outputs(backbone, image)
    passes = backbone.share_prefixes(backbone.space.ids)
    for stitch in passes.trie.order:
        with backbone.use_stitch(stitch, passes):
            for ours, alone in zip(backbone(image), expected[stitch], strict=True):
                assert torch.equal(ours, alone)


@torch.no_grad()
def test_each_stitch_alone_gives_the_same_and_holds_what_is_counted(build):
    whole, image = build(), torch.randn(1, 3, 64, 48)
    expected, state = outputs(whole, image), whole.state_dict()
    counted = whole.stitch_params()
    for stitch in whole.space:
        small = build(stitches=[stitch.id])
        small.load_state_dict({name: state[name] for name in small.state_dict()})
        assert small.stitch == stitch
        assert sum(p.numel() for p in small.parameters()) == counted[stitch.id]
        assert small.stitch_macs((64, 48)) == {stitch.id: whole.stitch_macs((64, 48))[stitch.id]}
        for ours, theirs in zip(small(image), expected[stitch.id], strict=True):
            assert torch.equal(ours, theirs)


def test_every_layer_of_a_backbone_is_used(build):
    backbone = build()
    parts = backbone.space.parts(backbone.space, backbone.out_indices, backbone.train_levels)
    assert parts.layers == set(backbone.layer_keys)


def test_several_stitches_train_in_one_step_on_their_parts_of_the_batch(build):
    backbone, images = build().train(), torch.randn(5, 3, 64, 64)
    backbone.set_training_stitches([0, 4])
    levels = backbone(images)
    for stitch, part in ((0, slice(0, 3)), (4, slice(3, 5))):
        with backbone.use_stitch(stitch):
            alone = backbone(images[part])
        for ours, expected in zip(levels, alone, strict=True):
            torch.testing.assert_close(ours[part], expected)


def test_levels_of_zeros_look_like_real_ones(build):
    backbone = build()
    real = backbone(torch.randn(1, 3, 50, 70))
    shapes = tree_map(lambda level: tuple(level.shape), (real, backbone.zero_levels((50, 70))))
    assert shapes[0] == shapes[1]
    assert all(not level.any() for level in backbone.zero_levels((50, 70)))
    assert all(level.is_meta for level in backbone.zero_levels((50, 70), "meta"))


def test_frozen_anchors_leave_layers_and_norms_to_train(build):
    backbone = build(freeze_anchors=True).train()
    assert not backbone.anchors.training
    trained = {name.split(".")[0] for name, p in backbone.named_parameters() if p.requires_grad}
    assert trained == {"stitching_layers"} | ({"norms"} if hasattr(backbone, "norms") else set())
