"""8 bits: integer weights within half a step of the true ones, and scales that images fix."""

import pytest
import torch

from mmsn.deploy import export, open_exported
from mmsn.deploy.quantization import quantize
from mmsn.stitching import StitchingLayer
from tests.deploy.test_exporting import logits, one_stitch

SIZE = (64, 64)

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
onnx = pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(segmentor, its file in float32)"""
    torch.manual_seed(0)
    model, _ = one_stitch("setr-naive", 9)
    return model, export(model, tmp_path_factory.mktemp("whole") / "model.onnx", SIZE)


def error_of(file, model, images):
    expected = logits(model, images)
    return ((open_exported(file)(images) - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("static", [False, True], ids=["dynamic", "static"])
def test_linear_layers_are_integers_and_predict_nearly_the_same(static, whole, tmp_path):
    model, path = whole
    images, small = torch.randn(8, 3, *SIZE), tmp_path / "int8.onnx"
    quantize(path, small, [image[None].numpy() for image in images] if static else None)
    assert 1e-4 < error_of(small, model, images[:3]) < 0.5  # integers ran, on the same network
    before = {tensor.name: tensor for tensor in onnx.load(path).graph.initializer}
    after = {tensor.name: tensor for tensor in onnx.load(small).graph.initializer}
    quantized = [name for name in before if f"{name}_quantized" in after]
    linear = (torch.nn.Linear, StitchingLayer)
    layers = sum(isinstance(module, linear) for module in model.modules())
    weights = [name for name in quantized if before[name].dims[1:]]
    assert len(weights) == layers
    for name in weights:
        weight = torch.tensor(onnx.numpy_helper.to_array(before[name]))
        integers, scale = (
            torch.tensor(onnx.numpy_helper.to_array(after[f"{name}_{part}"]))
            for part in ("quantized", "scale")
        )
        assert integers.dtype == torch.int8
        assert ((integers * scale - weight).abs() <= 0.51 * scale).all()
    kinds = {node.op_type for node in onnx.load(small).graph.node}
    assert ("DynamicQuantizeLinear" in kinds) is not static
    said, kept = ({e.key: e.value for e in onnx.load(f).metadata_props} for f in (path, small))
    assert said.items() <= kept.items()


def test_static_scales_are_those_of_the_calibration_images(whole, tmp_path):
    model, path = whole
    images = torch.randn(8, 3, *SIZE)
    errors = {}
    for name, factor in (("alike", 1), ("pale", 0)):
        quantize(path, tmp_path / f"{name}.onnx", [(factor * x)[None].numpy() for x in images])
        errors[name] = error_of(tmp_path / f"{name}.onnx", model, images)
    assert errors["pale"] > 1.5 * errors["alike"]
