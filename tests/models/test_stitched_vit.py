"""The stitched backbone of plain ViTs: what a stitch computes and counts, and what is refused.

What it shares with other kinds of anchors is tested in test_backbone.py.
"""

import pytest
import timm
import torch
from fvcore.nn import FlopCountAnalysis

from mmsn.errors import UserError
from mmsn.models import StitchedViT
from mmsn.stitching.stitch import Join, Run, Tap
from tests.tiny import tiny_anchor, tiny_eva

REGISTERS = tiny_anchor(24, 8) | dict(model_name="vit_small_patch14_reg4_dinov2")


def by_hand(backbone, image, stitch, levels):
    """Every segment and layer written out, without sharing anything."""
    maps = {}
    for level in levels:
        tokens, grid = backbone.anchors[stitch.segments[0].anchor].embed(image)
        for step in backbone.space.route(stitch, backbone.out_indices, (level,)):
            if isinstance(step, Run):
                for block in backbone.anchors[step.anchor].vit.blocks[step.start : step.stop]:
                    tokens = block(tokens)
            elif isinstance(step, Join):
                tokens = backbone.layer(step.key)(tokens)
            elif isinstance(step, Tap):
                for key in step.path:
                    tokens = backbone.layer(key)(tokens)
        patches = tokens[:, backbone.anchors[0].prefix_tokens :]
        maps[level] = patches.reshape(len(image), *grid, -1).permute(0, 3, 1, 2)
    return maps


@pytest.mark.parametrize("size", [(64, 64), (32, 80), (50, 70)], ids=str)
@torch.no_grad()
def test_every_stitch_runs_at_any_size_and_gives_its_levels(build, size):
    backbone, image = build(), torch.randn(2, 3, *size)
    for stitch in backbone.space:
        with backbone.use_stitch(stitch.id):
            maps = backbone(image)
        expected = by_hand(backbone, image, stitch, range(4))
        for level in range(4):
            assert maps[level].shape == (2, 24, -(-size[0] // 16), -(-size[1] // 16))
            torch.testing.assert_close(maps[level], expected[level])


@pytest.mark.parametrize("depths", [(4, 4), (4, 8)])
@torch.no_grad()
def test_a_layer_of_sn_net_runs_on_other_tokens_for_a_level_than_for_a_join(build, depths):
    """A window's layer serves a level after its first block and a join after its second."""
    widths = (16, 24)  # layer scales of 1, or nobody would see which blocks ran
    anchors = [tiny_anchor(w, d, init_values=1.0) for w, d in zip(widths, depths, strict=True)]
    levels = tuple(range(depths[1]))
    backbone = build(anchors, space="one_way", rank=0, out_indices=levels)
    image = torch.randn(2, 3, 64, 64)
    for stitch in backbone.space:
        with backbone.use_stitch(stitch.id):
            maps = backbone(image)
        expected = by_hand(backbone, image, stitch, levels)
        for level in levels:
            torch.testing.assert_close(maps[level], expected[level])


@pytest.mark.parametrize("options", [{}, dict(eval_levels=(3,)), dict(rank=0, eval_levels=(0, 2))])
def test_closed_form_macs_equal_an_independent_count(build, options, monkeypatch):
    # Counters do not see fused attention.
    for anchor in (backbone := build(**options)).anchors:
        for block in anchor.vit.blocks:
            block.attn.fused_attn = False
    macs = backbone.stitch_macs((64, 96))
    for stitch in backbone.space:
        with backbone.use_stitch(stitch.id):
            counter = FlopCountAnalysis(_Counted(backbone), torch.randn(1, 3, 64, 96))
            counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
            assert macs[stitch.id] == pytest.approx(counter.total(), rel=1e-3)


def test_closed_form_macs_of_real_anchors_equal_an_independent_count(build):
    anchors = [dict(model_name=f"deit_{size}_patch16_224") for size in ("tiny", "small")]
    backbone = build(anchors, img_size=224, out_indices=(2, 5, 8, 11), rank=16, eval_levels=(3,))
    for anchor in backbone.anchors:
        for block in anchor.vit.blocks:
            block.attn.fused_attn = False
    macs = backbone.stitch_macs((224, 224))
    for stitch in (0, 1, 6, 20, 60, 110):
        with backbone.use_stitch(stitch):
            counter = FlopCountAnalysis(_Counted(backbone), torch.randn(1, 3, 224, 224))
            counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
            assert macs[stitch] == pytest.approx(counter.total(), rel=1e-3)


class _Counted(torch.nn.Module):
    """fvcore drops what no output needs, so levels that are None are left out of the trace."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, image):
        return tuple(level for level in self.backbone(image) if level is not None)


def test_a_single_anchor_is_a_plain_vit(build):
    backbone = build([tiny_anchor(24, 8)], eval_levels=None)
    assert len(backbone.space) == 1
    assert not backbone.stitching_layers
    image = torch.randn(1, 3, 64, 64)
    vit = backbone.anchors[0].vit
    expected = vit.forward_intermediates(image, indices=[1, 3, 5, 7], intermediates_only=True)
    for ours, theirs in zip(backbone(image), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_a_chain_of_three_runs_every_stitch_at_the_last_width(build):
    backbone = build([tiny_anchor(16, 2), tiny_anchor(24, 4), tiny_anchor(32, 4)],
                     out_indices=(0, 1, 2, 3))  # fmt: skip
    image = torch.randn(1, 3, 48, 48)
    assert [stitch.kind for stitch in backbone.space][:3] == ["anchor"] * 3
    for stitch in backbone.space:
        with backbone.use_stitch(stitch.id):
            maps = backbone(image)
        for level, expected in by_hand(backbone, image, stitch, range(4)).items():
            assert maps[level].shape == (1, 32, 3, 3)
            torch.testing.assert_close(maps[level], expected)


@torch.no_grad()
@pytest.mark.parametrize("anchor", [tiny_anchor, tiny_eva])
def test_the_class_token_of_each_level_comes_along(build, anchor):
    anchors = [anchor(16, 4), anchor(24, 8)]
    backbone, image = build(anchors, output_cls_token=True), torch.randn(2, 3, 64, 48)
    reference = build(anchors)
    reference.load_state_dict(backbone.state_dict())
    for stitch in backbone.space:
        with backbone.use_stitch(stitch.id), reference.use_stitch(stitch.id):
            levels, maps = backbone(image), reference(image)
        assert all(torch.equal(level[0], m) for level, m in zip(levels, maps, strict=True))
        assert all(level[1].shape == (2, 24) for level in levels)
    with backbone.use_stitch(1):  # the large anchor alone: what timm gives
        expected = backbone.anchor(1).vit.forward_intermediates(
            image, indices=[7], return_prefix_tokens=True, intermediates_only=True
        )
        torch.testing.assert_close(backbone(image)[3][1], expected[0][1][:, 0])


def test_levels_of_zeros_look_like_real_ones(build):
    for options in (dict(), dict(output_cls_token=True)):
        backbone = build(**options)
        real = backbone(torch.randn(1, 3, 50, 70))
        zero = backbone.zero_levels((50, 70))
        shapes = [[t.shape for t in (x if isinstance(x, tuple) else (x,))] for x in (*real, *zero)]
        assert shapes[:4] == shapes[4:]


def test_a_class_token_that_no_anchor_has_is_refused(build):
    options = dict(class_token=False, global_pool="avg")
    anchors = [tiny_anchor(16, 4, **options), tiny_anchor(24, 8, **options)]
    with pytest.raises(UserError, match="has no class token"):
        build(anchors, output_cls_token=True)


def test_what_trains(build):
    frozen = {n for n, p in build().named_parameters() if not p.requires_grad}
    assert frozen == {f"stitching_layers.{k}.weight" for k in build().stitching_layers}
    backbone = build(freeze_anchors=True).train()
    assert not backbone.anchors.training
    assert backbone.stitching_layers.training
    assert {n.split(".")[0] for n, p in backbone.named_parameters() if p.requires_grad} == {
        "stitching_layers"
    }


def test_state_dict_names_are_pinned(build):
    names = set(build().state_dict())
    assert {"anchors.0.vit.cls_token", "anchors.1.vit.blocks.7.ls2.gamma"} <= names
    layers = {name.split(".")[1] for name in names if name.startswith("stitching_layers")}
    assert layers == {f"0_to_1_after_{i}" for i in range(4)} | {
        f"1_to_0_after_{i}" for i in range(3)
    }
    assert not any(".norm.weight" in n and ".blocks." not in n for n in names)


@pytest.mark.parametrize(
    ("anchors", "options", "message"),
    [
        ([tiny_anchor(16, 4), tiny_anchor(24, 6)], {}, "depths 4 and 6 cannot be stitched"),
        ([tiny_anchor(24, 8), tiny_anchor(16, 8)], {}, "list anchors from smallest to largest"),
        ([tiny_anchor(16, 4), tiny_anchor(24, 8, patch_size=8)], {}, "cannot exchange tokens"),
        (
            [tiny_anchor(16, 4), REGISTERS],
            {},
            r"class_tokens 1, register_tokens 0.*class_tokens 1, register_tokens 4",
        ),
        ([], {}, "anchors is empty"),
        (None, dict(out_indices=(1, 8)), r"out_indices \(1, 8\) .* 0..7"),
        (None, dict(eval_levels=(4,)), r"eval_levels \(4,\) .* 0..3"),
        (None, dict(eval_levels=()), r"eval_levels \(\)"),
        (None, dict(space="three_way"), "'three_way' is unknown"),
        (None, dict(rank=17), "rank 17"),
        (None, dict(img_size=(64, 64, 3)), r"img_size \(64, 64, 3\) is not allowed"),
        (None, dict(pretrained="x.pth"), "set pretrained=None"),
        ([dict(depth=4)], {}, "give a dict with model_name"),
        (["deit"], {}, "give a dict with model_name"),
        ([tiny_anchor(16, 4, img_size=32)], {}, "img_size and with_cp to the backbone"),
    ],
)  # fmt: skip
def test_bad_settings_are_refused_in_one_line(anchors, options, message):
    anchors = [tiny_anchor(16, 4), tiny_anchor(24, 8)] if anchors is None else anchors
    options = dict(img_size=64, out_indices=(1, 3, 5, 7), rank=2) | options
    with pytest.raises(UserError, match=message) as caught:
        StitchedViT(anchors, **options)
    assert "\n" not in str(caught.value)


def test_options_reach_layers_and_anchors(build):
    backbone = build(alpha=3.0, with_cp=True)
    assert {layer.scale for layer in backbone.stitching_layers.values()} == {3.0 / 2}
    assert all(anchor.with_cp for anchor in backbone.anchors)


def test_init_weights_fills_every_anchor_from_its_file(tmp_path):
    files = []
    for name, (dim, depth) in {"s": (16, 4), "l": (24, 8)}.items():
        options = tiny_anchor(dim, depth)
        vit = timm.create_model(options.pop("model_name"), img_size=64, **options)
        files.append(tmp_path / f"{name}.pth")
        torch.save({"model": vit.state_dict()}, files[-1])
    backbone = StitchedViT(
        [
            tiny_anchor(16, 4, checkpoint=str(files[0])),
            tiny_anchor(24, 8, checkpoint=str(files[1])),
        ],
        img_size=64,
        out_indices=(1, 3, 5, 7),
    )
    backbone.init_weights()
    assert torch.equal(
        backbone.anchors[1].vit.blocks[7].mlp.fc1.weight, vit.blocks[7].mlp.fc1.weight
    )
