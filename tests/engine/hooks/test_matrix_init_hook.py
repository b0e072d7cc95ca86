"""A run whose stitching layers start from matrices, and one that keeps what it has."""

import pytest
import safetensors.torch
import torch

from mmsn.errors import UserError
from mmsn.models import stitched_backbone
from mmsn.shrink.learngene import TransformationMatrices
from mmsn.shrink.transposed import named
from tests.engine.reading import log_of


@pytest.fixture
def matrices(tmp_path):
    """Of instances of widths 16 and 24, from an ancestor of width 32; and their file."""
    torch.manual_seed(0)
    pool = [TransformationMatrices(32, width, 1) for width in (16, 24)]
    safetensors.torch.save_file(named(pool), tmp_path / "matrices.safetensors")
    small, large = (one.blocks[0].weight.detach() for one in pool)
    return str(tmp_path / "matrices.safetensors"), large @ small.T


def custom_hooks(file):
    return [
        dict(type="mmsn.MatrixInitHook", matrices=file),
        dict(type="mmsn.FLOPsConstrainedSamplingHook"),
    ]


def test_layers_start_from_matrices_and_resumed_ones_stay(run, matrices):
    file, up = matrices
    runner = run(custom_hooks=custom_hooks(file))
    runner.train()
    assert f"Started 3 stitching layers from the matrices of {file}" in log_of(runner)
    assert "least squares" not in log_of(runner)
    backbone = stitched_backbone(runner.model)
    for key in backbone.layer_keys:  # W is frozen, so it is still what it started as
        expected = up if key.target else up.T
        assert torch.allclose(backbone.layer(key).weight, expected, atol=1e-6)

    again = run(
        custom_hooks=custom_hooks("gone.safetensors"), load_from=f"{runner.work_dir}/iter_4.pth"
    )
    again.train()
    assert "Started" not in log_of(again)


def test_matrices_of_another_pool_stop_the_run(run, tmp_path):
    other = named([TransformationMatrices(32, width, 1) for width in (16, 20)])
    safetensors.torch.save_file(other, tmp_path / "matrices.safetensors")
    runner = run(custom_hooks=custom_hooks(str(tmp_path / "matrices.safetensors")))
    with pytest.raises(UserError, match="do not join anchors of widths 16 and 24"):
        runner.train()
