"""Labels that are made one class at a time are those of mmseg, pixel by pixel."""

import copy
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.models.segmentors import EncoderDecoder
from mmseg.structures import SegDataSample
from torch.nn import functional as F

from mmsn.models import image_logits
from mmsn.models.image_logits import sliding_boxes
from mmsn.models.label_prediction import LabelStep, predicts_like_mmseg
from mmsn.registry import MODELS


@cache
def plain():
    """A small network; only its methods matter here."""
    return MODELS.build(
        dict(
            type="mmseg.EncoderDecoder",
            data_preprocessor=dict(
                type="mmseg.SegDataPreProcessor", mean=[120.0] * 3, std=[60.0] * 3
            ),
            backbone=dict(type="mmseg.ERFNet"),
            decode_head=dict(type="mmseg.FCNHead", in_channels=16, channels=8, num_classes=2),
        )
    )


def build(channels=7, align_corners=False, spread=1.0, test_cfg=None, divisor=None):
    """An ``EncoderDecoder`` whose logits are one convolution of the image, of stride 8."""
    model = copy.deepcopy(plain())
    head = model.decode_head
    model.align_corners = head.align_corners = align_corners
    model.out_channels = head.out_channels = channels
    head.threshold = 0.4 if channels == 1 else None
    model.test_cfg = ConfigDict(test_cfg or dict(mode="whole"))
    model.data_preprocessor.test_cfg = divisor and dict(size_divisor=divisor)
    weight, bias = torch.randn(channels, 3, 8, 8) / 8, spread * torch.randn(channels)

    def logits(image):
        height, width = image.shape[2:]
        image = F.pad(image, (0, -width % 8, 0, -height % 8))
        return F.conv2d(image, weight, bias, stride=8)

    model.extract_feat = logits
    model.decode_head.forward = lambda features: features
    return model.eval()


def batch_of(sizes, original, **meta):
    """Images of these sizes, and the meta information that mmseg's transforms give them."""
    samples = [
        SegDataSample(
            metainfo=dict(
                img_shape=size, pad_shape=size, ori_shape=original[i % len(original)], **meta
            ),
            gt_sem_seg=PixelData(data=torch.zeros(1, *original[i % len(original)])),
        )
        for i, size in enumerate(sizes)
    ]
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in sizes]
    return dict(inputs=images, data_samples=samples)


def agree(model, batch):
    """mmseg's labels and ours; equal, in one type and place."""
    assert predicts_like_mmseg(model)
    with torch.no_grad():
        expected = model.test_step(copy.deepcopy(batch))
        found = LabelStep(model, copy.deepcopy(batch))()
    for ours, theirs in zip(found, expected, strict=True):
        a, b = ours.pred_sem_seg.data, theirs.pred_sem_seg.data
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
        assert torch.equal(ours.gt_sem_seg.data, theirs.gt_sem_seg.data)
        assert ours.metainfo == theirs.metainfo
        assert "seg_logits" not in ours
    return [sample.pred_sem_seg.data for sample in found]


side = st.integers(20, 90)
SLIDE = dict(mode="slide", crop_size=(40, 56), stride=(24, 30))


@settings(max_examples=60)
@given(
    size=st.tuples(side, side),
    original=st.tuples(*[st.tuples(st.integers(20, 200), st.integers(20, 200))] * 2),
    batch=st.integers(1, 2),
    channels=st.sampled_from([1, 2, 3, 4, 9, 40]),
    align_corners=st.booleans(),
    spread=st.sampled_from([0.0, 1.0, 5.0]),
    slide=st.booleans(),
    flip=st.sampled_from([None, "horizontal", "vertical"]),
    divisor=st.sampled_from([None, 32]),
    seed=st.integers(0, 1000),
)  # fmt: skip
def test_labels_are_those_of_mmseg(
    size, original, batch, channels, align_corners, spread, slide, flip, divisor, seed
):
    torch.manual_seed(seed)
    model = build(channels, align_corners, spread, SLIDE if slide else None, divisor)
    agree(
        model,
        batch_of([size] * batch, original, flip=flip is not None, flip_direction=flip),
    )


@pytest.mark.parametrize("original", [(96, 128), (480, 640), (97, 131)])
def test_classes_pass_one_at_a_time_and_losers_are_skipped(original, monkeypatch):
    seen = []
    whole = image_logits.ImageLogits.full
    monkeypatch.setattr(
        image_logits.ImageLogits,
        "full",
        lambda self, start, stop: seen.append((start, stop)) or whole(self, start, stop),
    )
    model = build(channels=30, spread=4.0)
    labels = agree(model, batch_of([(96, 128)], [original]))[0]
    assert all(stop == start + 1 for start, stop in seen)
    assert set(labels.unique().tolist()) <= {start for start, _ in seen}
    assert 0 < len(seen) < 15


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_logits_that_are_not_finite(bad):
    model = build(channels=6)
    logits = model.extract_feat
    spoiled = lambda image: logits(image).index_fill(1, torch.tensor([3]), bad)  # noqa: E731
    model.extract_feat = spoiled
    agree(model, batch_of([(64, 96)], [(120, 160)]))


def test_equal_logits_give_the_first_class():
    model = build(channels=6, spread=0.0)
    logits = model.extract_feat
    model.extract_feat = lambda image: logits(image)[:, [0, 1, 2, 0, 1, 2]]
    labels = agree(model, batch_of([(64, 96)], [(120, 160)]))[0]
    assert set(labels.unique().tolist()) <= {0, 1, 2}


def test_channels_last_and_mixed_precision():
    model = build(channels=12)
    batch = batch_of([(64, 96)], [(120, 160)])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        agree(model, batch)
    logits = model.extract_feat
    model.extract_feat = lambda image: logits(image).contiguous(memory_format=torch.channels_last)
    agree(model, batch)


def test_a_head_that_resizes_its_own_way_keeps_it():
    model = build(channels=12)
    head = model.decode_head
    head.predict = lambda features, metas, cfg: F.interpolate(features, (64, 96), mode="nearest")
    agree(model, batch_of([(64, 96)], [(120, 160)]))


def test_a_kernel_that_differs_when_channels_come_alone_is_not_used(monkeypatch):
    model, seen = build(channels=12), []
    monkeypatch.setattr(image_logits, "_one_by_one", lambda *_, **__: False)
    monkeypatch.setattr(image_logits, "running_argmax", lambda *_: seen.append(1))
    agree(model, batch_of([(64, 96)], [(120, 160)]))
    assert not seen


def test_models_with_methods_of_their_own_are_told_apart():
    class Own(EncoderDecoder):
        def inference(self, inputs, batch_img_metas):
            return super().inference(inputs, batch_img_metas)

    model = build()
    assert predicts_like_mmseg(model)
    model.__class__ = Own
    assert not predicts_like_mmseg(model)
    replaced = build()
    replaced.test_step = lambda data: []
    assert not predicts_like_mmseg(replaced)
    hooked = build()
    hooked.register_forward_hook(lambda *_: None)
    assert not predicts_like_mmseg(hooked)


def test_windows_are_those_of_mmseg():
    model, seen = build(test_cfg=SLIDE), []
    logits = model.extract_feat
    model.extract_feat = lambda image: seen.append(image) or logits(image)
    image = torch.arange(3 * 85 * 101.0).view(1, 3, 85, 101)
    metas = [dict(ori_shape=(85, 101), img_shape=(85, 101))]
    EncoderDecoder.slide_inference(model, image, metas)
    boxes = sliding_boxes((85, 101), model.test_cfg)
    assert len(boxes) == len(seen) == 9
    assert all(
        torch.equal(image[(..., *b.area)], crop) for b, crop in zip(boxes, seen, strict=True)
    )
