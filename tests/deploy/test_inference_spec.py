"""How a segmentor is run, as data: sizes as mmcv computes them, windows of a file, and its JSON."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmcv import rescale_size
from mmengine.config import Config

from mmsn.deploy.inference_spec import InferenceSpec, _resize_of
from mmsn.errors import UserError

SPEC = InferenceSpec(
    mean=(1.0, 2.0, 3.0),
    std=(4.0, 5.0, 6.0),
    bgr_to_rgb=True,
    scale=(64, 32),
    keep_ratio=True,
    size_divisor=1,
    pad_val=0,
    mode="slide",
    crop_size=(30, 40),
    stride=(20, 10),
    flip=False,
    align_corners=False,
    num_classes=2,
    threshold=None,
    max_depth=None,
    classes=("a", "b"),
    palette=((0, 0, 0), (255, 0, 0)),
)
side = st.integers(1, 3000)


@given(scale=st.tuples(side, side), size=st.tuples(side, side))
def test_the_test_size_is_that_of_mmcv(scale, size):
    width, height = rescale_size(size[::-1], scale)
    assert replace(SPEC, scale=scale).test_size(*size) == (height, width)


def test_other_test_sizes():
    assert replace(SPEC, keep_ratio=False).test_size(7, 9) == (32, 64)
    assert replace(SPEC, scale=None).test_size(7, 9) == (7, 9)


def test_windows_of_a_file_have_its_size_and_the_same_overlap():
    spec = SPEC.for_file((60, 20))
    assert (spec.image_size, spec.crop_size, spec.stride) == ((60, 20), (60, 20), (40, 5))
    assert SPEC.for_file((1, 1)).stride == (1, 1)  # at least a pixel
    assert SPEC.for_file(None) == SPEC
    whole = replace(SPEC, mode="whole", crop_size=None, stride=None)
    assert whole.for_file((60, 20)) == replace(whole, image_size=(60, 20))


def test_what_is_written_is_read():
    texts = SPEC.to_metadata()
    assert InferenceSpec.from_metadata(texts, "x.onnx") == SPEC
    for broken in ({"mmsn": "1"}, {"mean": "[1"}):
        with pytest.raises(UserError, match=r"'x\.onnx' does not say how images are prepared"):
            InferenceSpec.from_metadata(texts | broken, "x.onnx")
    with pytest.raises(UserError, match=r"KeyError\('stride'\).*export it again"):
        InferenceSpec.from_metadata({k: v for k, v in texts.items() if k != "stride"}, "x.onnx")


def pipeline(*steps):
    return Config(dict(test_pipeline=[dict(type="LoadImageFromFile"), *steps]))


def test_a_pipeline_may_resize_once():
    assert _resize_of(pipeline()) == (None, False)
    resize = dict(type="mmcv.Resize", scale=(64, 32), keep_ratio=True)
    assert _resize_of(pipeline(resize, dict(type="PackSegInputs"))) == ((64, 32), True)
    assert _resize_of(pipeline(dict(type="Resize", scale=48))) == ((48, 48), False)
    with pytest.raises(UserError, match=r"has Resize\(.*a predictor can only resize, once"):
        _resize_of(pipeline(resize, resize))


def test_the_pipeline_of_a_config_with_a_base_of_mmseg_is_read(tmp_path):
    file = tmp_path / "c.py"
    file.write_text('_base_ = "mmseg::upernet/upernet_r50_4xb4-160k_ade20k-512x512.py"\n')
    assert _resize_of(Config.fromfile(file)) == ((2048, 512), True)  # steps carry a _scope_
