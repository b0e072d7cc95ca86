"""The figures of docs/anchors.md are those of the cost model, its licenses timm's."""

import re

import pytest
import timm
import torch

from mmsn.models import Anchor
from mmsn.stitching import CostModel, StitchSpace
from tests.conftest import ROOT

ROWS = [
    [cell.strip(" `") for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs/anchors.md").read_text().splitlines()
    if line.startswith("| ")
]
FAMILIES = [row for row in ROWS if timm.is_model(row[0])]
PAIRS = [row for row in ROWS if re.fullmatch(r"(small|base)\w*(, \w+)+", row[0]) and len(row) == 6]


def cost_of(name):
    with torch.device("meta"):
        return Anchor(name, (512, 512))


@pytest.mark.parametrize("row", FAMILIES, ids=lambda row: row[0])
def test_a_family_is_as_told(row):
    name, depth, width, prefix, patch, params, gflops, license_name = row
    anchor = cost_of(name)
    cost, layout = anchor.cost(), anchor.token_layout
    assert [anchor.depth, anchor.dim] == [int(depth), int(width)]
    assert f"{layout.class_tokens} + {layout.register_tokens}" == prefix
    assert layout.patch_size == (int(patch), int(patch))
    assert f"{cost.params / 1e6:.1f}" == params
    tokens = cost.tokens((512, 512))
    macs = cost.embed_macs((512, 512)) + sum(block.macs(tokens) for block in cost.blocks)
    assert f"{macs / 1e9:.1f}" == gflops
    assert timm.get_pretrained_cfg(name).license == license_name


@pytest.mark.parametrize("row", PAIRS, ids=lambda row: row[0])
def test_costs_of_a_pair_are_as_told(row):
    sizes, count, at_512, at_896, params, supernet = row
    anchors = [cost_of(f"vit_{size}_patch16_dinov3") for size in sizes.split(", ")]
    space = StitchSpace.two_way([anchor.depth for anchor in anchors])
    out_indices = (2, 5, 8, 11) if anchors[-1].depth == 12 else (5, 11, 17, 23)
    costs = tuple(anchor.cost() for anchor in anchors)
    model = CostModel(space, costs, 4 if sizes == "base, large" else 16, out_indices)
    assert len(space) == int(count)
    for side, told in ((512, at_512), (896, at_896)):
        macs = [model.macs(stitch, (side, side), range(4)) / 1e9 for stitch in space]
        assert f"{min(macs):.1f} - {max(macs):.1f}" == told
    ends = [model.params(space[i], range(4)) / 1e6 for i in (0, len(anchors) - 1)]
    assert f"{ends[0]:.1f} - {ends[1]:.1f}" == params
    layers = sum(
        (a := costs[key.source].dim) * (b := costs[key.target].dim) + model.rank * (a + b) + b
        for key in space.layer_keys
    )
    assert f"{(layers + sum(cost.params for cost in costs)) / 1e6:.1f}" == supernet


def test_all_tables_are_found():
    assert (len(FAMILIES), len(PAIRS)) == (18, 5)
