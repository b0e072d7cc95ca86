"""Least-squares initialization of a whole backbone."""

import pytest
import torch

from mmsn.engine import solve_stitching_layers
from mmsn.errors import UserError
from mmsn.models import StitchedViT
from mmsn.stitching import LayerKey
from tests.tiny import tiny_anchor, tiny_eva


@pytest.fixture(params=[tiny_anchor, tiny_eva])
def backbone(request):
    anchors = [request.param(16, 2, drop_path_rate=0.5), request.param(24, 4, drop_path_rate=0.5)]
    return StitchedViT(anchors, img_size=64, out_indices=(1, 3), rank=2)


def tokens_after(backbone, anchor, block, images):
    module = backbone.anchors[anchor]
    with torch.no_grad():
        tokens, grid = module.embed(images)
        return module.run(tokens, 0, block + 1, grid).flatten(0, 1).double()


def test_every_layer_is_the_least_squares_map_between_the_matching_blocks(backbone):
    images = torch.randn(12, 3, 64, 64)
    backbone.train()  # drop path must not touch the features
    solve_stitching_layers(backbone, images.split(5))
    assert backbone.training
    backbone.eval()
    for source, target, unit in backbone.space.layer_keys:
        x = tokens_after(backbone, source, 2 * unit + 1 if source else unit, images)
        y = tokens_after(backbone, target, 2 * unit + 1 if target else unit, images)
        design = torch.cat([x, torch.ones(len(x), 1)], dim=1)
        expected = torch.linalg.lstsq(design, y).solution
        layer = backbone.layer(LayerKey(source, target, unit))
        torch.testing.assert_close(layer.weight.double(), expected[:-1].T, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(layer.bias.double(), expected[-1], rtol=1e-4, atol=1e-5)
        assert layer.initialized


def test_batching_does_not_matter(backbone):
    images, weights = torch.randn(6, 3, 64, 64), []
    for size in (1, 4, 6):
        solve_stitching_layers(backbone, images.split(size))
        weights.append(backbone.layer(LayerKey(0, 1, 0)).weight.clone())
    torch.testing.assert_close(weights[0], weights[1])
    torch.testing.assert_close(weights[0], weights[2])


def test_only_the_asked_layers_change(backbone):
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    solve_stitching_layers(backbone, [torch.randn(6, 3, 64, 64)], [LayerKey(1, 0, 0)])
    changed = {k for k, v in backbone.state_dict().items() if not torch.equal(v, before[k])}
    prefix = "stitching_layers.1_to_0_after_0."
    assert changed == {prefix + name for name in ("weight", "bias", "initialized")}


def test_a_rank_deficient_batch_gives_finite_weights_and_says_so(backbone):
    solutions = solve_stitching_layers(backbone, [torch.randn(1, 3, 32, 32)])  # a few tokens
    for key, solution in solutions.items():
        assert solution.rank == 4 + backbone.anchor(0).prefix_tokens < solution.size
        assert torch.isfinite(backbone.layer(key).weight).all()


def test_a_chain_solves_both_pairs():
    anchors = [tiny_anchor(16, 2), tiny_anchor(24, 2), tiny_anchor(32, 4)]
    backbone = StitchedViT(anchors, img_size=64, out_indices=(1, 3), rank=2)
    solutions = solve_stitching_layers(backbone, [torch.randn(6, 3, 64, 64)])
    assert set(solutions) == set(backbone.space.layer_keys)
    assert all(layer.initialized for layer in backbone.stitching_layers.values())


def test_nan_says_where(backbone):
    images = torch.randn(4, 3, 64, 64)
    images[2, 0, 5, 5] = float("nan")
    with pytest.raises(UserError, match=r"initialization batch 1 holds NaN .* in its images"):
        solve_stitching_layers(backbone, images.split(2))
    backbone.anchors[1].vit.blocks[2].mlp.fc2.bias.data[0] = float("inf")
    message = "initialization batch 0: target tokens .* block 1 of anchor 0 .* block 3 of anchor 1"
    with pytest.raises(UserError, match=message):
        solve_stitching_layers(backbone, [torch.randn(2, 3, 64, 64)])


def test_no_images_are_refused(backbone):
    with pytest.raises(UserError, match="at least one batch"):
        solve_stitching_layers(backbone, [])


def test_a_layer_that_joins_share_gets_the_mean_of_their_solutions():
    """SN-Net's windows; what the entered block reads is the target, for block 0 the embedding."""
    anchors = [tiny_anchor(16, 3), tiny_anchor(24, 3)]
    backbone = StitchedViT(anchors, img_size=64, out_indices=(0, 2), space="one_way", rank=0).eval()
    images = torch.randn(12, 3, 64, 64)
    solve_stitching_layers(backbone, images.split(5))
    # (last block run, first block entered) of each layer; the last one only projects a level.
    joins = {
        0: [(0, 0), (0, 1), (1, 0), (1, 1)],
        1: [(1, 2), (2, 1), (2, 2)],
        2: [(2, 3)],
    }
    assert [key.unit for key in backbone.layer_keys] == [0, 1, 2]
    for unit, pairs in joins.items():
        solutions = []
        for last, entered in pairs:
            x = tokens_after(backbone, 0, last, images)
            y = tokens_after(backbone, 1, entered - 1, images)
            design = torch.cat([x, torch.ones(len(x), 1)], dim=1)
            solutions.append(torch.linalg.lstsq(design, y).solution)
        expected = torch.stack(solutions).mean(0)
        layer = backbone.layer(LayerKey(0, 1, unit))
        torch.testing.assert_close(layer.weight.double(), expected[:-1].T, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(layer.bias.double(), expected[-1], rtol=1e-4, atol=1e-5)
