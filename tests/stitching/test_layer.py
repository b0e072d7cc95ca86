"""The low-rank stitching layer: its numbers, what trains, and what a checkpoint holds."""

import pytest
import torch

from mmsn.errors import UserError
from mmsn.stitching import StitchingLayer


def trained_layer(rank=4):
    layer = StitchingLayer(6, 9, rank=rank, alpha=2.0)
    for p in layer.parameters():
        torch.nn.init.normal_(p)
    return layer


def test_forward_is_the_affine_map_plus_the_scaled_update():
    layer, x = trained_layer(), torch.randn(2, 5, 6)
    weight = layer.weight + 2.0 / 4 * layer.lora_B @ layer.lora_A
    torch.testing.assert_close(layer(x), x @ weight.T + layer.bias)
    torch.testing.assert_close(layer.merged_weight(), weight)


def test_a_new_update_is_zero_and_only_w_is_frozen():
    layer = StitchingLayer(6, 9, rank=2)
    assert layer.lora_B.abs().sum() == 0
    assert layer.lora_A.abs().sum() > 0
    trained = {name for name, p in layer.named_parameters() if p.requires_grad}
    assert trained == {"bias", "lora_A", "lora_B"}


def test_rank_zero_is_an_ordinary_layer():
    layer = StitchingLayer(6, 9, rank=0)
    assert {n for n, p in layer.named_parameters() if p.requires_grad} == {"weight", "bias"}
    assert layer.merged_weight() is layer.weight


@pytest.mark.parametrize("saved_in_training", [True, False])
@pytest.mark.parametrize("loaded_in_training", [True, False])
def test_modes_of_saving_and_loading_do_not_change_outputs(saved_in_training, loaded_in_training):
    layer, x = trained_layer(), torch.randn(2, 5, 6)
    expected = layer(x)
    state = {k: v.clone() for k, v in layer.train(saved_in_training).state_dict().items()}
    other = StitchingLayer(6, 9, rank=4, alpha=2.0).train(loaded_in_training)
    other.load_state_dict(state)
    for training in (True, False, True):
        assert torch.equal(other.train(training)(x), expected)


def test_state_dict_keys_are_pinned():
    assert list(StitchingLayer(6, 9, rank=2).state_dict()) == [
        "weight",
        "bias",
        "lora_A",
        "lora_B",
        "initialized",
    ]


def test_set_affine_makes_the_layer_exactly_this_map():
    layer = trained_layer()
    weight, bias, x = torch.randn(9, 6), torch.randn(9), torch.randn(3, 6)
    assert not layer.initialized
    layer.set_affine(weight, bias)
    torch.testing.assert_close(layer(x), x @ weight.T + bias)
    assert layer.initialized


@pytest.mark.parametrize("rank", [-1, 7])
def test_a_rank_out_of_range_is_refused(rank):
    with pytest.raises(UserError, match=f"rank {rank} .* use 0 .* to 6"):
        StitchingLayer(6, 9, rank=rank)


@pytest.mark.parametrize("fault", ["shape", "missing"])
def test_a_checkpoint_whose_map_does_not_fit_leaves_the_layer_uninitialized(fault):
    from mmengine.runner.checkpoint import load_state_dict

    layer = trained_layer()
    layer.set_affine(torch.randn(9, 6), torch.randn(9))
    state = layer.state_dict()
    if fault == "shape":
        state["weight"] = torch.randn(12, 6)
    else:
        del state["weight"]
    other = StitchingLayer(6, 9, rank=4)
    load_state_dict(other, state, strict=False)  # as mmengine's load_from does
    assert not other.initialized
    load_state_dict(other, layer.state_dict())
    assert other.initialized
