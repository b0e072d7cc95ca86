"""Stitching layers from matrices, and how far they are from least squares."""

import numpy as np
import pytest
import safetensors.torch
import torch

from mmsn.engine.initialize import solve_stitching_layers
from mmsn.errors import UserError
from mmsn.models import StitchedViT
from mmsn.shrink.learngene import TransformationMatrices
from mmsn.shrink.transposed import (
    affine_errors,
    averaged,
    named,
    read_matrices,
    start_from_matrices,
)
from mmsn.stitching import LayerKey
from tests.tiny import tiny_anchor

ANCESTOR = 24


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    anchors = [tiny_anchor(width, 2) for width in (8, 16, 24)]
    made = StitchedViT(anchors, img_size=32, out_indices=(1,), rank=2).eval()
    for parameter in made.anchors.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return made


@pytest.fixture
def pool():
    torch.manual_seed(1)
    return [TransformationMatrices(ANCESTOR, width, 3) for width in (8, 16, 24)]


def mean_of(pool, number):
    return np.mean([m.weight.detach().numpy() for m in pool[number].blocks], axis=0)


def test_layers_are_the_products_of_averaged_matrices(backbone, pool):
    start_from_matrices(backbone, averaged(named(pool), 3))
    small, middle = mean_of(pool, 0), mean_of(pool, 1)
    expected = {
        (0, 1): middle @ small.T,
        (1, 0): small @ middle.T,
        (1, 2): middle.T,
        (2, 1): middle,
    }
    assert {(k.source, k.target) for k in backbone.layer_keys} == set(expected)
    for key in backbone.layer_keys:
        layer = backbone.layer(key)
        weight = layer.merged_weight().detach().numpy()
        assert np.allclose(weight, expected[key.source, key.target], atol=1e-6)
        assert (layer.bias == 0).all()
    assert backbone.uninitialized == ()


def test_only_the_named_layers_are_set(backbone, pool):
    key = LayerKey(0, 1, 0)
    start_from_matrices(backbone, averaged(named(pool), 3), [key])
    assert [k for k in backbone.layer_keys if k not in backbone.uninitialized] == [key]


def test_matrices_go_through_a_file(backbone, pool, tmp_path):
    file = tmp_path / "matrices.safetensors"
    safetensors.torch.save_file(named(pool), file)
    found = read_matrices(file, 3)
    assert np.allclose(found[0].numpy(), mean_of(pool, 0), atol=1e-6)
    assert found[2] is None
    for count in (1, 4):
        with pytest.raises(UserError, match=f"the backbone has {count} anchors"):
            read_matrices(file, count)


def test_a_pool_of_the_ancestors_width_alone_is_joined_by_the_identity(tmp_path):
    pool = [TransformationMatrices(ANCESTOR, ANCESTOR, 3) for _ in range(2)]
    file = tmp_path / "matrices.safetensors"
    safetensors.torch.save_file(named(pool), file)
    assert read_matrices(file, 2) == [None, None]
    anchors = [tiny_anchor(ANCESTOR, depth) for depth in (2, 4)]
    backbone = StitchedViT(anchors, img_size=32, out_indices=(3,), rank=2)
    start_from_matrices(backbone, read_matrices(file, 2))
    assert backbone.uninitialized == ()
    for key in backbone.layer_keys:
        assert torch.equal(backbone.layer(key).merged_weight(), torch.eye(ANCESTOR))
    with pytest.raises(UserError, match=r"instances \[0, 1\], but the backbone has 3 anchors"):
        read_matrices(file, 3)


def test_matrices_of_other_instances_are_refused(backbone):
    other = averaged(named([TransformationMatrices(ANCESTOR, w, 1) for w in (8, 12, 24)]), 3)
    with pytest.raises(UserError, match="do not join anchors of widths 8 and 16"):
        start_from_matrices(backbone, other)


def by_hand(backbone, key, images):
    """The unexplained share, from the tokens themselves."""
    tokens = []
    for index in (key.source, key.target):
        anchor = backbone.anchor(index)
        x, grid = anchor.embed(images)
        tokens.append(anchor.run(x, 0, key.unit + 1, grid).flatten(0, 1).double().numpy())
    source, target = tokens
    layer = backbone.layer(key)
    weight, bias = layer.merged_weight().double().numpy(), layer.bias.double().numpy()
    error = ((source @ weight.T + bias - target) ** 2).sum()
    return error / ((target - target.mean(0)) ** 2).sum()


@torch.no_grad()
def test_errors_are_unexplained_shares_and_least_squares_has_the_smallest(backbone, pool):
    images = torch.randn(12, 3, 32, 32)
    start_from_matrices(backbone, averaged(named(pool), 3))
    transposed = affine_errors(backbone, images.split(5))
    for key in backbone.layer_keys:
        assert transposed[key] == pytest.approx(by_hand(backbone, key, images), rel=1e-6)
    solutions = solve_stitching_layers(backbone, images.split(5))
    solved = affine_errors(backbone, images.split(5))
    for key in backbone.layer_keys:
        assert solved[key] == pytest.approx(solutions[key].error, rel=1e-3, abs=1e-6)
        assert solved[key] < transposed[key]
