"""Streaming least squares against a pseudo-inverse of all the tokens at once."""

import numpy as np
import pytest
import torch

from mmsn.errors import UserError
from mmsn.stitching import GramAccumulator, solve_shared


def accumulate(x, y, parts=3):
    gram = GramAccumulator(x.shape[1], y.shape[1])
    for a, b in zip(x.chunk(parts), y.chunk(parts), strict=True):
        gram.update(a[None], b[None])  # (1, n, dim): as tokens of one image
    return gram


def pseudo_inverse(x, y):
    design = np.hstack([x.double().numpy(), np.ones((len(x), 1))])
    solution = np.linalg.pinv(design) @ y.double().numpy()
    return torch.tensor(solution[:-1].T), torch.tensor(solution[-1])


@pytest.mark.parametrize("reverse", [False, True])
def test_streaming_equals_the_pseudo_inverse(reverse):
    torch.manual_seed(0)
    x, y = torch.randn(500, 12) * torch.logspace(-2, 2, 12) + 3, torch.randn(500, 7) + 1
    y = y + x @ torch.randn(12, 7)
    solution = accumulate(x, y).solve(reverse)
    weight, bias = pseudo_inverse(*((y, x) if reverse else (x, y)))
    torch.testing.assert_close(solution.weight, weight, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(solution.bias, bias, rtol=1e-6, atol=1e-6)
    assert solution.rank == solution.size == (8 if reverse else 13)


def test_an_exact_map_is_found_and_its_error_is_zero():
    torch.manual_seed(0)
    x, weight, bias = torch.randn(200, 5), torch.randn(3, 5), torch.randn(3)
    solution = accumulate(x, x @ weight.T + bias).solve()
    torch.testing.assert_close(solution.weight.float(), weight, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(solution.bias.float(), bias, rtol=1e-5, atol=1e-6)
    assert solution.error < 1e-10


def test_error_is_the_share_left_unexplained():
    torch.manual_seed(0)
    x, noise = torch.randn(20000, 2), torch.randn(20000, 1)
    solution = accumulate(x, x[:, :1] + noise).solve()
    assert solution.error == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("tokens", [1, 4, 30])
def test_too_few_or_dependent_tokens_give_the_minimum_norm_solution(tokens):
    torch.manual_seed(0)
    x, y = torch.randn(tokens, 10), torch.randn(tokens, 6)
    x[:, 5:] = x[:, :5]
    solution = accumulate(x, y, parts=1).solve()
    weight, bias = pseudo_inverse(x, y)
    assert solution.rank == min(tokens, 6) < solution.size == 11
    torch.testing.assert_close(solution.weight, weight, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(solution.bias, bias, rtol=1e-4, atol=1e-6)


def test_zero_tokens_give_zero_weights():
    solution = accumulate(torch.zeros(9, 4), torch.zeros(9, 2)).solve()
    assert solution.weight.abs().max() == solution.bias.abs().max() == 0
    assert solution.error == 0


def test_memory_does_not_grow_with_tokens():
    gram = GramAccumulator(4, 3)
    for _ in range(5):
        gram.update(torch.randn(100, 4), torch.randn(100, 3))
    assert gram.gram.shape == (8, 8)
    assert gram.gram.dtype == torch.float64
    assert gram.count == 500


@pytest.mark.parametrize(("bad", "side"), [(0, "source"), (1, "target")])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_tokens_that_are_not_finite_are_refused(bad, side, value):
    tokens = [torch.randn(5, 4), torch.randn(5, 3)]
    tokens[bad][2, 1] = value
    with pytest.raises(UserError, match=f"{side} tokens hold NaN or infinity"):
        GramAccumulator(4, 3).update(*tokens)


def test_no_tokens_are_refused():
    with pytest.raises(UserError, match="at least one batch"):
        GramAccumulator(4, 3).solve()


def test_a_mean_that_only_the_bias_fits_explains_nothing():
    x, y = torch.randn(20000, 2), torch.randn(20000, 1) + 100
    assert accumulate(x, y).solve().error == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_shared_map_is_the_mean_and_its_error_that_of_the_mean(reverse):
    pairs = [(torch.randn(40, 3).double(), torch.randn(40, 5).double()) for _ in range(3)]
    grams = []
    for x, y in pairs:
        grams.append(GramAccumulator(3, 5))
        grams[-1].update(x, y)
    solved = solve_shared(grams, reverse)
    alone = [gram.solve(reverse) for gram in grams]
    torch.testing.assert_close(solved.weight, sum(s.weight for s in alone) / 3)
    torch.testing.assert_close(solved.bias, sum(s.bias for s in alone) / 3)
    shares = []
    for x, y in pairs:
        source, target = (y, x) if reverse else (x, y)
        residual = source @ solved.weight.T + solved.bias - target
        shares.append(((residual**2).sum() / ((target - target.mean(0)) ** 2).sum()).item())
    assert solved.error == pytest.approx(sum(shares) / 3)
    assert solved.error > sum(s.error for s in alone) / 3
    assert solve_shared(grams[:1], reverse).error == alone[0].error
