"""Two real pretrained ViTs of depth 12, where their files lie beside the project."""

import os
from pathlib import Path

import pytest
import torch

from mmsn.engine import solve_stitching_layers
from mmsn.models import StitchedViT

BESIDE = Path(__file__).resolve().parents[3] / "shared" / "weights"
WEIGHTS = Path(os.environ.get("MMSN_WEIGHTS", BESIDE))
FILES = [
    WEIGHTS / f"{name}.fp16.safetensors" for name in ("deit_tiny_patch16_224", "dinov2_vits14")
]

pytestmark = pytest.mark.skipif(
    not all(file.is_file() for file in FILES),
    reason=f"needs {FILES[0].name} and {FILES[1].name} in {WEIGHTS} (or MMSN_WEIGHTS)",
)


@pytest.fixture(scope="module")
def backbone():
    """DeiT-Ti resampled to patch 14, and a ViT-S/14 of DINOv2's shape."""
    anchors = [
        dict(model_name="deit_tiny_patch16_224", patch_size=14, checkpoint=str(FILES[0])),
        dict(model_name="vit_small_patch14_dinov2", checkpoint=str(FILES[1])),
    ]
    backbone = StitchedViT(anchors, img_size=(112, 140), out_indices=(2, 5, 8, 11))
    backbone.init_weights()
    return backbone.eval()


def test_every_tensor_fits_and_the_grid_is_shared(backbone):
    assert [a.vit.pos_embed.shape for a in backbone.anchors] == [(1, 81, 192), (1, 81, 384)]
    assert backbone.space.depths == (12, 12)
    assert len(backbone.space) == 134


def test_least_squares_explains_most_of_the_other_anchors_tokens(backbone):
    images = torch.nn.functional.interpolate(torch.randn(24, 3, 9, 11), (112, 140))
    solutions = solve_stitching_layers(backbone, images.split(8))
    assert len(solutions) == 23
    for solution in solutions.values():
        assert solution.rank == solution.size
        assert solution.error < 0.7
        assert torch.isfinite(solution.weight).all()


@torch.no_grad()
def test_some_stitches_of_real_weights_run_on_another_size(backbone):
    for stitch in (0, 1, 7, 20, 50, 100):
        with backbone.use_stitch(stitch):
            maps = backbone(torch.randn(1, 3, 70, 100))
        assert [m.shape for m in maps] == [(1, 384, 5, 8)] * 4
        assert all(torch.isfinite(m).all() for m in maps)
