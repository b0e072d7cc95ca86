"""A Swin as an anchor: timm's outputs block by block, at any size, from any file of the family."""

import pytest
import timm
import torch
from fvcore.nn import FlopCountAnalysis

from mmsn.errors import UserError
from mmsn.models import SwinAnchor
from tests.tiny import tiny_swin

DEPTHS = (2, 1, 3, 2)


def anchor(size=(64, 64), dim=8, depths=DEPTHS, **options):
    made = SwinAnchor(img_size=size, **tiny_swin(dim, depths), **options)
    for parameter in made.parameters():  # tables of positions start too small to be seen
        torch.nn.init.normal_(parameter, std=0.2)
    return made.eval()


@pytest.mark.parametrize("size", [(64, 64), (96, 64), (60, 100), (61, 35)], ids=str)
@torch.no_grad()
def test_ends_of_stages_are_timms_at_any_size(size):
    made, image = anchor(), torch.randn(2, 3, *size)
    assert made.stage_ends == (1, 2, 5, 7)
    expected = made.vit.forward_intermediates(image, intermediates_only=True)
    tokens, grid = made.embed(image)
    assert grid == tuple(-(-side // 4) for side in size)
    start = 0
    for end, level in zip(made.stage_ends, expected, strict=True):
        tokens = made.run(tokens, start, end + 1, grid)
        assert torch.equal(tokens.permute(0, 3, 1, 2), level)
        assert made.empty_tokens(image, end).shape == tokens.shape
        start = end + 1
    assert made.empty_tokens(image, -1).shape == made.embed(image)[0].shape


def test_grids_smaller_than_a_window_have_windows_of_their_size():
    made = anchor((64, 48))  # grids of 16x12, 8x6, 4x3 and 2x1 or 2x2
    windows = [made.cost().stages[stage][0].window for stage in range(4)]
    assert windows == [(4, 4), (4, 4), (4, 3), (2, 2)]
    assert [b.shifted for b in made.cost().blocks] == [False, True, *[False] * 6]


@pytest.mark.parametrize("size", [(64, 64), (50, 90), (16, 16)], ids=str)
def test_macs_equal_an_independent_count(size):
    made = anchor()

    class Whole(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.anchor = made

        def forward(self, image):
            tokens, grid = self.anchor.embed(image)
            return self.anchor.run(tokens, 0, 8, grid)

    cost = made.cost()
    counter = FlopCountAnalysis(Whole(), torch.randn(1, 3, *size))
    counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    macs = cost.embed_macs(size) + sum(cost.block_macs(block, size) for block in range(8))
    assert macs == counter.total()
    params = cost.embed_params + sum(map(cost.block_params, range(8)))
    assert params == sum(p.numel() for p in made.parameters())


def test_a_part_keeps_names_and_the_merging_of_its_first_blocks():
    made = anchor()
    state = set(made.state_dict())
    made.keep({2, 4}, embedding=False)  # the only block of stage 1, the second of stage 2
    left = set(made.state_dict())
    assert left < state
    assert {name.split(".")[2:5][0] for name in left} == {"1", "2"}
    assert {made.block_of(name) for name in left} == {2, 4}
    assert "vit.layers.1.downsample.reduction.weight" in left
    assert not any("layers.2.downsample" in name for name in left)
    assert not made.is_whole
    whole = anchor()
    assert {whole.block_of(name) for name in whole.state_dict()} == {None, *range(8)}


def test_weights_come_from_a_file_and_position_tables_are_resampled(tmp_path):
    options = tiny_swin(8, DEPTHS)
    vit = timm.create_model(options.pop("model_name"), img_size=128, **options)
    torch.save({"model": vit.state_dict()}, tmp_path / "swin.pth")
    made = anchor(checkpoint=str(tmp_path / "swin.pth"))
    made.init_weights()
    ours, theirs = made.vit.layers[2].blocks[1], vit.layers[2].blocks[1]
    assert torch.equal(ours.mlp.fc1.weight, theirs.mlp.fc1.weight)
    made.keep({4}, embedding=False)
    made.vit.layers[2].blocks[1].mlp.fc1.weight.data.zero_()
    made.init_weights()  # of a part: the same file
    assert torch.equal(made.vit.layers[2].blocks[1].mlp.fc1.weight, theirs.mlp.fc1.weight)
    small = anchor((32, 32), checkpoint=str(tmp_path / "swin.pth"))
    small.init_weights()
    table = small.vit.layers[2].blocks[0].attn.relative_position_bias_table
    assert table.shape == (9, 2)  # windows of 2x2 there


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: s | {"pos_embed": torch.ones(1, 4, 8)}, "pos_embed is unknown"),
        (lambda s: {k: v for k, v in s.items() if "patch_embed.norm" not in k}, "2 faults"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, change, reason):
    options = tiny_swin(8, DEPTHS)
    vit = timm.create_model(options.pop("model_name"), img_size=64, **options)
    torch.save(change(vit.state_dict()), tmp_path / "swin.pth")
    with pytest.raises(UserError, match=reason):
        anchor(checkpoint=str(tmp_path / "swin.pth")).init_weights()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("swinv2_tiny_window8_256", "is not a Swin of the kind that StitchedSwin takes"),
        ("vit_tiny_patch16_224", "is not a Swin of the kind"),
        ("swin_tin", "is not a timm model"),
    ],
)
def test_other_models_are_refused(name, message):
    with torch.device("meta"), pytest.raises(UserError, match=message):
        SwinAnchor(name, (64, 64))


def test_options_that_swin_lacks_are_refused():
    with pytest.raises(UserError, match="does not take these options as a timm Swin would"):
        anchor(class_token=True)
