"""Where an optimizer step ends, by mmengine's own wrappers."""

import pytest
import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict

from mmsn.engine.accumulation import is_accumulating, optim_wrappers


def wrapper(counts, iterations=5):
    weight = torch.nn.Parameter(torch.ones(1))
    made = OptimWrapper(torch.optim.SGD([weight], lr=0.5), accumulative_counts=counts)
    made.initialize_count_status(torch.nn.Linear(1, 1), 0, iterations)

    def step():
        """Whether this iteration changed the weight."""
        before = weight.detach().clone()
        made.update_params((weight * 1.0).sum())
        return not torch.equal(before, weight.detach())

    return made, step


@pytest.mark.parametrize(
    ("counts", "steps"),
    [
        (1, [True] * 5),
        (2, [False, True, False, True, True]),
        (3, [False] * 2 + [True, False, True]),
    ],
)
def test_gradients_are_held_until_a_step_uses_them(counts, steps):
    made, step = wrapper(counts)
    for stepped in steps:
        assert step() == stepped
        assert is_accumulating(made) != stepped


def test_of_several_wrappers_one_that_holds_gradients_is_enough():
    (first, step_first), (second, step_second) = wrapper(1), wrapper(2)
    both = OptimWrapperDict(first=first, second=second)
    assert optim_wrappers(both) == [first, second]
    assert optim_wrappers(first) == [first]
    found = []
    for _ in range(4):
        step_first()
        step_second()
        found.append(is_accumulating(both))
    assert found == [True, False, True, False]
