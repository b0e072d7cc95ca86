"""Stitches of rotary anchors leave the supernet as those of other ViTs do."""

import pytest
import torch

from mmsn.deploy import export, extract, open_exported, plain, save
from mmsn.models.opening import with_weights
from tests.deploy.conftest import small_config, trained
from tests.deploy.test_extraction import assert_same, extracted, logits
from tests.deploy.test_plain_anchor import run_without_mmsn


def eva_config(head="upernet", name="vit_small_plus_patch16_dinov3_qkvb", **options):
    config = small_config(head, (4, 4))
    for anchor in config.model.backbone.anchors:
        anchor.pop("drop_path_rate")
        anchor.update(model_name=name, init_values=1.0, **options)
    return config


def test_each_stitch_extracts_to_what_the_supernet_predicts():
    config = eva_config()
    model, image = trained(config), torch.randn(1, 3, 64, 91)  # two windows
    for stitch in (0, 1, 2, 6, 9):
        _, network = extracted(config, model, [stitch])
        with model.backbone.use_stitch(stitch):
            assert_same(logits(network, image), logits(model, image))


@pytest.mark.slow
def test_anchors_predict_the_same_without_mmsn(tmp_path):
    images, expected = {}, {}
    names = ("vit_small_plus_patch16_dinov3_qkvb", "vit_pe_core_tiny_patch16_384")
    for name, anchor in zip(names, (0, 1), strict=True):
        config, folder = (
            eva_config("upernet" if anchor == 0 else "setr-naive", name),
            tmp_path / name,
        )
        model = trained(config)
        small, weights = plain(*extract(config, model.state_dict(), [anchor]))
        assert "mmsn" not in small.pretty_text
        save(folder, small, weights)
        images[folder] = [torch.randn(2, 3, 64, 64), torch.randn(1, 3, 50, 91)]
        with model.backbone.use_stitch(anchor):
            expected[folder] = [logits(model, image) for image in images[folder]]
    for folder, outputs in run_without_mmsn(images).items():
        for ours, theirs in zip(outputs, expected[folder], strict=True):
            assert_same(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "suffix"),
    [("vit_small_plus_patch16_dinov3_qkvb", ".onnx"), ("eva02_tiny_patch14_224", ".pt2")],
)
def test_exported_files_give_the_same_logits_for_any_batch(name, suffix, tmp_path):
    if suffix == ".onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    config = eva_config(name=name, **(dict(patch_size=16) if "eva02" in name else {}))
    model = with_weights(*extract(config, trained(config).state_dict(), [9]), dict(classes=["a"]))
    size = (64, 80)  # not the training size
    run = open_exported(export(model, tmp_path / f"model{suffix}", size))
    for batch in (1, 3):
        image = torch.randn(batch, 3, *size)
        expected = model.encode_decode(image, [dict(img_shape=size)]).detach()
        got = run(image).detach()
        assert got.shape == expected.shape
        assert (got - expected).abs().max() <= 1e-4
