"""Codes of label maps: what the published code gives for 22 values, and nothing drawn twice."""

import numpy as np
import pytest
import torch

from mmsn.errors import UserError
from mmsn.models.label_assisted.labels import fixed_labels, noised_labels, stacked_labels
from tests.models.dense_models import sample


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_fixed_codes_are_the_published_ones_at_the_classes_of_voc():
    labels = torch.arange(22).view(1, 1, 2, 11)
    found = fixed_labels(labels, 21, generator(), jitter=0.0)
    assert np.allclose(found.flatten().numpy(), (np.arange(22) - 11) / 10)


@pytest.mark.parametrize("classes", [2, 12, 150])
def test_fixed_codes_keep_their_range_and_their_order(classes):
    labels = torch.arange(classes + 1).view(1, 1, 1, -1)
    codes = fixed_labels(labels, classes, generator(), jitter=0.0).flatten()
    assert (codes.diff() > 0).all()
    assert codes.min() >= -3
    assert codes.max() <= 1


def test_random_codes_are_one_number_per_image_and_class():
    labels = torch.randint(0, 4, (2, 1, 40, 40))
    codes = noised_labels(labels, 3, generator(), jitter=0.0)
    seen = [codes[b][labels[b] == k].unique() for b in range(2) for k in range(4)]
    assert all(len(values) == 1 for values in seen)
    assert len({float(values) for values in seen}) == 8


def test_random_codes_are_standard_normal_and_jitter_has_its_width():
    labels = torch.zeros(4000, 1, 1, 2, dtype=torch.long)
    codes = noised_labels(labels, 3, generator(), jitter=0.03)
    assert codes[..., 0].std().item() == pytest.approx(1, abs=0.05)
    assert codes[..., 0].mean().item() == pytest.approx(0, abs=0.05)
    within = (codes[..., 0] - codes[..., 1]).std().item() / np.sqrt(2)
    assert within == pytest.approx(0.03, rel=0.05)
    fixed = fixed_labels(labels, 3, generator(), jitter=0.02)
    assert fixed.std().item() == pytest.approx(0.02, rel=0.05)


def test_codes_follow_from_the_generator():
    labels = torch.randint(0, 4, (2, 1, 4, 4))
    first, again, other = (noised_labels(labels, 3, generator(s)) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.isclose(first, other).any()


def test_whatever_is_no_class_is_one_more_and_sizes_are_made_equal():
    labels = torch.tensor([[0, 255], [2, 3]]).view(1, 2, 2)
    found = stacked_labels([sample((2, 2), labels)], 3, (2, 2))
    assert found.tolist() == [[[[0, 3], [2, 3]]]]
    halved = stacked_labels([sample((4, 4), labels.repeat_interleave(2, 1))], 3, (2, 2))
    assert torch.equal(halved, found)


def test_a_sample_without_labels_is_refused():
    with pytest.raises(UserError, match="gt_sem_seg"):
        stacked_labels([sample((2, 2))], 3, (2, 2))
