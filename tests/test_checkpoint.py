"""The published code's numbers, through the converter: forward pass and initialization."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mmsn.checkpoint import convert_snnetv2
from mmsn.engine import solve_stitching_layers
from mmsn.errors import UserError
from mmsn.models import StitchedViT
from tests.models import reference_rules

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def golden():
    """Arrays of the golden file, by name."""
    with np.load(DATA / "golden_12_24.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files if name != "meta"}


@pytest.fixture(scope="module")
def official(golden):
    """The official state dict of the golden file."""
    return {k.removeprefix("state."): v for k, v in golden.items() if k.startswith("state.")}


def stitched(dims, heads, depths, grid, rank, out_indices, class_slot=False):
    name = "deit_small_patch16_224" if class_slot else "deit3_small_patch16_224"
    options = dict(init_values=1.0) if class_slot else {}
    anchors = [
        dict(
            model_name=name,
            embed_dim=d,
            num_heads=h,
            depth=n,
            patch_size=16,
            rel_pos_bias=True,
            **options,
        )
        for d, h, n in zip(dims, heads, depths, strict=True)
    ]
    size = (16 * grid[0], 16 * grid[1])
    return StitchedViT(anchors, img_size=size, out_indices=out_indices, rank=rank).eval()


@pytest.fixture(scope="module")
def backbone(official):
    """The golden backbone, converted."""
    model = stitched((24, 40), (2, 4), (12, 24), (4, 4), 4, (9, 14, 19, 23))
    model.load_state_dict(convert_snnetv2(official)[0], strict=True)
    return model


@torch.no_grad()
def test_all_134_stitches_equal_the_published_code(backbone, golden):
    image = golden["input.0"]
    worst = 0.0
    for stitch in backbone.space:
        with backbone.use_stitch(stitch.id):
            maps = backbone(image)
        for level in range(4):
            expected = golden[f"output.0.stitch{stitch.id}.level{level}"]
            worst = max(worst, (maps[level] - expected).abs().max().item())
    print(f"largest difference over 134 stitches and 4 levels: {worst:.2e}")
    assert worst < 1e-4


def test_all_23_least_squares_solutions_equal_the_published_code(official, golden):
    model = stitched((24, 40), (2, 4), (12, 24), (4, 4), 4, (9, 14, 19, 23))
    model.load_state_dict(convert_snnetv2(official)[0])
    solutions = solve_stitching_layers(model, golden["init_input"].split(5))
    assert len(solutions) == 23
    worst = 0.0
    for key in solutions:
        for name in ("weight", "bias"):
            expected = golden[f"init.{key.source}.{key.unit}.transform.{name}"]
            found = getattr(model.layer(key), name)
            worst = max(worst, ((found - expected).norm() / expected.norm()).item())
    print(f"largest relative difference over 23 layers: {worst:.2e}")
    assert worst < 1e-3


@torch.no_grad()
def test_the_rules_as_written_here_are_those_of_the_published_code(official, golden):
    configs = json.loads((DATA / "stitches_12_24.json").read_text())["configs"]
    for stitch_id in (0, 1, 2, 12, 14, 24, 25, 79, 80, 94, 134):
        levels = reference_rules.run_stitch(
            official,
            configs[str(stitch_id)],
            (9, 14, 19, 23),
            (12, 24),
            (2, 4),
            (4, 4),
            4,
            golden["input.0"],
        )
        for level, found in enumerate(levels):
            expected = golden[f"output.0.stitch{stitch_id}.level{level}"]
            torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("depths", "class_slot", "grid", "out_indices"),
    [
        ((12, 12), False, (3, 3), (4, 7, 9, 11)),
        ((12, 12), True, (4, 4), (2, 5, 8, 11)),
        ((12, 24), True, (3, 5), (4, 11, 17, 23)),
        ((12, 24), False, (2, 6), (9, 14, 19, 23)),
        ((6, 12), False, (2, 3), (2, 5, 8, 11)),
    ],
    ids=str,
)
@torch.no_grad()
def test_other_settings_follow_the_same_rules(depths, class_slot, grid, out_indices):
    dims, heads, rank = (8, 12), (2, 3), 2
    state = reference_rules.random_state(depths, dims, heads, grid, rank, class_slot)
    model = stitched(dims, heads, depths, grid, rank, out_indices, class_slot)
    model.load_state_dict(convert_snnetv2(state)[0], strict=True)
    image = torch.randn(1, 3, 16 * grid[0], 16 * grid[1])
    for stitch in model.space:
        segments = stitch.segments
        config = dict(
            comb=[s.anchor for s in segments],
            route=[[s.start, s.stop - 1] for s in segments],
            layers=[key.unit for key in model.space.joins(stitch)],
        )
        expected = reference_rules.run_stitch(
            state, config, out_indices, depths, heads, grid, rank, image, class_slot
        )
        with model.use_stitch(stitch.id):
            for found, level in zip(model(image), expected, strict=True):
                torch.testing.assert_close(found, level, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_converted_model_runs_at_other_sizes(backbone):
    for size in ((64, 96), (80, 48), (50, 70)):
        for stitch in (0, 1, 25, 80):
            with backbone.use_stitch(stitch):
                maps = backbone(torch.randn(1, 3, *size))
            assert all(torch.isfinite(level).all() for level in maps)


def test_a_whole_segmentor_converts_and_every_key_is_reported(official):
    state = {f"backbone.{k}": v for k, v in official.items()}
    heads = {
        "decode_head.conv_seg.weight": torch.ones(2),
        "decode_head.up_convs.0.0.bn.running_mean": torch.ones(2),
        "auxiliary_head.2.up_convs.1.0.conv.weight": torch.ones(2),
        "auxiliary_head.0.norm.bias": torch.ones(2),
    }
    converted, reports = convert_snnetv2(state | heads)
    assert heads.keys() <= converted.keys()
    sources = {r.source for r in reports if r.source}
    assert sources == (state | heads).keys()
    assert {r.target for r in reports if r.target} == converted.keys()
    assert sum(r.action == "dropped" for r in reports) == 36
    assert sum(r.action == "derived" for r in reports) == 23


def test_unknown_keys_and_foreign_indices_are_all_listed(official):
    index = "anchors.0.layers.3.attn.relative_position_index"
    bad = official | {"anchors.0.norm.weight": torch.ones(1), index: official[index].flip(0)}
    with pytest.raises(UserError, match="2 keys are not those") as caught:
        convert_snnetv2(bad)
    assert "anchors.0.norm.weight" in str(caught.value)
    assert index in str(caught.value)


@pytest.mark.parametrize("name", ["relative_position_index", "relative_position_bias_table"])
@pytest.mark.parametrize("value", [torch.tensor(5), torch.tensor([5]), torch.zeros(0)], ids=str)
def test_an_index_or_table_of_another_shape_is_refused_by_name(official, name, value):
    key = f"anchors.0.layers.3.attn.{name}"
    with pytest.raises(
        UserError, match=r"layers\.3\.attn\.relative_position_index \(not the index"
    ):
        convert_snnetv2(official | {key: value})


def test_an_incomplete_file_says_which_layers_are_missing(official):
    down = {k: v for k, v in official.items() if "stitch_layers.1.3." not in k}
    with pytest.raises(UserError, match=r"1 stitching layers are missing: .*1_to_0_after_3"):
        convert_snnetv2(down)
    index = "anchors.0.layers.3.attn.relative_position_bias_table"
    with pytest.raises(UserError, match="not the index of its table"):
        convert_snnetv2({k: v for k, v in official.items() if k != index})
