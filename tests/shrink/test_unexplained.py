"""The unexplained share of the parent's variance, against its definition."""

import math

import pytest
import torch

from mmsn import shrink
from mmsn.errors import UserError
from mmsn.shrink.child import unit_outputs
from tests.shrink.tiny import PARENT, unlabeled


def test_the_whole_parent_leaves_nothing_unexplained(parent, folder):
    plan = shrink.plan_child(parent)
    child, _ = shrink.start_child(parent, plan, (64, 64), PARENT)
    for error in shrink.measure(parent, child, plan, unlabeled(folder)):
        assert error.mapped == 0
        assert error.linear < 1e-6


def test_unexplained_shares_are_those_of_the_definition(parent, folder):
    plan = shrink.plan_child(parent, 2)
    child, _ = shrink.start_child(parent, plan, (64, 64), shrink.child_options(plan, PARENT))
    images = unlabeled(folder)
    errors = shrink.measure(parent, child, plan, images, batch_size=4)
    batch = images.batch(range(12))
    own = unit_outputs(child, batch, 1)[2].detach().reshape(-1, 24).double()
    target = unit_outputs(parent, batch, 2)[2].reshape(-1, 24).double()
    energy = (target - target.mean(0)).square().sum()
    design = torch.cat([own, torch.ones(len(own), 1)], 1).double().unflatten(0, (12, -1))
    fitted = torch.empty(12, design.shape[1], 24, dtype=torch.float64)
    for half in (0, 1):  # fitted on the other images
        x, y = design[1 - half :: 2].flatten(0, 1), target.unflatten(0, (12, -1))[1 - half :: 2]
        fitted[half::2] = design[half::2] @ torch.linalg.lstsq(x, y.flatten(0, 1)).solution
    fitted = fitted.flatten(0, 1)
    assert (errors[1].start, errors[1].stop) == (2, 4)
    assert math.isclose(errors[1].mapped, (own - target).square().sum() / energy, rel_tol=1e-4)
    assert math.isclose(errors[1].linear, (fitted - target).square().sum() / energy, rel_tol=1e-4)


def test_tokens_of_other_widths_have_a_linear_share_only(parent, folder):
    plan = shrink.plan_child(parent, 2, width=16)
    images = unlabeled(folder)
    options = shrink.child_options(plan, PARENT)
    child, basis = shrink.start_child(parent, plan, (64, 64), options, images=images.batch([0]))
    unmapped = shrink.measure(parent, child, plan, images)
    assert all(math.isnan(error.mapped) and 0 < error.linear < 1 for error in unmapped)
    back = torch.nn.Linear(16, 24, bias=False)
    back.weight.data = basis.T.contiguous()
    mapped = shrink.measure(parent, child, plan, images, [back, back])
    assert [error.linear for error in mapped] == [error.linear for error in unmapped]
    assert all(error.mapped > 0 for error in mapped)


def test_one_image_cannot_be_halved(parent, folder):
    plan = shrink.plan_child(parent)
    child, _ = shrink.start_child(parent, plan, (64, 64), PARENT)
    with pytest.raises(UserError, match=r"too few images .*: give at least 2"):
        shrink.measure(parent, child, plan, unlabeled(folder).batch([0]))
