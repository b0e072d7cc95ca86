"""The loss on every n-th pixel."""

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.models.decode_heads import SETRUPHead
from mmseg.structures import SegDataSample

from mmsn.errors import UserError
from mmsn.models import StridedSETRUPHead

OPTIONS = dict(
    in_channels=8,
    in_index=0,
    channels=8,
    num_convs=1,
    up_scale=2,
    kernel_size=3,
    num_classes=5,
    norm_cfg=dict(type="BN"),
    loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True),
)


def samples(labels):
    return [SegDataSample(gt_sem_seg=PixelData(data=one[None])) for one in labels]


@pytest.fixture
def labels():
    found = torch.randint(0, 5, (2, 12, 16), generator=torch.Generator().manual_seed(0))
    found[:, :3] = 255
    return found


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_the_loss_is_that_of_mmseg_on_fewer_pixels(labels, stride):
    logits = torch.randn(2, 5, 6, 8, generator=torch.Generator().manual_seed(1))
    ours = StridedSETRUPHead(**OPTIONS, label_stride=stride).loss_by_feat(logits, samples(labels))
    fewer = samples(labels[:, ::stride, ::stride].contiguous())
    theirs = SETRUPHead(**OPTIONS).loss_by_feat(logits, fewer)
    assert ours.keys() == {"loss_ce"}
    torch.testing.assert_close(ours["loss_ce"], theirs["loss_ce"])


def test_several_losses_are_summed_by_name(labels):
    logits = torch.randn(2, 5, 6, 8)
    one = StridedSETRUPHead(**OPTIONS).loss_by_feat(logits, samples(labels))["loss_ce"]
    double = OPTIONS | dict(loss_decode=[OPTIONS["loss_decode"]] * 2)
    two = StridedSETRUPHead(**double).loss_by_feat(logits, samples(labels))["loss_ce"]
    torch.testing.assert_close(two, 2 * one)


def test_a_stride_below_one_is_refused():
    with pytest.raises(UserError, match=r"label_stride 0 .* 1 or more"):
        StridedSETRUPHead(**OPTIONS, label_stride=0)
