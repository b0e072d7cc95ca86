"""Distillation explains more of the parent, and continues exactly after an interruption."""

import math

import pytest
import torch

from mmsn import shrink
from mmsn.errors import UserError
from tests.shrink.tiny import PARENT, unlabeled


def make_distillation(parent, folder, steps=8, depth=2, width=None, **settings):
    plan = shrink.plan_child(parent, depth, "every", width)
    calibration = unlabeled(folder).batch(range(6))
    options = shrink.child_options(plan, PARENT)
    child, _ = shrink.start_child(parent, plan, (64, 64), options, images=calibration)
    settings = dict(lr=3e-3, batch_size=4) | settings
    return shrink.Distillation(
        parent, child, plan, shrink.DistillSettings(steps, **settings), calibration
    )


@pytest.mark.parametrize(
    "options", [dict(), dict(width=16, depth=4), dict(linear_maps=True), dict(bf16=True)]
)
def test_distillation_explains_more_of_the_parent(parent, folder, options):
    distillation = make_distillation(parent, folder, steps=30, **options)
    plan, images = distillation.plan, unlabeled(folder, seed=7)
    whole = parent.state_dict()
    before = {key: value.clone() for key, value in whole.items()}
    first = shrink.measure(parent, distillation.child, plan, images, distillation.maps.maps)
    distillation.run(unlabeled(folder))
    last = shrink.measure(parent, distillation.child, plan, images, distillation.maps.maps)
    assert sum(unit.mapped for unit in last) < 0.8 * sum(unit.mapped for unit in first)
    assert all(torch.equal(whole[key], value) for key, value in before.items())


def test_the_loss_is_the_mean_unexplained_share(parent, folder):
    distillation = make_distillation(parent, folder)
    batch = unlabeled(folder).batch(range(6))  # the calibration images, so the variance is theirs
    errors = shrink.measure(
        parent, distillation.child, distillation.plan, list(batch), distillation.maps.maps
    )
    loss = distillation.train_step(batch)
    assert math.isclose(loss, sum(e.mapped for e in errors) / len(errors), rel_tol=1e-4)


class Interrupt(Exception):
    pass


@pytest.mark.parametrize("width", [None, 16])
def test_an_interrupted_distillation_ends_like_an_undisturbed_one(parent, folder, tmp_path, width):
    undisturbed = make_distillation(parent, folder, width=width)
    losses = []
    undisturbed.run(unlabeled(folder), on_step=lambda step, loss: losses.append(loss))

    def interrupt(step, loss):
        if step == 5:
            raise Interrupt

    state = tmp_path / "state"
    with pytest.raises(Interrupt):
        make_distillation(parent, folder, width=width).run(
            unlabeled(folder), state, save_every=3, on_step=interrupt
        )
    continued = make_distillation(parent, folder, width=width)
    continued.resume(state)
    assert continued.step == 3
    rest = []
    continued.run(unlabeled(folder), on_step=lambda step, loss: rest.append(loss))
    assert rest == losses[3:]
    for key, value in undisturbed.child.state_dict().items():
        assert torch.equal(continued.child.state_dict()[key], value), key


def test_a_state_of_other_settings_is_refused(parent, folder, tmp_path):
    make_distillation(parent, folder).save(tmp_path / "state")
    with pytest.raises(UserError, match=r"another settings \(lr 0.003 then, 0.1 now\)"):
        make_distillation(parent, folder, lr=0.1).resume(tmp_path / "state")
    parent.vit.cls_token.data += 1
    with pytest.raises(UserError, match="another parent"):
        make_distillation(parent, folder).resume(tmp_path / "state")


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        (dict(steps=-1), "steps -1 must be"),
        (dict(steps=1, batch_size=0), "batch_size 0 must be"),
        (dict(steps=1, seed=-1), "seed -1 must be"),
    ],
)
def test_settings_out_of_range_are_refused(settings, fault):
    with pytest.raises(UserError, match=fault):
        shrink.DistillSettings(**settings)


def test_a_loss_that_is_no_number_ends_the_run(parent, folder):
    distillation = make_distillation(parent, folder)
    distillation.maps.variance.zero_()
    with pytest.raises(UserError, match=r"the loss of step 1 is (inf|nan): lower lr"):
        distillation.run(unlabeled(folder))


def test_the_rate_warms_up_and_falls_to_zero():
    settings = shrink.DistillSettings(100, lr=1.0)
    rates = [settings.lr_at(step) for step in range(101)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[52] == pytest.approx(0.5, abs=0.02)
    assert rates[100] == pytest.approx(0)
