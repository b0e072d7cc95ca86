"""Small stitched backbones, quick to run on a CPU."""

import pytest

from mmsn.models import StitchedViT
from tests.tiny import tiny_anchor


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
