"""A loss or a gradient that is not finite changes no weight."""

import math
from pathlib import Path

import pytest
import torch
from mmengine.optim.optimizer import amp_optimizer_wrapper
from torch.amp import GradScaler

from mmsn import checks
from mmsn.engine import FiniteHook
from mmsn.errors import UserError
from mmsn.models import stitched_backbone


@pytest.fixture
def train(run):
    """A runner whose images have one NaN in the iterations ``bad``, and the states before each."""

    def make(bad, **changes):
        changes.setdefault("custom_hooks", [dict(type="mmsn.FiniteHook", **options)])
        quick = {"train_cfg.val_interval": 100, "val_cfg.stitches": [0]}
        runner = run(**quick | changes)
        processor, states = runner.model.data_preprocessor, []
        forward = processor.forward

        def spoil(data, training=False):
            data = forward(data, training)
            if training:
                states.append({k: v.clone() for k, v in runner.model.state_dict().items()})
                names.append([sample.img_path for sample in data["data_samples"]])
                if len(states) in bad:
                    data["inputs"][0, 0, 0, 0] = math.nan
            return data

        processor.forward = spoil
        return runner, states

    names, options = [], {}
    make.names, make.options = names, options
    return make


def test_the_first_loss_that_is_not_finite_stops_with_everything_named(train):
    runner, states = train(
        {3},
        custom_hooks=[
            dict(type="mmsn.FLOPsConstrainedSamplingHook"),
            dict(type="mmsn.FiniteHook"),
        ],
        **{"optim_wrapper.clip_grad": dict(max_norm=1.0)},
    )
    drawn = []
    stitched_backbone(runner.model).register_forward_pre_hook(
        lambda module, _: drawn.append(sorted({s.id for s in module.training_stitches}))
    )
    with pytest.raises(UserError, match=r"iteration 3, rank 0: loss decode\.loss_ce is") as caught:
        runner.train()
    text = str(caught.value)
    assert f"stitches {', '.join(map(str, drawn[-1]))}, images" in text
    assert all(name in text for name in train.names[2])
    assert f"resume from '{Path(runner.work_dir, 'iter_2.pth')}'" in text
    assert "\n" not in text
    weights = dict(runner.model.named_parameters())
    assert all(torch.equal(weights[name], states[2][name]) for name in weights)


def test_a_gradient_that_is_not_finite_names_its_weight(train):
    runner, states = train(())
    weight = runner.model.decode_head.conv_seg.weight
    weight.register_hook(lambda grad: grad * math.inf)
    with pytest.raises(UserError, match=r"the gradient of decode_head\.conv_seg\.weight is NaN"):
        runner.train()
    assert torch.equal(weight, states[0]["decode_head.conv_seg.weight"])


def test_a_skipped_step_leaves_weights_and_statistics(train):
    train.options.update(action="skip")
    runner, states = train({2}, **{"optim_wrapper.optimizer.momentum": 0.9})
    runner.train()
    assert len(states) == 4
    before, after, next_one = states[1], states[2], states[3]
    counts = [k for k in before if k.endswith("num_batches_tracked")]
    assert counts  # of the head's batch norm
    assert all(torch.equal(after[k], before[k]) for k in before)
    assert not all(torch.equal(next_one[k], after[k]) for k in before)
    assert all(torch.isfinite(v).all() for v in runner.model.state_dict().values())
    log = next(Path(runner.log_dir).glob("*.log")).read_text()
    assert log.count("this step is skipped") == 1


def test_skipping_ends_when_every_step_is_bad(train):
    train.options.update(action="skip", max_skips=2)
    runner, _ = train({2, 3, 4})
    with pytest.raises(UserError, match="iteration 4, "):
        runner.train()


def test_an_accumulated_step_is_skipped_as_a_whole(train):
    train.options.update(action="skip")
    runner, states = train(
        {3}, **{"optim_wrapper.accumulative_counts": 2, "train_cfg.max_iters": 6}
    )
    runner.train()
    names = [k for k, p in runner.model.named_parameters() if p.requires_grad]

    def moved(a, b):
        return any(not torch.equal(states[a][k], states[b][k]) for k in names)

    # steps end after iterations 2, 4 and 6
    assert [moved(i, i + 1) for i in range(5)] == [False, True, False, False, False]
    final = dict(runner.model.named_parameters())
    assert any(not torch.equal(final[k], states[5][k]) for k in names)


def test_an_accumulated_loss_stops_where_it_appears(train):
    runner, _ = train({3}, **{"optim_wrapper.accumulative_counts": 2})
    with pytest.raises(UserError, match="iteration 3, "):
        runner.train()


def test_huge_gradients_are_finite(train):
    runner, states = train((), **{"train_cfg.max_iters": 1, "optim_wrapper.optimizer.lr": 1e-38})
    weight = runner.model.decode_head.conv_seg.weight
    weight.register_hook(lambda grad: torch.full_like(grad, 1e30))  # its norm is infinite
    runner.train()
    assert not torch.equal(weight, states[0]["decode_head.conv_seg.weight"])


@pytest.fixture
def scaled(train, monkeypatch):
    """The same with mmengine's AmpOptimWrapper and torch's loss scaler, on a CPU."""
    monkeypatch.setattr(amp_optimizer_wrapper, "is_cuda_available", lambda: True)
    monkeypatch.setattr(
        amp_optimizer_wrapper, "GradScaler", lambda **options: GradScaler("cpu", **options)
    )
    monkeypatch.setattr(checks, "get_device", lambda: "cuda")
    scale = dict(init_scale=1024.0, growth_interval=1000)
    changes = {"optim_wrapper.type": "AmpOptimWrapper", "optim_wrapper.loss_scale": scale}
    return lambda bad: train(bad, **changes)


def test_a_loss_that_is_not_finite_stops_under_a_loss_scaler(scaled):
    runner, states = scaled({2})
    with pytest.raises(UserError, match=r"iteration 2, rank 0: loss decode\.loss_ce is NaN"):
        runner.train()
    weights = dict(runner.model.named_parameters())
    assert all(torch.equal(weights[name], states[1][name]) for name in weights)


def test_a_skipped_step_leaves_weights_and_statistics_under_a_loss_scaler(scaled, train):
    train.options.update(action="skip")
    runner, states = scaled({2})
    runner.train()
    assert all(torch.equal(states[2][k], states[1][k]) for k in states[1])
    assert not all(torch.equal(states[3][k], states[2][k]) for k in states[1])
    assert runner.optim_wrapper.loss_scaler.get_scale() == 512
    log = next(Path(runner.log_dir).glob("*.log")).read_text()
    assert log.count("this step is skipped") == 1


@pytest.mark.parametrize("action", ["stop", "skip"])
def test_an_overflow_is_left_to_the_loss_scaler(scaled, train, action):
    """Its scale was too large for one step, which it skips; nothing is wrong with the images."""
    train.options.update(action=action)
    runner, states = scaled(())
    weight, steps = runner.model.decode_head.conv_seg.weight, []

    def overflow(grad):
        steps.append(1)
        return grad * math.inf if len(steps) == 2 else grad

    weight.register_hook(overflow)
    runner.train()
    assert len(states) == 4
    names = [name for name, _ in runner.model.named_parameters()]
    assert all(torch.equal(states[2][k], states[1][k]) for k in names)
    assert not all(torch.equal(states[3][k], states[2][k]) for k in names)
    assert runner.optim_wrapper.loss_scaler.get_scale() == 512
    assert "skipped" not in next(Path(runner.log_dir).glob("*.log")).read_text()


@pytest.mark.parametrize("options", [dict(action="ignore"), dict(max_skips=0)])
def test_unknown_options_are_refused(options):
    with pytest.raises(UserError, match=r"ignore|max_skips 0"):
        FiniteHook(**options)
    assert FiniteHook("skip", max_skips=1).max_skips == 1
