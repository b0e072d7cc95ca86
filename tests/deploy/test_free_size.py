"""Modules for images of any size give what those that they replace give."""

import pytest
import torch
from mmseg.models.utils import Upsample
from torch import nn

from mmsn.deploy.free_size import FreePool, FreeUpsample, free_modules


@pytest.mark.parametrize("count", [1, 2, 3, 6, (2, 5)])
def test_pooling_of_free_sizes_is_that_of_pytorch(count):
    pool = torch.nn.AdaptiveAvgPool2d(count)
    for size in ((6, 6), (7, 11), (1, 4), (13, 5)):
        maps = torch.randn(2, 3, *size)
        torch.testing.assert_close(FreePool(pool)(maps), pool(maps), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("align_corners", [False, True])
def test_upsampling_of_free_sizes_is_that_of_mmseg(align_corners):
    source = Upsample(scale_factor=2, mode="bilinear", align_corners=align_corners)
    for size in ((6, 6), (7, 11)):
        maps = torch.randn(2, 3, *size)
        assert torch.equal(FreeUpsample(source)(maps), source(maps))


def test_only_what_fixes_the_size_is_exchanged():
    model = nn.Sequential(
        nn.Sequential(nn.AdaptiveAvgPool2d(2), Upsample(scale_factor=4, mode="nearest")),
        Upsample(scale_factor=1.5, mode="nearest"),  # no whole factor
        nn.Conv2d(1, 1, 1),
    )
    free_modules(model)
    kinds = [type(module) for module in model.modules() if not isinstance(module, nn.Sequential)]
    assert kinds == [FreePool, FreeUpsample, Upsample, nn.Conv2d]
