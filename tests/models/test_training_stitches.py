"""Several stitches in one training step, each on its part of the batch."""

import pytest
import torch

from mmsn.errors import UserError
from mmsn.models import StitchedViT
from tests.tiny import tiny_anchor

SIZE = 32


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    anchors = [tiny_anchor(16, 2), tiny_anchor(24, 4)]
    return StitchedViT(anchors, SIZE, out_indices=(1, 3), rank=2).train()


@pytest.fixture
def images():
    return torch.randn(5, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def alone(backbone, images, stitch):
    with backbone.use_stitch(stitch):
        return backbone(images)


def test_each_part_of_the_batch_runs_its_stitch(backbone, images):
    backbone.set_training_stitches([1, 0, 2])
    levels = backbone(images)
    parts = images[:2], images[2:4], images[4:]
    expected = [alone(backbone, part, i) for part, i in zip(parts, (1, 0, 2), strict=True)]
    for level, of_parts in zip(levels, zip(*expected, strict=True), strict=True):
        assert torch.equal(level, torch.cat(of_parts))


def test_gradients_are_those_of_separate_passes(backbone, images):
    def gradients(outputs):
        backbone.zero_grad()
        sum(level.square().sum() for levels in outputs for level in levels).backward()
        return {n: p.grad.clone() for n, p in backbone.named_parameters() if p.grad is not None}

    backbone.set_training_stitches([1, 4])
    together = gradients([backbone(images)])
    apart = gradients([alone(backbone, images[:3], 1), alone(backbone, images[3:], 4)])
    assert together.keys() == apart.keys()
    for name, gradient in together.items():
        torch.testing.assert_close(gradient, apart[name], msg=name)


def test_class_tokens_are_joined_too(images):
    anchors = [tiny_anchor(16, 2), tiny_anchor(24, 4)]
    backbone = StitchedViT(anchors, SIZE, (1, 3), rank=2, output_cls_token=True).train()
    backbone.set_training_stitches([0, 1])
    for patches, class_token in backbone(images):
        assert len(patches) == len(class_token) == len(images)


def test_evaluation_runs_the_stitch_that_was_set(backbone, images):
    backbone.set_stitch(4)
    backbone.set_training_stitches([1, 0])
    backbone.eval()
    for level, expected in zip(backbone(images), alone(backbone, images, 4), strict=True):
        assert torch.equal(level, expected)


def test_a_stitch_that_is_set_ends_the_mixture(backbone, images):
    backbone.set_training_stitches([1, 0])
    backbone.set_stitch(2)
    assert [stitch.id for stitch in backbone.training_stitches] == [2]
    assert torch.equal(backbone(images)[1], alone(backbone, images, 2)[1])


def test_a_batch_of_fewer_images_than_stitches_is_refused(backbone, images):
    backbone.set_training_stitches([1, 0, 2])
    with pytest.raises(UserError, match="a batch of 2 images cannot train 3 stitches at once"):
        backbone(images[:2])


def test_an_unknown_stitch_is_refused(backbone):
    with pytest.raises(UserError, match="stitch 77 is unknown"):
        backbone.set_training_stitches([0, 77])
