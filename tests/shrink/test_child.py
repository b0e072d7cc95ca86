"""The shape of a child and the weights that it starts from."""

import pytest
import safetensors
import safetensors.torch
import torch

from mmsn import shrink
from mmsn.errors import UserError
from mmsn.shrink.child import pick_blocks
from tests.shrink.tiny import PARENT, SIZE


@pytest.mark.parametrize(
    ("asked", "blocks", "unit", "heads"),
    [
        (dict(depth=2), (0, 1), 2, 3),
        (dict(depth=2, blocks="every"), (0, 2), 2, 3),
        (dict(blocks=[1, 3]), (1, 3), 2, 3),
        (dict(width=16), (0, 1, 2, 3), 1, 2),
        (dict(width=18, heads=3, depth=1), (0,), 4, 3),
    ],
)
def test_plans_name_the_blocks_that_a_child_starts_from(parent, asked, blocks, unit, heads):
    plan = shrink.plan_child(parent, **asked)
    assert (plan.blocks, plan.unit, plan.heads) == (blocks, unit, heads)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (dict(depth=3), r"depth 3 does not divide the parent's 4: \[1, 2, 4\]"),
        (dict(depth=0), "depth 0 does not divide"),
        (dict(depth=2, blocks=[0, 4]), "blocks 0,4: give 2 numbers from 0 to 3"),
        (dict(depth=2, blocks=[0]), "blocks 0: give 2 numbers"),
        (dict(blocks="last"), "blocks 'last': give 'first', 'every'"),
        (dict(width=20), "width 20 is not a multiple of the parent's head width 8"),
        (dict(width=48), "width 48 must lie between 1 and the parent's 24"),
        (dict(width=16, heads=3), "width 16 cannot be divided into 3 heads"),
        (dict(width=18, heads=2), "2 heads of 9 channels cannot be cut from the parent's 3 of 8"),
        (dict(heads=2), "2 heads at the parent's width: it has 3"),
    ],
)
def test_children_that_do_not_fit_are_refused(parent, asked, reason):
    with pytest.raises(UserError, match=reason):
        shrink.plan_child(parent, **asked)


def test_a_cut_child_runs_the_chosen_blocks(parent):
    plan = shrink.plan_child(parent, blocks=[0, 3])
    child, basis = shrink.start_child(parent, plan, (64, 64), shrink.child_options(plan, PARENT))
    image = torch.randn(2, 3, *SIZE)
    tokens, grid = parent.embed(image)
    expected = parent.run(parent.run(tokens, 0, 1, grid), 3, 4, grid)
    assert basis is None
    assert torch.equal(child.run(*child.embed(image)[:1], 0, 2, grid), expected)


def test_a_random_start_shares_no_block_with_the_parent(parent):
    plan = shrink.plan_child(parent, 2)
    options = shrink.child_options(plan, PARENT)
    child, _ = shrink.start_child(parent, plan, (64, 64), options, start="random")
    own, other = child.vit.blocks[0].mlp.fc1.weight, parent.vit.blocks[0].mlp.fc1.weight
    assert (own - other).abs().mean() > 0.05


def test_a_child_may_start_from_a_file(parent, tmp_path):
    plan = shrink.plan_child(parent, 2)
    options = shrink.child_options(plan, PARENT)
    earlier, _ = shrink.start_child(parent, plan, (64, 64), options, start="random")
    file = tmp_path / "child.safetensors"
    safetensors.torch.save_file(earlier.vit.state_dict(), file)
    child, _ = shrink.start_child(parent, plan, (64, 64), options, start=str(file))
    for name, value in earlier.vit.state_dict().items():
        assert torch.equal(child.vit.state_dict()[name], value), name


def test_an_unknown_start_is_refused(parent):
    plan = shrink.plan_child(parent, 2)
    with pytest.raises(UserError, match="start 'parnet': choose one of parent, random, or an exi"):
        shrink.start_child(parent, plan, (64, 64), shrink.child_options(plan, PARENT), "parnet")


def test_pick_blocks_numbers_them_anew():
    state = {"pos_embed": 1, "blocks.1.w": 2, "blocks.10.w": 3, "blocks.0.w": 4}
    assert pick_blocks(state, [10, 1]) == {"pos_embed": 1, "blocks.0.w": 3, "blocks.1.w": 2}
