"""Windows, candidates and argmax that ImageLogits is made of."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import ConfigDict
from torch.nn import functional as F

from mmsn.models.image_logits import (
    Box,
    Crop,
    ImageLogits,
    Target,
    possible_winners,
    running_argmax,
    sliding_boxes,
)


@settings(max_examples=100)
@given(
    low=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    grown=st.tuples(st.integers(0, 30), st.integers(0, 30)),
    last=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    align_corners=st.booleans(),
    spread=st.sampled_from([0.0, 0.5, 3.0]),
    seed=st.integers(0, 1000),
)
def test_no_winner_is_skipped(low, grown, last, align_corners, spread, seed):
    torch.manual_seed(seed)
    logits = torch.randn(1, 10, *low) + spread * torch.randn(1, 10, 1, 1)
    middle = (low[0] + grown[0], low[1] + grown[1])
    for size in (middle, last):
        resized = F.interpolate(logits, middle, mode="bilinear", align_corners=align_corners)
        resized = F.interpolate(resized, size, mode="bilinear", align_corners=align_corners)
        winners = set(resized[0].argmax(dim=0).unique().tolist())
        assert winners <= set(possible_winners(logits[0]))


def test_channels_that_cannot_win_are_left_out():
    logits = torch.zeros(3, 8, 8)
    logits[1], logits[2, 5, 5] = 1.0, 2.0
    assert possible_winners(logits) == [1, 2]
    logits[2, 5, 5] = 0.5
    assert possible_winners(logits) == [1]


def test_running_argmax_takes_the_first_of_equals():
    maps = torch.randint(0, 4, (300, 30, 40)).float()
    found = running_argmax(iter(enumerate(maps)), 300)  # more than a byte holds
    assert found.dtype == torch.int64
    assert torch.equal(found, maps.argmax(dim=0))


def test_running_argmax_keeps_the_numbers_of_the_channels_it_gets():
    maps = torch.randn(9, 5, 6)
    numbers = [1, 4, 8]
    found = running_argmax(((n, maps[n]) for n in numbers), 9)
    assert torch.equal(found, torch.tensor(numbers)[maps[numbers].argmax(dim=0)])


@pytest.mark.parametrize(
    ("size", "crop", "stride", "tops", "lefts"),
    [
        ((10, 10), (10, 10), (5, 5), [0], [0]),
        ((10, 12), (6, 6), (4, 4), [0, 4], [0, 4, 6]),  # the last one moves back inside
        ((5, 20), (8, 10), (4, 10), [0], [0, 10]),  # smaller than a window
    ],
)
def test_windows_cover_the_image(size, crop, stride, tops, lefts):
    boxes = sliding_boxes(size, ConfigDict(crop_size=crop, stride=stride))
    assert [(b.top, b.left) for b in boxes] == [(top, left) for top in tops for left in lefts]
    covered = torch.zeros(size)
    for box in boxes:
        covered[box.area] += 1
        assert covered[box.area].shape == tuple(map(min, crop, size))
    assert covered.min() >= 1


def test_a_target_undoes_padding_and_flip():
    meta = dict(ori_shape=(6, 8, 3), padding_size=[1, 2, 3, 4], flip=True)
    target = Target.of(meta | dict(flip_direction="horizontal", img_padding_size=[0, 2, 0, 1]))
    assert target == Target((0, 2, 0, 1), "horizontal", (6, 8))
    canvas = torch.arange(7 * 10.0).view(1, 1, 7, 10)
    sizes = []
    found = target.apply(canvas, lambda x, size: sizes.append(size) or x)
    assert torch.equal(found, canvas[:, :, :6, :8].flip(3))
    assert sizes == [(6, 8)]
    assert Target.of(dict(ori_shape=(6, 8))) == Target((0, 0, 0, 0), None, (6, 8))


def test_windows_are_averaged_where_they_overlap():
    crops = [
        Crop(torch.full((1, 2, 4, 4), value), (4, 4), Box(0, 4, left, left + 4))
        for value, left in ((1.0, 0), (4.0, 2))
    ]
    count = torch.zeros(4, 6)
    for crop in crops:
        count[crop.box.area] += 1
    logits = ImageLogits(crops, count, 0, Target((0, 0, 0, 0), None, (4, 6)), False)
    row = [1.0, 1.0, 2.5, 2.5, 4.0, 4.0]
    assert torch.equal(logits.full(0, 2), torch.tensor(row).expand(1, 2, 4, 6))
    assert torch.equal(logits.full(1, 2), torch.tensor(row).expand(1, 1, 4, 6))


def test_one_channel_needs_a_threshold():
    crop = Crop(torch.tensor([[[[-1.0, 1.0]]]]), (1, 2))
    logits = ImageLogits([crop], None, 0, Target((0, 0, 0, 0), None, (1, 2)), False)
    assert logits.labels(0.5).tolist() == [[[0.0, 1.0]]]
    assert logits.labels(0.2).tolist() == [[[1.0, 1.0]]]  # sigmoid(-1) is 0.27
    with pytest.raises(AssertionError, match="have a threshold"):
        logits.labels()
