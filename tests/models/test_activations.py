"""Activation memory measured on shapes, against what a pass on the CPU holds."""

import pytest
import torch

from mmsn.models import activation_bytes
from mmsn.models.tracing import LiveBytes
from tests.deploy.tiny import tiny_model
from tests.tiny import tiny_anchor, tiny_eva

MIXED = "vit_small_patch16_rope_mixed_224"


def anchors(small, large, **options):
    return dict(anchors=[tiny_anchor(small, 4, **options), tiny_anchor(large, 8, **options)])


@torch.no_grad()
@pytest.mark.parametrize(
    ("size", "batch", "options"),
    [
        ((64, 64), 1, dict()),  # narrow anchors: the image and its padded copy weigh most
        ((64, 64), 2, anchors(96, 192)),
        ((150, 90), 1, anchors(96, 192)),  # no multiple of the patch
        ((64, 96), 1, anchors(192, 256) | dict(out_indices=(1, 3, 5, 7))),
        ((96, 96), 1, anchors(96, 192, rel_pos_bias=True)),
        ((64, 64), 1, anchors(96, 192, mlp_ratio=1.0)),  # attention weighs most
        ((96, 64), 2, dict(anchors=[tiny_eva(96, 4), tiny_eva(192, 8)])),
        ((64, 64), 1, dict(anchors=[tiny_eva(96, 4, qkv_fused=False), tiny_eva(192, 8)])),
        ((64, 80), 1, dict(anchors=[tiny_eva(96, 4, name=MIXED), tiny_eva(192, 8, name=MIXED)])),
    ],
)
def test_it_is_what_a_pass_holds_to_the_byte(size, batch, options):
    model = tiny_model(**options)
    model.decode_head.in_index = 0
    expected = activation_bytes(model, size, batch)
    for stitch in model.backbone.space:
        with model.backbone.use_stitch(stitch.id):
            image = torch.zeros(batch, 3, *size)
            model(image, mode="tensor")  # position indices are made once and kept
            with LiveBytes() as memory:
                memory.add(image)
                model(image, mode="tensor")
        assert expected[stitch.id] == memory.peak


def test_half_precision_takes_half():
    model = tiny_model()
    full = activation_bytes(model, (64, 64))
    half = activation_bytes(model, (64, 64), dtype=torch.float16)
    assert {i: 2 * b for i, b in half.items()} == full
