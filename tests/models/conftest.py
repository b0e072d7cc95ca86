"""Small anchors, quick to run on a CPU."""

import pytest

from mmsn.models import StitchedViT


def tiny_anchor(dim, depth, **options):
    """A DeiT-3 of this width and depth, patch 16, two heads."""
    return dict(
        model_name="deit3_small_patch16_224", embed_dim=dim, depth=depth, num_heads=2, **options
    )


def tiny_eva(dim, depth, name="vit_small_plus_patch16_dinov3_qkvb", **options):
    """A DINOv3 with SwiGLU of this width and depth, one class token, four registers, two heads.

    Its layer scales are 1, where published ones start at 1e-5 and hide the blocks.
    """
    return dict(
        model_name=name, embed_dim=dim, depth=depth, num_heads=2, init_values=1.0, **options
    )


@pytest.fixture
def build():
    """Make a stitched backbone of depths (4, 8), widths (16, 24) unless told otherwise."""

    def make(anchors=None, **options):
        anchors = anchors or [tiny_anchor(16, 4), tiny_anchor(24, 8)]
        options = dict(img_size=64, out_indices=(1, 3, 5, 7), rank=2) | options
        backbone = StitchedViT(anchors, **options)
        for key in backbone.layer_keys:  # as after some training: the update is not zero
            layer = backbone.layer(key)
            if layer.rank:
                layer.lora_B.data.normal_()
        return backbone.eval()

    return make
