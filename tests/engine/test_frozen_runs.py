"""Frozen anchors of the ``Eva`` class in a Runner: they keep their weights, and runs continue."""

from pathlib import Path

import pytest
import torch

from tests.tiny import tiny_eva


@pytest.fixture
def frozen(run):
    """``frozen(**changes)`` is a Runner with two frozen DINOv3 anchors and AdamW."""
    anchors = [tiny_eva(16, 2), tiny_eva(24, 4)]
    changed = dict(anchors=anchors, freeze_anchors=True, with_cp=True)
    model = {f"model.backbone.{name}": value for name, value in changed.items()}
    model["model.decode_head.dropout_ratio"] = 0  # its random numbers are not resumed
    optimizer = {"optim_wrapper.optimizer": dict(type="AdamW", lr=0.01, _delete_=True)}

    def make(**changes):
        return run(**(model | optimizer | changes))

    return make


def test_a_frozen_run_continues_where_it_stopped(frozen):
    whole = frozen()
    whole.train()
    middle = Path(whole.work_dir) / "iter_2.pth"
    resumed = frozen(load_from=str(middle), resume=True)
    resumed.train()
    expected = whole.model.state_dict()
    before = torch.load(middle, weights_only=True)["state_dict"]
    for name, value in resumed.model.state_dict().items():
        assert torch.equal(value, expected[name]), name
        if ".anchors." in name:
            assert torch.equal(value, before[name]), name
    assert any(
        not torch.equal(expected[name], before[name]) for name in before if "stitching" in name
    )
    trained = {id(p) for p in whole.model.parameters() if p.requires_grad}
    state = whole.optim_wrapper.optimizer.state
    assert {id(p) for p in state} <= trained  # no moments of frozen weights
