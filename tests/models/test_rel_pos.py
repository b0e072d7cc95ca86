"""Relative position bias: its index, its resampling, and that attention stays fused."""

import pytest
import torch

from mmsn.errors import UserError
from mmsn.models import Anchor, rel_pos
from tests.models.reference_rules import position_index
from tests.tiny import tiny_anchor


@pytest.mark.parametrize("grid", [(1, 1), (4, 4), (3, 5), (6, 2)])
def test_the_index_is_beits(grid):
    index = rel_pos.relative_position_index(grid)
    assert torch.equal(index, position_index(grid))
    assert index.max() + 1 == rel_pos.num_relative_positions(grid)


def test_resampling_keeps_what_a_grid_of_another_size_must_keep():
    y = torch.arange(-3.0, 4)
    table = torch.cat([(y[:, None] + 10 * y[None]).reshape(-1, 1), torch.tensor([[7.0], [8], [9]])])
    larger = rel_pos.resize_table(table, (4, 4), (7, 10))
    offsets = larger[:-3, 0].reshape(13, 19)
    assert offsets[6, 9] == pytest.approx(0, abs=1e-5)  # no offset
    assert offsets[0, 0] == pytest.approx(-33)  # the farthest offset
    assert offsets[12, 18] == pytest.approx(33)
    assert torch.equal(larger[-3:], table[-3:])
    same = rel_pos.resize_table(table, (4, 4), (4, 4))
    torch.testing.assert_close(same, table, atol=1e-5, rtol=1e-5)


def anchor(**options):
    return Anchor(img_size=(64, 64), **tiny_anchor(16, 2, **options)).eval()


def test_it_is_off_by_default_and_changes_nothing_while_zero():
    plain, biased = anchor(), anchor(rel_pos_bias=True)
    assert plain.rel_pos is None
    biased.vit.load_state_dict(plain.vit.state_dict())
    tokens, grid = plain.embed(torch.randn(1, 3, 64, 80))
    torch.testing.assert_close(plain.run(tokens, 0, 2, grid), biased.run(tokens, 0, 2, grid))


def test_attention_stays_fused_and_the_index_is_made_once_per_grid(monkeypatch):
    biased, calls = anchor(rel_pos_bias=True), []
    fused = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda *a, **k: calls.append(k["attn_mask"].shape) or fused(*a, **k),
    )
    made, make = [], rel_pos.relative_position_index
    monkeypatch.setattr(
        rel_pos, "relative_position_index", lambda grid: made.append(grid) or make(grid)
    )
    for size in ((64, 64), (64, 96), (64, 64)):
        tokens, grid = biased.embed(torch.randn(2, 3, *size))
        biased.run(tokens, 0, 2, grid)
    assert made == [(4, 4), (4, 6)]
    assert calls == [(1, 2, 17, 17)] * 2 + [(1, 2, 25, 25)] * 2 + [(1, 2, 17, 17)] * 2


@pytest.mark.parametrize("with_cp", [False, True])
def test_tables_train_and_count_as_parameters(with_cp):
    biased = anchor(rel_pos_bias=True, with_cp=with_cp).train()
    tokens, grid = biased.embed(torch.randn(1, 3, 64, 96))
    biased.run(tokens, 0, 2, grid).square().sum().backward()
    assert all(table.grad.abs().sum() > 0 for table in biased.rel_pos.tables.values())
    plain = anchor()
    assert biased.cost().blocks[0].params - plain.cost().blocks[0].params == (7 * 7 + 3) * 2


def test_registers_are_refused():
    with pytest.raises(UserError, match="4 register tokens, but rel_pos_bias needs"):
        Anchor("vit_small_patch14_reg4_dinov2", (56, 56), rel_pos_bias=True, depth=1)


@pytest.mark.parametrize("old", [(4, 4), (3, 6)])
@pytest.mark.parametrize("new", [(1, 5), (5, 1), (1, 1), (2, 7)])
def test_no_offset_stays_no_offset_on_any_grid(old, new):
    y, x = torch.arange(1.0 - old[0], old[0]), torch.arange(1.0 - old[1], old[1])
    table = torch.cat([(100 * y[:, None] + x[None]).reshape(-1, 1), torch.zeros(3, 1)])
    offsets = rel_pos.resize_table(table, old, new)[:-3, 0].reshape(2 * new[0] - 1, -1)
    assert offsets[new[0] - 1, new[1] - 1] == pytest.approx(0, abs=1e-3)
    if new[0] > 1:
        assert offsets[0, new[1] - 1] == pytest.approx(100 * (1 - old[0]), rel=1e-3)
    if new[1] > 1:
        assert offsets[new[0] - 1, 0] == pytest.approx(1 - old[1], rel=1e-3, abs=1e-3)


def test_a_pass_under_inference_mode_does_not_hinder_training():
    biased = anchor(rel_pos_bias=True)
    with torch.inference_mode():
        tokens, grid = biased.embed(torch.randn(1, 3, 64, 64))
        biased.run(tokens, 0, 2, grid)
    tokens, grid = biased.train().embed(torch.randn(1, 3, 64, 64))
    biased.run(tokens, 0, 2, grid).sum().backward()
