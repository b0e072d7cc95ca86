"""The channel-wise divergence against NumPy."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmsn.errors import UserError
from mmsn.models.label_assisted.losses import channel_wise_distillation


def by_numpy(logits, target, temperature):
    """Loop over images and channels, as the definition reads."""
    total, (images, channels) = 0.0, logits.shape[:2]
    for b in range(images):
        for c in range(channels):
            p, q = (np.exp(x[b, c].astype(float) / temperature) for x in (target, logits))
            p, q = p / p.sum(), q / q.sum()
            total += (p * (np.log(p) - np.log(q))).sum()
    return temperature**2 * total / (images * channels)


@pytest.mark.parametrize("temperature", [4.0, 1.0])
def test_the_divergence_is_that_of_its_definition(temperature):
    rng = np.random.default_rng(0)
    logits, target = 5 * rng.standard_normal((2, 2, 3, 4, 5))
    found = channel_wise_distillation(
        torch.from_numpy(logits), torch.from_numpy(target), temperature
    )
    assert found.item() == pytest.approx(by_numpy(logits, target, temperature), rel=1e-5)
    assert channel_wise_distillation(*[torch.from_numpy(target)] * 2).item() == pytest.approx(0)


def test_only_the_first_argument_learns():
    logits, target = (torch.randn(2, 3, 4, 4, requires_grad=True) for _ in range(2))
    channel_wise_distillation(logits, target).backward()
    assert logits.grad.abs().sum() > 0
    assert target.grad is None


def test_a_target_of_another_size_is_resized():
    logits, target = torch.randn(1, 3, 4, 4), torch.randn(1, 3, 8, 8)
    resized = F.interpolate(target, (4, 4), mode="bilinear", align_corners=False)
    expected = by_numpy(logits.numpy(), resized.numpy(), 4.0)
    assert channel_wise_distillation(logits, target).item() == pytest.approx(expected, rel=1e-5)


def test_half_precision_is_summed_in_single():
    logits, target = torch.randn(2, 1, 2, 64, 64)
    found = channel_wise_distillation(logits.bfloat16(), target.bfloat16())
    expected = by_numpy(logits.bfloat16().float().numpy(), target.bfloat16().float().numpy(), 4.0)
    assert found.item() == pytest.approx(expected, rel=1e-4)


def test_another_number_of_classes_is_refused():
    with pytest.raises(UserError, match=r"\(1, 3\).*\(1, 4\)"):
        channel_wise_distillation(torch.zeros(1, 3, 2, 2), torch.zeros(1, 4, 2, 2))
