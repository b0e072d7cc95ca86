"""A label channel beside a stem is a stem with four channels."""

import copy

import pytest
import torch
from mmseg.registry import MODELS
from torch import nn

from mmsn.errors import UserError
from mmsn.models import StitchedViT
from mmsn.models.label_assisted.stem import LabelStems
from tests.tiny import tiny_anchor


def test_it_is_one_convolution_over_four_channels():
    conv = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=True)
    whole = nn.Conv2d(4, 8, 3, stride=2, padding=1, bias=True)
    with torch.no_grad():
        whole.weight[:, :3], whole.bias[:] = conv.weight, conv.bias
    stems = LabelStems(nn.Sequential(conv))
    stems[0].weight.data.copy_(whole.weight[:, 3:].detach())
    image = torch.randn(2, 4, 9, 9)
    assert torch.allclose(conv(image), whole(image), atol=1e-6)


@pytest.fixture
def backbone():
    anchors = [tiny_anchor(16, 2), tiny_anchor(24, 4)]
    return StitchedViT(anchors, img_size=32, out_indices=(3,), rank=2)


def test_every_anchor_of_a_stitched_backbone_sees_the_labels(backbone):
    keys = set(backbone.state_dict())
    image = torch.randn(4, 4, 32, 28)  # padded to whole patches inside
    plain = [_run(backbone, image[:, :3], i) for i in (0, 1)]
    stems = LabelStems(backbone)
    assert len(stems) == 2
    assert set(backbone.state_dict()) == keys
    for stitch in (0, 1):
        assert torch.equal(_run(backbone, image, stitch), plain[stitch])  # zero at first
        nn.init.normal_(stems[stitch].weight)
        assert not torch.isclose(_run(backbone, image, stitch), plain[stitch]).any()
        assert torch.equal(_run(backbone, image[:, :3], stitch), plain[stitch])


def _run(backbone, image, stitch):
    with torch.no_grad(), backbone.eval().use_stitch(stitch):
        return backbone(image)[0]


def test_each_part_of_a_batch_keeps_its_own_labels(backbone):
    for stem in LabelStems(backbone):
        nn.init.normal_(stem.weight)
    image = torch.randn(4, 4, 32, 32)
    alone = [_run(backbone, image[:2], 0), _run(backbone, image[2:], 1)]
    backbone.train().set_training_stitches((0, 1))
    assert torch.allclose(backbone(image)[0], torch.cat(alone), atol=1e-5)


def test_a_copy_has_label_stems_of_its_own():
    model = nn.Module()
    model.conv = nn.Conv2d(3, 4, 1)
    model.stems = LabelStems(model.conv)
    twin = copy.deepcopy(model)
    nn.init.ones_(model.stems[0].weight)
    image = torch.ones(1, 4, 2, 2)
    assert torch.allclose(model.conv(image), twin.conv(image) + 1)


def test_another_backbone_of_mmseg():
    resnet = MODELS.build(dict(type="ResNetV1c", depth=18))
    resnet.eval()  # of mmseg, this returns None
    stems = LabelStems(resnet)
    nn.init.normal_(stems[0].weight)
    image = torch.randn(1, 4, 32, 32)
    with torch.no_grad():
        assert not torch.isclose(resnet(image)[0], resnet(image[:, :3])[0]).all()


def test_a_backbone_without_a_stem_is_refused():
    with pytest.raises(UserError, match="no Conv2d that reads three channels"):
        LabelStems(nn.Linear(3, 4))
