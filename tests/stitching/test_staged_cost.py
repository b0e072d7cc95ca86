"""The closed form of hierarchical anchors against SN-Net's 41 published costs of Swin-Ti/S/B."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mmsn.stitching import CostModel, StagedCost, StitchSpace, WindowBlockCost

PUBLISHED = Path(__file__).parents[1] / "data" / "snnet_v1.json"
DEPTHS = ((2, 2, 6, 2), (2, 2, 18, 2), (2, 2, 18, 2))
WIDTHS = (96, 96, 128)
CLASSES = 1000


def swin(width, depths, window=7):
    """Swin of this width: patch 4, windows of 7, heads of 32, an MLP ratio of 4."""
    stages = []
    for stage, depth in enumerate(depths):
        dim = width * 2**stage
        block = WindowBlockCost(
            attention_linear=4 * dim * dim,
            mlp_linear=8 * dim * dim,
            norm=2 * dim,
            params=12 * dim * dim + 9 * dim + 4 * dim + (2 * window - 1) ** 2 * dim // 32,
            attention_dim=dim,
            window=(window, window),
            shifted=False,
        )
        first = block
        if stage:  # four tokens of half the width become one of 4 * dim / 2 channels
            linear = 2 * dim * dim
            first = replace(
                block, merge_linear=linear, merge_norm=2 * dim, merge_params=linear + 4 * dim
            )
        stages.append((first, *(block,) * (depth - 1)))
    return StagedCost(
        patch_size=(4, 4),
        embed_linear=48 * width,
        embed_norm=width,
        embed_params=48 * width + width + 2 * width,
        dims=tuple(width * 2**stage for stage in range(len(depths))),
        stages=tuple(stages),
    )


def cost_model(**options):
    anchors = tuple(swin(width, depths) for width, depths in zip(WIDTHS, DEPTHS, strict=True))
    return CostModel(StitchSpace.one_way(DEPTHS), anchors, 0, (1, 3, 21, 23), **options)


def test_sn_nets_41_published_costs_to_the_last_digit():
    """MACs and parameters at 224x224, classifier included.

    Of joined stitches, the published parameters lack the mergings before the stage of the join.
    """
    model = cost_model()
    for row in json.loads(PUBLISHED.read_text())["swin_ti_s_b"]:
        stitch, dim = model.space[row["id"]], 8 * WIDTHS[row["anchors"][-1]]
        classifier = 5 * 49 * dim + CLASSES * dim  # the norm of all tokens, the linear layer
        assert model.chain_macs(stitch, (224, 224)) + classifier == row["macs"], stitch
        params = model.chain_params(stitch) + 2 * dim + CLASSES * dim + CLASSES
        if row["joins"]:
            first = model.anchors[row["anchors"][0]]
            before = first.stages[: first.stage_of(stitch.segments[0].stop - 1) + 1]
            params -= sum(block.merge_params for stage in before for block in stage)
        assert params == row["params"], stitch


@pytest.mark.parametrize(("side", "grids"), [(224, (56, 28, 14, 7)), (250, (63, 32, 16, 8))])
def test_grids_halve_and_round_up(side, grids):
    cost = swin(96, DEPTHS[0])
    assert cost.grid_after(-1, (side, 64)) == (grids[0], 16)
    assert [cost.grid_after(end, (side, side))[0] for end in (1, 3, 9, 11)] == list(grids)
    with pytest.raises(IndexError):
        cost.grid_after(12, (side, side))


def test_padding_costs_in_attention_alone():
    block = WindowBlockCost(3, 5, 7, 0, 11, window=(4, 2), shifted=True)
    whole = 8 * 4 * 3 + 2 * 4 * 8 * 8 * 11  # 4 windows of 8 tokens, for 5 x 3 tokens
    assert block.macs((5, 3)) == whole + 15 * (5 + 5 * 7)


def test_levels_are_normed_at_the_last_anchors_width():
    plain, normed = cost_model(), cost_model(level_norms=True)
    stitch, size = plain.space[0], (64, 96)
    tokens = (16 * 24, 8 * 12, 4 * 6, 2 * 3)
    for levels in ((0, 1, 2, 3), (1, 3)):
        extra = normed.macs(stitch, size, levels) - plain.macs(stitch, size, levels)
        assert extra == sum(5 * tokens[level] * 128 * 2**level for level in levels)
        extra = normed.params(stitch, levels) - plain.params(stitch, levels)
        assert extra == sum(2 * 128 * 2**level for level in levels)
    # Each level of the smallest anchor passes two layers, 96 to 96 and 96 to 128, times 2**level.
    layers = sum((96 * 96 + 96 * 128) * 4**level * tokens[level] for level in range(4))
    assert plain.breakdown(stitch, size, range(4))["stitching"] == layers
