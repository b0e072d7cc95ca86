"""One predictor for every backend: mmseg's own labels from PyTorch, and the same from files."""

import dataclasses
import json
import os
import subprocess
import sys
import types

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.apis import inference_model, init_model
from PIL import Image

from mmsn.deploy import Budget, InferenceSpec, Predictor, StitchMenu, export, extract, save
from mmsn.deploy.exporting import check_request
from mmsn.deploy.predictor import read_image
from mmsn.errors import MissingFile, UserError
from mmsn.models.opening import with_weights
from tests.deploy.tiny import tiny_config, tiny_model
from tests.models.dense_models import DEPTH_MODEL, MULTI_TASK_MODEL

SLIDE = dict(mode="slide", crop_size=(32, 32), stride=(21, 21))
CLASSES = dict(classes=list("abcde"), palette=[[40 * i] * 3 for i in range(5)])


def picture(height, width, seed=0):
    """Colored shapes: smooth and with edges, as photos are."""
    rng = np.random.default_rng(seed)
    image = cv2.resize(rng.integers(0, 255, (5, 6, 3)).astype(np.uint8), (width, height))
    cv2.circle(image, (width // 2, height // 3), height // 5, (250, 20, 90), -1)
    return image


def config_for(test_cfg=None, resize=None, **preprocessor):
    config = tiny_config()
    if resize:
        config.test_pipeline.insert(1, dict(type="Resize", **resize))
    config.model.test_cfg = test_cfg or dict(mode="whole")
    config.model.data_preprocessor.update(preprocessor)
    return config


def model_for(*args, **options):
    """A model of one config with random weights that tell stitches apart."""
    config = config_for(*args, **options)
    model = with_weights(Config(config.to_dict()), tiny_model().state_dict(), CLASSES)
    with model.backbone.use_stitch(6):  # every class should win somewhere
        mean = Predictor.of(model).logits(picture(64, 64)).mean((1, 2))
    model.decode_head.conv_seg.bias.data -= torch.from_numpy(mean)
    return model


CASES = {
    "whole, stretched": (None, dict(scale=(96, 64), keep_ratio=False), {}),
    "slide": (SLIDE, None, {}),
    "slide, scaled": (SLIDE, dict(scale=(160, 45), keep_ratio=True), {}),
    "slide, BGR": (SLIDE, None, dict(bgr_to_rgb=False, mean=None, std=None)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("size", [(41, 57), (96, 33), (32, 32)], ids=str)
def test_labels_are_those_of_mmseg(case, size):
    test_cfg, resize, other = CASES[case]
    model, image = model_for(test_cfg, resize, **other), picture(*size)
    for stitch in (0, 6):
        with model.backbone.use_stitch(stitch):
            expected = inference_model(model, image[..., ::-1]).pred_sem_seg.data[0].numpy()
        got = Predictor.of(model)(image, stitch)
        assert got.shape == size
        assert got.dtype == np.int64
        assert stitch != 6 or len(np.unique(expected)) > 1
        assert np.array_equal(got, expected)


def test_padding_is_cut_off_again():
    model = model_for()
    model.data_preprocessor.test_cfg = dict(size_divisor=32)
    model.cfg.model.data_preprocessor.test_cfg = dict(size_divisor=32)
    image = picture(41, 57)
    expected = inference_model(model, image[..., ::-1]).pred_sem_seg.data[0].numpy()
    assert np.array_equal(Predictor.of(model)(image), expected)


@pytest.mark.parametrize("multi", [False, True], ids=["depth", "multi-task"])
@pytest.mark.parametrize("flip", [False, True])
def test_depth_is_that_of_mmseg(multi, flip):
    config = tiny_config()
    config.model = MULTI_TASK_MODEL if multi else DEPTH_MODEL
    model, image = init_model(Config(config.to_dict()), device="cpu"), picture(41, 57)
    model.dataset_meta = CLASSES
    model.test_cfg.flip = flip
    found = inference_model(model, image[..., ::-1])
    predictor = Predictor.of(model)
    got = predictor.predict(image)
    assert np.abs(got.depth - found.pred_depth_map.data[0].numpy()).max() < 1e-4
    if multi:
        assert np.array_equal(got.labels, found.pred_sem_seg.data[0].numpy())
        assert np.array_equal(predictor(image), got.labels)
    else:
        assert got.labels is None
        assert np.array_equal(predictor(image), got.depth)


@pytest.fixture
def files(tmp_path):
    """Make a config and a checkpoint of the supernet, and one stitch in all forms."""

    def make(*args, size=(32, 32), suffixes=(".onnx", ".pt2"), **options):
        model = model_for(*args, **options)
        config, weights = extract(model.cfg, model.state_dict(), [6])
        save(tmp_path / "stitch6", config, weights, model.dataset_meta)
        one = with_weights(config, weights, model.dataset_meta)
        for suffix in suffixes:
            export(one, tmp_path / f"model{suffix}", size)
        return model, [tmp_path / "stitch6", *(tmp_path / f"model{s}" for s in suffixes)]

    return make


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "window"), [("whole, stretched", (64, 96)), ("slide, scaled", (32, 32))]
)
def test_every_backend_gives_the_same_labels(case, window, files):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    test_cfg, resize, _ = CASES[case]
    model, paths = files(test_cfg, resize, size=window)
    predictors = [Predictor.load(path) for path in paths]
    supernet = Predictor.of(model)
    for size in ((41, 57), (96, 33), (131, 200)):
        image = picture(*size)
        expected, logits = supernet(image, 6), supernet.logits(image, 6)
        assert logits.shape == (5, *size)
        for predictor in predictors:
            assert predictor.spec.stitch == 6
            assert np.abs(predictor.logits(image) - logits).max() <= 1e-4
            assert (predictor(image) == expected).mean() >= 0.999
            assert predictor.spec.classes == tuple("abcde")
            assert predictor.palette.tolist() == CLASSES["palette"]


def test_a_file_says_which_images_it_takes(files):
    _, (*_, path) = files(suffixes=(".pt2",))
    predictor = Predictor.load(path)
    assert predictor(picture(32, 32)).shape == (32, 32)
    with pytest.raises(UserError, match=r"image of 40x32 gives a window of 40x32 at test scale, "):
        predictor(picture(40, 32))


@pytest.mark.parametrize("form", ["folder", "file"])
def test_a_model_of_one_stitch_meets_each_budget_from_its_cost_on(form, files):
    model, (folder, path) = files(suffixes=(".pt2",))
    predictor, image = Predictor.load(folder if form == "folder" else path), picture(32, 32)
    menu, expected = StitchMenu(model), predictor(image)
    cost, params = Budget("macs", menu.macs[6] / 1e9), Budget("params", menu.params[6] / 1e6)
    for budget in (cost, params, "100%", "9000G", "9000Mparams", 6):
        assert np.array_equal(predictor(image, budget), expected)
    for budget, text in (
        (
            Budget("macs", cost.amount * 0.99),
            r"\dG is below the only stitch, which costs [\d.]+G: ",
        ),
        ("60%", "60% is below the only stitch, which costs 100%: give 100% or more"),
        ("0.0001Mparams", "Mparams is below the only stitch, which costs "),
        ("25ms", "25ms needs a latency table"),
        (0, "stitch 0 is not in this (subset|file): it holds 6"),
    ):
        with pytest.raises(UserError, match=text) as caught:
            predictor(image, budget)
        assert "\n" not in str(caught.value)


def test_a_model_whose_cost_is_unknown_refuses_budgets():
    """Such as an anchor that was extracted for mmseg alone."""
    spec = InferenceSpec.of(model_for())
    with pytest.raises(UserError, match="budget 60% is given, but the cost of this model is not"):
        Predictor(lambda x: x, spec)(picture(32, 32), "60%")


def test_a_spec_survives_its_file():
    for case in CASES.values():
        spec = InferenceSpec.of(model_for(case[0], case[1], **case[2]))
        assert InferenceSpec.from_metadata(spec.to_metadata(), "x") == spec
    assert spec.for_file((16, 64)).crop_size == (16, 64)
    assert spec.for_file((16, 64)).stride == (10, 42)
    with pytest.raises(UserError, match=r"'x.onnx' does not say how images are prepared"):
        InferenceSpec.from_metadata({}, "x.onnx")


def test_images_in_every_form(tmp_path):
    image = picture(41, 57)
    Image.fromarray(image).save(tmp_path / "x.png")
    for given in (tmp_path / "x.png", str(tmp_path / "x.png"), Image.fromarray(image), image):
        assert np.array_equal(read_image(given), image)
    for wrong in (image[..., 0], image.astype(np.float32), np.zeros((0, 3, 3), np.uint8), None):
        with pytest.raises(UserError, match="is not allowed: give a file, or"):
            read_image(wrong)
    (tmp_path / "x.png").write_text("no")
    with pytest.raises(UserError, match=r"x.png' is not an image"):
        read_image(tmp_path / "x.png")
    with pytest.raises(MissingFile, match=r"image '.*no.png' does not exist"):
        read_image(tmp_path / "no.png")


def test_budgets_choose_a_stitch(tmp_path):
    model, image = model_for(SLIDE), picture(41, 57)
    model.cfg.dump(tmp_path / "c.py")
    torch.save(
        dict(state_dict=model.state_dict(), meta=dict(dataset_meta=CLASSES)), tmp_path / "k.pth"
    )
    predictor = Predictor.load(tmp_path / "c.py", tmp_path / "k.pth")
    chosen = predictor.menu.select("60%").stitch.id
    assert np.array_equal(predictor(image, "60%"), predictor(image, chosen))
    assert not np.array_equal(predictor(image, "60%"), predictor(image, "100%"))
    with pytest.raises(UserError, match=r"c.py' is given without a checkpoint"):
        Predictor.load(tmp_path / "c.py")
    with pytest.raises(UserError, match="is not taken for an extraction, because it is none"):
        Predictor.load(tmp_path)


@pytest.mark.parametrize(
    "step",
    [
        dict(type="Resize", scale_factor=0.5),
        dict(type="Resize", scale=(32, 32), interpolation="nearest"),
        dict(type="RandomFlip", prob=0.5),
    ],
)
def test_other_test_pipelines_are_refused(step):
    config = tiny_config()
    config.test_pipeline.insert(1, step)
    model = init_model(config, device="cpu")
    with pytest.raises(UserError, match=f"the test pipeline has {step['type']}") as caught:
        Predictor.of(model)
    assert "\n" not in str(caught.value)


ALONE = """
import importlib.abc, sys

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        banned = ("torch", "torchvision", "mmcv", "mmseg", "mmengine", "timm", "mmsn", "cv2")
        if name.partition(".")[0] in banned:
            raise ModuleNotFoundError(f"{name} is not there")

sys.meta_path.insert(0, Refuse())
import runpy
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_alone(folder, *words):
    """Run predict.py as a process in which none of these packages can be imported."""
    command = [sys.executable, "-c", ALONE, "predict.py", *map(str, words)]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    ("case", "window"), [("whole, stretched", (64, 96)), ("slide, scaled", (32, 32))]
)
def test_the_script_beside_a_model_needs_no_framework(case, window, files, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    test_cfg, resize, _ = CASES[case]
    model, _ = files(test_cfg, resize, size=window, suffixes=(".onnx",))
    image = picture(131, 200)
    Image.fromarray(image).save(tmp_path / "x.png")
    done = run_alone(tmp_path, "model.onnx", "x.png", "--out", "y.png")
    assert done.returncode == 0, done.stderr
    painted = Image.open(tmp_path / "y.png")
    assert painted.getpalette()[:15] == [x for color in CLASSES["palette"] for x in color]
    expected = Predictor.of(model)(image, 6)
    assert len(np.unique(expected)) > 1
    assert (np.asarray(painted) == expected).mean() >= 0.999
    if case.startswith("slide"):
        Image.fromarray(image[:10, :200]).save(tmp_path / "x.png")
        done = run_alone(tmp_path, "model.onnx", "x.png")
        assert "error: the model takes [32, 32], not a (8, 32) window" in done.stderr
    assert len((tmp_path / "predict.py").read_text().splitlines()) < 100


def test_a_foreign_predict_py_is_not_overwritten(tmp_path, monkeypatch):
    monkeypatch.setattr("mmsn.deploy.exporting.ONNX_PACKAGES", ())
    (tmp_path / "predict.py").write_text("print()\n")
    with pytest.raises(UserError, match=r"predict.py' is another program, .*: export into another"):
        check_request(tmp_path / "model.onnx", "float32")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    "change", [{}, dict(num_classes=1), dict(num_classes=0, flip=True)], ids=str
)
def test_the_script_does_the_same_arithmetic(case, change):
    """With the same network, PyTorch's, in the place of ONNX Runtime's."""
    onnx_predict = pytest.importorskip("mmsn.deploy.onnx_predict")
    predictor = Predictor.of(model_for(CASES[case][0], CASES[case][1], **CASES[case][2]))
    if change:
        whole = predictor.run
        predictor.run = lambda x: whole(x)[:, 2:3]
        spec = dataclasses.replace(predictor.spec, threshold=0.5, max_depth=10.0, **change)
        predictor.spec = spec
        if change["num_classes"] == 1:
            predictor.spec = dataclasses.replace(spec, max_depth=None)
    predictor.spec = dataclasses.replace(predictor.spec, size_divisor=16, pad_val=0.5)

    class Session:
        def get_outputs(self):
            return [types.SimpleNamespace(shape=["batch", change.get("num_classes", 5) or 1])]

        def run(self, names, inputs):
            image = torch.from_numpy(inputs["input"])
            with torch.no_grad():
                logits = predictor.run(image)
            size = image.shape[2:]
            return [torch.nn.functional.interpolate(logits, size, mode="bilinear").numpy()]

    alone = onnx_predict.Predictor.__new__(onnx_predict.Predictor)
    alone.session = Session()
    facts = predictor.spec.to_metadata()
    alone.spec = {name: json.loads(text) for name, text in facts.items()}
    for size in ((64, 96), (64, 95), (39, 53)):
        image = picture(*size)
        expected, got = predictor(image), alone(image)
        assert got.shape == size
        if change.get("num_classes") == 0:
            assert np.abs(got - expected).max() < 1e-3 * np.ptp(expected)
        else:
            assert (got == expected).mean() >= 0.999
