"""Counting operators: products, norms and memory, by hand."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmsn.models.tracing import LiveBytes, MacCounter, on_meta


def macs(function, *shapes):
    inputs = [torch.empty(shape, device="meta") for shape in shapes]
    with torch.no_grad(), MacCounter() as counter:
        function(*inputs)
    return counter.macs


@pytest.mark.parametrize(
    ("function", "shapes", "expected"),
    [
        (torch.matmul, [(5, 7), (7, 3)], 5 * 7 * 3),
        (torch.bmm, [(2, 5, 7), (2, 7, 3)], 2 * 5 * 7 * 3),
        (F.conv2d, [(2, 4, 8, 9), (6, 4, 3, 3)], 2 * 6 * 4 * 9 * (6 * 7)),
        (lambda x: F.layer_norm(x, (7,)), [(5, 7)], 4 * 35),
        (lambda x, w, b: F.layer_norm(x, (7,), w, b), [(5, 7), (7,), (7,)], 5 * 35),
        (lambda x: F.group_norm(x, 2), [(2, 4, 3, 3)], 4 * 72),
        (lambda x, w, b: F.group_norm(x, 2, w, b), [(2, 4, 3, 3), (4,), (4,)], 5 * 72),
        (lambda x, m, v: F.batch_norm(x, m, v), [(2, 4, 3, 3), (4,), (4,)], 72),
        (lambda x, m, v, w, b: F.batch_norm(x, m, v, w, b), [(2, 4, 3, 3)] + [(4,)] * 4, 2 * 72),
        (lambda x: F.interpolate(x, (6, 8), mode="bilinear"), [(1, 2, 3, 4)], 4 * 2 * 48),
        (lambda x: F.interpolate(x, (6, 8)), [(1, 2, 3, 4)], 2 * 48),
        (lambda x: F.adaptive_avg_pool2d(x, 1), [(1, 2, 3, 4)], 24),
        (lambda x: F.adaptive_avg_pool2d(x, 2), [(1, 2, 4, 4)], 32),
        (lambda x: x.mean(1), [(5, 7)], 0),
        (lambda x: F.gelu(x) + 1, [(5, 7)], 0),
    ],
)
def test_operators_are_counted_by_hand(function, shapes, expected):
    assert macs(function, *shapes) == expected


def test_counts_add_up_and_values_are_those_without_counting():
    layers = nn.Sequential(nn.Linear(7, 5), nn.LayerNorm(5), nn.Linear(5, 3))
    x = torch.randn(4, 7)
    with MacCounter() as counter:
        found = layers(x)
    assert counter.macs == 4 * (7 * 5 + 5 * 5 + 5 * 3)
    assert torch.equal(found, layers(x))


def test_live_bytes_counts_what_is_alive():
    with LiveBytes() as memory:
        kept = torch.zeros(1000)
        view = kept[:10]
        for _ in range(5):
            torch.zeros(500)
        both = torch.zeros(250) + view.sum()
    assert both.shape == (250,)
    assert memory.peak == 4 * (1000 + 250 + 1 + 250)


def test_live_bytes_counts_what_was_there_before_once_it_is_named():
    before = torch.zeros(100)
    with LiveBytes() as memory:
        before.add_(1)  # in place: nothing new
        assert memory.peak == 0
        memory.add(before)
        memory.add(before[:3])  # the same memory
        memory.hold(50)
    assert memory.peak == 400 + 50


def test_a_copy_on_meta_leaves_the_module_alone():
    shared = nn.Linear(6, 6)
    module = nn.Sequential(shared, nn.BatchNorm1d(6), shared).train()
    state = {name: value.clone() for name, value in module.state_dict().items()}
    copy = on_meta(module)
    assert {p.device.type for p in (*copy.parameters(), *copy.buffers())} == {"meta"}
    assert copy[0] is copy[2]  # shared weights stay shared
    assert all(isinstance(p, nn.Parameter) for p in copy.parameters())
    assert [m.training for m in (module, copy)] == [True, False]
    assert copy(torch.empty(5, 6, device="meta")).shape == (5, 6)
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
