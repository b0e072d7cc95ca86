"""Exported files: the segmentor's logits at any batch, in about as many bytes as its weights."""

import io
import json
import os
import zipfile
from pathlib import Path

import pytest
import torch
from packaging.version import Version

from mmsn.deploy import Predictor, export, extract, open_exported, open_stitch, save
from mmsn.deploy.exporting import check_request, crop_size
from mmsn.errors import MissingFile, UserError
from mmsn.models.opening import with_weights
from tests.deploy.conftest import small_config, trained
from tests.deploy.test_plain_anchor import run_without_mmsn

GRAPH_BYTES = 250_000  # of a network of a few blocks, whatever its width


def one_stitch(head, stitch, **anchor):
    """(segmentor of the stitch alone, its parameters' bytes)."""
    config = small_config(head, (4, 4))
    for spec in config.model.backbone.anchors:
        spec.update(anchor)
    meta = dict(classes=["a", "b"])
    model = with_weights(*extract(config, trained(config).state_dict(), [stitch]), meta)
    return model, sum(p.nbytes for p in model.parameters())


def logits(model, image):
    with torch.no_grad():
        return model.encode_decode(image, [dict(img_shape=image.shape[2:])])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "stitch", "size", "anchor"),
    [
        ("setr-naive", 9, (64, 64), dict(rel_pos_bias=True)),
        ("upernet", 2, (64, 80), {}),
    ],
)
def test_onnx_gives_the_same_logits_for_any_batch(head, stitch, size, anchor, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    import onnx

    model, weights = one_stitch(head, stitch, **anchor)
    path = export(model, tmp_path / "model.onnx", size)
    run = open_exported(path)
    for batch in (1, 3):
        image = torch.randn(batch, 3, *size)
        expected = logits(model, image)
        got = run(image)
        assert got.shape == expected.shape
        assert (got - expected).abs().max() <= 1e-4
    assert weights < path.stat().st_size < 1.05 * weights + GRAPH_BYTES
    onnx.checker.check_model(path)
    assert b"stack_trace" not in path.read_bytes()
    facts = {entry.key: json.loads(entry.value) for entry in onnx.load(path).metadata_props}
    assert facts["mean"] == [123.675, 116.28, 103.53]
    assert (facts["bgr_to_rgb"], facts["classes"]) == (True, ["a", "b"])


@pytest.mark.slow
@pytest.mark.parametrize(("head", "stitch"), [("setr-naive", 9), ("fpn", 2), ("upernet", 2)])
def test_height_and_width_are_free_where_the_head_allows_it(head, stitch, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model, _ = one_stitch(head, stitch)
    run = open_exported(export(model, tmp_path / "model.onnx", None))
    for size in ((64, 80), (67, 101), (128, 96)):
        image = torch.randn(1, 3, *size)
        expected = logits(model, image)
        assert (run(image) - expected).abs().max() <= 1e-4
    predictor, torch_one = Predictor.load(tmp_path / "model.onnx"), Predictor.of(model)
    picture = torch.randint(0, 255, (90, 150, 3), dtype=torch.uint8).numpy()
    assert predictor.spec.image_size is None
    assert abs(predictor.logits(picture) - torch_one.logits(picture)).max() <= 1e-4


def test_openvino_runs_the_file(tmp_path):
    openvino = pytest.importorskip("openvino", reason="needs mmsn[openvino]")
    pytest.importorskip("onnxscript")
    model, _ = one_stitch("setr-naive", 9)
    path = export(model, tmp_path / "model.onnx", (64, 64))
    hint = {"INFERENCE_PRECISION_HINT": "f32"}  # it would take bfloat16 where the CPU has it
    compiled = openvino.Core().compile_model(str(path), "CPU", hint)
    for batch in (1, 3):
        image = torch.randn(batch, 3, 64, 64)
        got = torch.from_numpy(compiled(image.numpy())[0])
        assert (got - logits(model, image)).abs().max() <= 1e-4


@pytest.mark.slow
@pytest.mark.skipif(
    Version(torch.__version__) < Version("2.5"), reason="PyTorch 2.4 needs one size for a .pt2"
)
def test_a_pt2_may_be_free_as_well(tmp_path):
    model, _ = one_stitch("setr-naive", 2)
    run = open_exported(export(model, tmp_path / "model.pt2", None))
    for size in ((64, 80), (66, 101), (128, 99)):
        image = torch.randn(1, 3, *size)
        assert (run(image) - logits(model, image)).abs().max() <= 1e-4


GUARD = torch._dynamo.exc.UserError(torch._dynamo.exc.UserErrorType.CONSTRAINT_VIOLATION, "a guard")


@pytest.mark.parametrize("refusal", [GUARD, AssertionError("side3 <= 5/2")], ids=["guard", "2.4"])
def test_a_head_that_needs_one_size_says_so(tmp_path, monkeypatch, refusal):
    model, _ = one_stitch("setr-naive", 0)

    def refuse(*args, **kwargs):
        raise refusal

    monkeypatch.setattr(torch.export, "export", refuse)
    message = "SETRUPHead or what is before it needs images of one size for this format: give"
    with pytest.raises(UserError, match=message):
        export(model, tmp_path / "model.pt2", None)
    assert not (tmp_path / "model.pt2").exists()


@pytest.mark.slow
def test_a_pt2_file_runs_where_mmsn_mmseg_and_timm_are_not_imported(tmp_path):
    model, weights = one_stitch("fpn", 0)
    path = export(model, tmp_path / "model.pt2", (64, 64))
    images = [torch.randn(batch, 3, 64, 64) for batch in (1, 3)]
    for got, image in zip(run_without_mmsn({path: images})[path], images, strict=True):
        assert (got - logits(model, image)).abs().max() <= 1e-5
    assert weights < path.stat().st_size < 1.05 * weights + 2 * GRAPH_BYTES


@pytest.mark.parametrize(("dtype", "bits"), [("float16", 11), ("bfloat16", 8)])
def test_half_precision_halves_the_file_and_rounds_to_its_bits(dtype, bits, tmp_path):
    model, weights = one_stitch("setr-naive", 2)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    path = export(model, tmp_path / "model.pt2", (64, 64), dtype)
    image = torch.randn(2, 3, 64, 64)
    expected, got = logits(model, image), open_exported(path)(image)
    assert got.dtype == torch.float32
    error = ((got - expected).norm() / expected.norm()).item()
    assert 2**-bits / 8 < error < 2**-bits * 16  # there is rounding, and it is that of this type
    assert path.stat().st_size < weights / 2 + 2 * GRAPH_BYTES
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_files_of_a_supernet_name_their_stitch(setr, tmp_path):
    config, model = setr
    path = save(tmp_path, *extract(config, model.state_dict(), [0, 2]))
    one = open_stitch(tmp_path / "config.py", path, 2)
    assert one.backbone.space.ids == (2,)
    assert crop_size(one.cfg) == (64, 64)
    assert open_stitch(tmp_path / "config.py", path, "middle").backbone.space.ids == (2,)
    with pytest.raises(UserError, match="has 2 stitches, of which one is wanted"):
        open_stitch(tmp_path / "config.py", path)
    with pytest.raises(UserError, match="'all' stands for 2 stitches, and one is wanted"):
        open_stitch(tmp_path / "config.py", path, "all")


@pytest.mark.parametrize(
    ("name", "precision", "message"),
    [
        ("model.pth", "float32", r"'model.pth' ends with none of \('.onnx', '.pt2'\)"),
        ("model.pt2", "float8", "precision 'float8' is unknown: use one of"),
        ("model.pt2", "int8", "let the file's name end with .onnx"),
        ("model.onnx", "bfloat16", "let the file's name end with .pt2"),
    ],
)
def test_what_cannot_be_written_is_refused(name, precision, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name.endswith(".onnx"):
        monkeypatch.setattr("mmsn.deploy.exporting.ONNX_PACKAGES", ())
    with pytest.raises(UserError, match=message):
        check_request(Path(name), precision)


def test_calibration_is_for_int8(setr, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    with pytest.raises(UserError, match="calibration is for int8, not for float16"):
        export(setr[1], tmp_path / "model.onnx", (64, 64), "float16", calibration=[])


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr("mmsn.deploy.exporting.ONNX_PACKAGES", ("onnx_that_is_not_there",))
    with pytest.raises(UserError, match=r"needs onnx_that_is_not_there.*mmsn\[export\]"):
        open_exported("model.onnx")


def test_pickled_code_in_a_pt2_is_refused_and_not_run(tmp_path):
    class Runs:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "code was run"),)

    inputs = (torch.ones(1, 2),)
    torch.export.save(torch.export.export(torch.nn.Linear(2, 2), inputs), tmp_path / "model.pt2")
    assert open_exported(tmp_path / "model.pt2")(*inputs).shape == (1, 2)
    hostile = io.BytesIO()
    torch.save((((*inputs, Runs()),), {}), hostile)
    with (
        zipfile.ZipFile(tmp_path / "model.pt2") as source,
        zipfile.ZipFile(tmp_path / "hostile.pt2", "w") as target,
    ):
        pickles = [name for name in source.namelist() if name.endswith(".pt")]
        assert pickles
        for name in source.namelist():
            target.writestr(name, hostile.getvalue() if name in pickles else source.read(name))
    with pytest.raises(UserError, match=r"hostile\.pt2' is not .* damaged \(UnpicklingError\)"):
        open_exported(tmp_path / "hostile.pt2")
    assert not (tmp_path / "code was run").exists()


def test_an_empty_image_and_a_file_of_another_kind_are_refused(setr, tmp_path, caplog, capfd):
    with pytest.raises(UserError, match=r"image_size \(0, 64\) is not allowed"):
        export(setr[1], tmp_path / "model.pt2", (0, 64))
    for name in ("model.pt2", "model.onnx"):
        if name.endswith(".onnx"):
            pytest.importorskip("onnxruntime")
            pytest.importorskip("onnxscript")
        with pytest.raises(MissingFile, match=f"{name}' does not exist"):
            open_exported(tmp_path / name)
        (tmp_path / name).write_bytes(b"hello")
        fault = f"{name}' is not a file that tools/export.py wrote, or .*: export or copy it again"
        with pytest.raises(UserError, match=fault):
            open_exported(tmp_path / name)
    assert "Traceback" not in caplog.text + capfd.readouterr().err
