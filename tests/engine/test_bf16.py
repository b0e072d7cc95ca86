"""Training in bfloat16: the forward pass alone, on any device."""

import pytest
import torch

from mmsn.models import stitched_backbone


def trained(run, wrapper, **changes):
    """A finished run, its update of every weight, and what its optimizer saw at every step."""
    runner = run(**{"optim_wrapper.type": wrapper, "val_cfg.stitches": [1]} | changes)
    backbone, types, steps, before = stitched_backbone(runner.model), set(), [], {}
    backbone.anchor(1).vit.blocks[0].mlp.fc1.register_forward_hook(
        lambda module, _, out: types.add(out.dtype) if torch.is_grad_enabled() else None
    )
    original = runner.call_hook

    def call_hook(name, **kwargs):
        original(name, **kwargs)
        if name == "before_train":
            before.update({n: p.detach().clone() for n, p in runner.model.named_parameters()})
            optimizer = runner.optim_wrapper.optimizer
            optimizer.register_step_pre_hook(lambda *_: steps.append(gradients()))

    def gradients():
        found = [p.grad for p in runner.model.parameters() if p.grad is not None]
        assert {gradient.dtype for gradient in found} == {torch.float32}
        return torch.cat([gradient.flatten() for gradient in found]).norm().item()

    runner.call_hook = call_hook
    runner.train()
    assert {p.dtype for p in runner.model.parameters()} == {torch.float32}
    after = dict(runner.model.named_parameters())
    update = torch.cat([(after[n] - old).detach().flatten() for n, old in before.items()])
    return runner, update, types, steps


def test_the_forward_pass_is_bfloat16_its_loss_close_to_that_of_float32(run):
    once = {"train_cfg.max_iters": 1}
    full, _, types, _ = trained(run, "OptimWrapper", **once)
    assert types == {torch.float32}
    half, _, types, _ = trained(run, "mmsn.Bf16OptimWrapper", **once)
    assert types == {torch.bfloat16}
    losses = [r.message_hub.get_scalar("train/loss").current() for r in (full, half)]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert losses[1] != losses[0]


def test_gradients_accumulate_and_are_clipped_in_float32(run):
    changes = {
        "optim_wrapper.accumulative_counts": 2,
        "optim_wrapper.clip_grad": dict(max_norm=0.1),
    }
    _, full, _, steps = trained(run, "OptimWrapper", **changes)
    assert steps == [pytest.approx(0.1, rel=1e-3)] * 2
    _, half, types, steps = trained(run, "mmsn.Bf16OptimWrapper", **changes)
    assert types == {torch.bfloat16}
    assert steps == [pytest.approx(0.1, rel=1e-3)] * 2  # four iterations, two steps
    assert torch.cosine_similarity(half, full, dim=0) > 0.95
