"""The arithmetic of the script beside an ONNX file: that of PyTorch, of OpenCV and of mmseg."""

import subprocess
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from mmengine.config import ConfigDict
from torch.nn import functional as F

from mmsn.models.image_logits import sliding_boxes

pytest.importorskip("onnxruntime")
onnx_predict = pytest.importorskip("mmsn.deploy.onnx_predict")

SIZES = [((7, 9), (14, 18)), ((20, 31), (9, 10)), ((5, 5), (5, 5)), ((1, 6), (4, 3))]


@pytest.mark.parametrize(("old", "new"), SIZES)
@pytest.mark.parametrize("align_corners", [False, True])
def test_floats_are_resized_as_by_pytorch(old, new, align_corners):
    image = torch.randn(3, *old)
    expected = F.interpolate(image[None], new, mode="bilinear", align_corners=align_corners)[0]
    found = onnx_predict.resize(image.numpy(), new, align_corners)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


side = st.integers(1, 90)


@given(old=st.tuples(side, side), new=st.tuples(side, side))
@example(old=(7, 9), new=(14, 18))  # first and last rows, which OpenCV blends with themselves
@example(old=(20, 30), new=(10, 15))  # halves, for which OpenCV takes means of areas
@example(old=(480, 640), new=(512, 683))  # positions that float32 rounds
def test_pixels_are_resized_bit_for_bit_as_by_opencv(old, new):
    image = np.random.default_rng(0).integers(0, 256, (*old, 3), np.uint8)
    expected = cv2.resize(image, new[::-1], interpolation=cv2.INTER_LINEAR).transpose(2, 0, 1)
    found = onnx_predict.resize(image.transpose(2, 0, 1).astype(int), new)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["-h"], 0, "FILE FILE"),
        ([], 2, "error: the following arguments are required: FILE"),
        (["model.onnx"], 2, "error: the following arguments are required: FILE"),
    ],
)
def test_the_script_says_what_it_takes(words, code, line):
    command = [sys.executable, onnx_predict.__file__, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert line in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"hello", "Protobuf parsing failed"), (b"", "No graph was found"), (None, "doesn't exist")],
)
def test_a_model_that_cannot_be_opened_is_one_line(content, reason, tmp_path):
    if content is not None:
        (tmp_path / "m.onnx").write_bytes(content)
    command = [sys.executable, onnx_predict.__file__, str(tmp_path / "m.onnx"), "street.jpg"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert reason in line
    assert str(tmp_path / "m.onnx") in line
    assert line.endswith("Export or copy it again.")


def test_another_programs_model_is_one_line(tmp_path):
    onnx = pytest.importorskip("onnx")
    value = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1]) for n in "xy"]
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "g", value[:1], value[1:])
    opset = [onnx.helper.make_opsetid("", 17)]
    path = tmp_path / "m.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    command = [sys.executable, onnx_predict.__file__, str(path), "street.jpg"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"error: {path} was not exported by mmsn. Export or copy it again.\n"


def predictor(spec):
    """One whose network doubles the first channel, and the shapes that it was given."""
    seen = []

    def run(_, inputs):
        seen.append(inputs["input"].shape[2:])
        return [2 * inputs["input"][:, :1]]

    made = onnx_predict.Predictor.__new__(onnx_predict.Predictor)
    outputs = [SimpleNamespace(shape=[1, 1, "h", "w"])]
    made.session = SimpleNamespace(run=run, get_outputs=lambda: outputs)
    made.spec = dict(image_size=None, crop_size=None, stride=None) | spec
    return made, seen


@pytest.mark.parametrize(
    ("size", "crop", "stride"), [((10, 12), (6, 6), (4, 4)), ((5, 20), (8, 10), (4, 10))]
)
def test_windows_are_those_of_mmseg_and_average_where_they_overlap(size, crop, stride):
    made, seen = predictor(dict(crop_size=crop, stride=stride))
    pixels = np.random.default_rng(0).normal(size=(3, *size)).astype(np.float32)
    np.testing.assert_allclose(made.windows(pixels), 2 * pixels[:1], rtol=1e-6)
    boxes = sliding_boxes(size, ConfigDict(crop_size=crop, stride=stride))
    assert seen == [(b.bottom - b.top, b.right - b.left) for b in boxes]


def test_a_file_of_one_size_refuses_others():
    made, _ = predictor(dict(image_size=[8, 8]))
    assert made.windows(np.ones((3, 8, 8), np.float32)).shape == (1, 8, 8)
    with pytest.raises(SystemExit, match=r"error: the model takes \[8, 8\], not a \(8, 9\) window"):
        made.windows(np.ones((3, 8, 9), np.float32))
