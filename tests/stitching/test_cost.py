"""The closed form against every published number: segmentation, classification and depth."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mmsn.stitching import AnchorCost, BlockCost, CostModel, StitchSpace

DATA = Path(__file__).parents[1] / "data"
ADE20K_HEAD = 920_125_440
SMALL, BASE, LARGE = 384, 768, 1024


def plain_vit(dim):
    """DeiT-3 of this width: patch 16, MLP ratio 4, LayerScale, position embedding of 32x32."""
    block = BlockCost(
        linear=12 * dim * dim,
        norm=2 * dim,
        params=12 * dim * dim + 9 * dim + 4 * dim + 2 * dim,
        attention_dim=dim,
    )
    return AnchorCost(
        dim=dim,
        patch_size=(16, 16),
        prefix_tokens=1,
        embed_linear=768 * dim,
        embed_norm=0,
        embed_params=768 * dim + dim + dim + 1024 * dim,
        blocks=(block,) * (24 if dim == LARGE else 12),
    )


def deit(dim):
    """DeiT of this width: as DeiT-3 without LayerScale, position embedding of 14x14 and class."""
    wide = plain_vit(dim)
    block = replace(wide.blocks[0], params=12 * dim * dim + 9 * dim + 4 * dim)
    return replace(wide, embed_params=768 * dim + dim + dim + 197 * dim, blocks=(block,) * 12)


def cost_model(small, large, out_indices=(9, 14, 19, 23), rank=0):
    space = StitchSpace.two_way((12, 24) if large == LARGE else (12, 12))
    return CostModel(space, (plain_vit(small), plain_vit(large)), rank, out_indices)


def test_all_134_published_segmentor_flops_to_the_last_digit():
    published = json.loads((DATA / "flops_ade20k_deit3_s_l.json").read_text())
    model = cost_model(SMALL, LARGE)
    for stitch in model.space:
        # Level 0 survives their trace because its shape is read; 1 and 2 do not.
        macs = model.published_macs(stitch, (512, 512), (0, 3)) + ADE20K_HEAD
        assert macs == published[str(stitch.id)], stitch
        executed = model.macs(stitch, (512, 512), (3,)) + ADE20K_HEAD
        assert 0 <= macs - executed <= 2 * 1025 * SMALL * LARGE  # layers that need not run


@pytest.mark.parametrize(
    ("small", "ids_gflops"),
    [
        (SMALL, {0: 208.876, 1: 602.608}),
        (BASE, {0: 300.972, 1: 602.608}),
    ],
)
def test_published_depth_flops_at_480x640(small, ids_gflops):
    model = cost_model(small, LARGE, out_indices=(4, 11, 17, 23))
    for stitch_id, gflops in ids_gflops.items():
        macs = model.published_macs(model.space[stitch_id], (480, 640), range(4))
        assert macs / 1e9 + 167.78281 == pytest.approx(gflops, abs=6e-4)


@pytest.mark.parametrize(("stitch_id", "gflops"), [(0, 4.61), (1, 61.60), (14, 9.52), (2, 56.84)])
def test_published_classification_flops_at_224(stitch_id, gflops):
    model = cost_model(SMALL, LARGE, out_indices=(23,))
    stitch = model.space[stitch_id]
    tokens, dim = 197, model.anchors[stitch.segments[-1].anchor].dim
    parts = model.breakdown(stitch, (224, 224), (0,))
    joins = len(model.space.joins(stitch)) * tokens * SMALL * LARGE
    head = 5 * tokens * dim + 1000 * dim
    assert (parts["embed"] + parts["blocks"] + joins + head) / 1e9 == pytest.approx(
        gflops, abs=6e-3
    )


def test_sn_nets_71_published_costs_to_the_last_digit():
    """MACs and parameters of DeiT-Ti/S/B at 224x224, classifier included.

    Of joined stitches, the published counts lack what the published code leaves out: the final
    norm in MACs, because timm's ``forward_head`` does not run it, and class token and position
    embedding in parameters.
    """
    published = json.loads((DATA / "snnet_v1.json").read_text())["deit_ti_s_b"]
    widths, tokens, classes = (192, SMALL, BASE), 197, 1000
    space = StitchSpace.one_way((12, 12, 12))
    model = CostModel(space, tuple(deit(width) for width in widths), 0, (11,))
    for row in published:
        stitch, dim = space[row["id"]], widths[row["anchors"][-1]]
        classifier = classes * dim + (0 if row["joins"] else 5 * tokens * dim)
        assert model.chain_macs(stitch, (224, 224)) + classifier == row["macs"], stitch
        params = model.chain_params(stitch) + 2 * dim + classes * dim + classes
        if row["joins"]:
            params -= (1 + tokens) * widths[row["anchors"][0]]
        assert params == row["params"], stitch


def test_executed_macs_count_each_layer_once_and_only_levels_that_are_read():
    model = cost_model(SMALL, LARGE)
    layer = 1025 * SMALL * LARGE
    small, stitch = model.space[0], model.space[12]  # 12 joins after unit 10, no level there
    assert model.breakdown(small, (512, 512), range(4))["stitching"] == 4 * layer
    assert model.breakdown(small, (512, 512), (3,))["stitching"] == layer
    assert model.breakdown(stitch, (512, 512), range(4))["stitching"] == 4 * layer
    at_level = model.space[11]  # joins after unit 9, where level 2 is: one layer serves both
    assert model.breakdown(at_level, (512, 512), range(4))["stitching"] == 3 * layer


def test_the_low_rank_update_is_counted():
    with_update, without = cost_model(SMALL, LARGE, rank=16), cost_model(SMALL, LARGE)
    stitch = with_update.space[2]
    extra = with_update.macs(stitch, (512, 512), (3,)) - without.macs(stitch, (512, 512), (3,))
    assert extra == 1025 * 16 * (SMALL + LARGE)
    extra = with_update.params(stitch, (3,)) - without.params(stitch, (3,))
    assert extra == 16 * (SMALL + LARGE)


def test_parameters_of_the_anchors_are_those_of_the_networks_alone():
    model = cost_model(SMALL, LARGE)
    layer = SMALL * LARGE + LARGE
    assert model.params(model.space[0], (3,)) == plain_vit(SMALL).embed_params + layer + (
        12 * plain_vit(SMALL).blocks[0].params
    )
    assert model.params(model.space[1], (3,)) == 304_195_584


@pytest.mark.parametrize("size", [(1, 1), (512, 512), (500, 700)])
def test_sizes_that_are_no_multiple_of_the_patch_are_padded(size):
    rows, columns = -(-size[0] // 16), -(-size[1] // 16)
    assert plain_vit(SMALL).tokens(size) == rows * columns + 1
