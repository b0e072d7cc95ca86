"""What is kept per grid: made once, bounded, never copied, the same for all threads."""

import copy
import pickle
import threading

import torch

from mmsn.models.grid_cache import CAPACITY, GridCache


def test_a_tensor_is_made_once_and_old_ones_leave():
    cache, made = GridCache(), []

    def get(key):
        return cache.get(key, lambda: made.append(key) or torch.ones(key))

    first = get(1)
    assert get(1) is first
    for key in range(2, CAPACITY + 2):
        get(key)
    get(1)
    assert made == [*range(1, CAPACITY + 2), 1]


def test_copies_and_pickles_start_empty():
    cache = GridCache()
    cache.get("a", lambda: torch.ones(1))
    for other in (copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):
        assert other.get("a", lambda: torch.zeros(1)) == 0


def test_a_tensor_can_be_used_in_training_whatever_mode_made_it():
    weight = torch.ones(2, requires_grad=True)
    with torch.inference_mode():
        made = GridCache().get("a", lambda: 2 * weight)
    assert not made.is_inference()
    assert not made.requires_grad


def test_threads_that_come_at_once_receive_one_tensor():
    cache, together, found = GridCache(), threading.Barrier(4), []

    def make():
        together.wait(timeout=10)  # all four have missed before one is done
        return torch.ones(1)

    threads = [threading.Thread(target=lambda: found.append(cache.get(0, make))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(tensor) for tensor in found}) == 1


def test_a_trace_leaves_no_stand_in_behind():
    class Doubled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.cache = GridCache()

        def forward(self, x):
            return x * self.cache.get(x.shape[0], lambda: 2 * torch.ones(x.shape[0]))

    module = Doubled()
    program = torch.export.export(module, (torch.ones(3),))
    assert type(module.cache.get(3, lambda: torch.zeros(3))) is torch.Tensor
    assert torch.equal(program.module()(torch.ones(3)), torch.full((3,), 2.0))
