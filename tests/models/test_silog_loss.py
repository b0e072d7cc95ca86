"""SILog against NumPy, and what must not reach it."""

import numpy as np
import pytest
import torch

from mmsn.errors import UserError
from mmsn.models import SILogLoss


def numpy_silog(prediction, target, weight=0.15, low=1e-3, high=10.0):
    """The formula, pixel by pixel in double precision."""
    g = [
        np.log(max(p, low)) - np.log(t)
        for p, t in zip(
            prediction.flatten().double().tolist(), target.flatten().double().tolist(), strict=True
        )
        if np.isfinite(t) and low <= t <= high
    ]
    return np.sqrt(np.var(g) + weight * np.mean(g) ** 2)


@pytest.fixture
def maps():
    """A prediction that may learn and a target, both in 1e-3..10 m."""
    draw = torch.Generator().manual_seed(1)
    prediction = 0.5 + 9 * torch.rand(2, 1, 5, 7, generator=draw)
    target = 0.5 + 9 * torch.rand(2, 1, 5, 7, generator=draw)
    return prediction.requires_grad_(), target


@pytest.mark.parametrize("weight", [0.0, 0.15, 1.0])
def test_the_value_is_that_of_numpy(maps, weight):
    loss = SILogLoss(mean_weight=weight, loss_weight=3.0)(*maps)
    assert loss.item() == pytest.approx(3 * numpy_silog(*maps, weight), rel=1e-6)


def test_the_batch_is_one_set_of_pixels(maps):
    prediction, target = maps
    loss = SILogLoss()
    apart = sum(loss(prediction[i : i + 1], target[i : i + 1]) for i in range(2)) / 2
    assert abs(loss(prediction, target) - apart) > 1e-3


INVALID = (0.0, -1.0, float("nan"), float("inf"), -float("inf"), 10.001, 0.0009, 255.0)


def test_invalid_targets_take_no_part(maps):
    prediction, target = maps
    target.flatten()[: len(INVALID)] = torch.tensor(INVALID)
    loss = SILogLoss()(prediction, target)
    loss.backward()
    n = len(INVALID)
    kept = numpy_silog(prediction.flatten()[n:], target.flatten()[n:])
    assert loss.item() == pytest.approx(kept, rel=1e-6)
    gradient = prediction.grad.flatten()
    assert not gradient[:n].any()
    assert gradient[n:].all()


def test_a_batch_without_a_valid_pixel_is_zero_on_the_graph_and_warns(monkeypatch):
    said = []
    monkeypatch.setattr("mmsn.models.silog_loss.print_log", lambda text, **_: said.append(text))
    prediction = torch.full((1, 1, 2, 2), float("inf"), requires_grad=True)
    loss = SILogLoss()(prediction, torch.zeros(1, 1, 2, 2))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(prediction.grad, torch.zeros(1, 1, 2, 2))
    assert said == ["No pixel of the batch has a depth of 0.001 to 10.0 m: its depth loss is 0"]


def test_the_gradient_is_finite_where_the_prediction_is_perfect(maps):
    _, target = maps
    prediction = target.clone().requires_grad_()
    SILogLoss()(prediction, target).backward()
    assert torch.isfinite(prediction.grad).all()
    single = torch.tensor([[[[2.0]]]], requires_grad=True)  # one pixel has no variance
    loss = SILogLoss()(single, torch.tensor([[[[1.0]]]]))
    loss.backward()
    assert loss.item() == pytest.approx(0.15**0.5 * np.log(2))
    assert single.grad.item() == pytest.approx(0.15**0.5 / 2)


def test_the_gradient_is_that_of_the_formula_in_double_precision(maps):
    prediction, target = maps
    SILogLoss()(prediction, target).backward()
    exact = prediction.detach().double().requires_grad_()
    g = exact.log() - target.double().log()
    torch.sqrt(g.var(correction=0) + 0.15 * g.mean() ** 2).backward()
    assert torch.allclose(prediction.grad.double(), exact.grad, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(maps, dtype):
    prediction, target = maps[0].detach().to(dtype), maps[1]
    with torch.autocast("cpu", torch.bfloat16):
        loss = SILogLoss()(prediction, target)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(numpy_silog(prediction, target), rel=1e-6)


def test_bad_input_is_refused():
    with pytest.raises(UserError, match=r"depth range 0 to 10\.0 is not allowed"):
        SILogLoss(min_depth=0)
    with pytest.raises(UserError, match=r"\(1, 1, 2, 2\) and target of shape \(1, 1, 4, 4\)"):
        SILogLoss()(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 4, 4))
