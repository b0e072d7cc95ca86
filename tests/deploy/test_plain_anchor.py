"""Anchors as models of mmseg and timm alone: loaded where mmsn cannot be imported."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmsn.deploy import extract, plain, save
from mmsn.errors import UserError
from tests.deploy.conftest import small_config, trained
from tests.deploy.test_extraction import assert_same, logits

SCRIPT = Path(__file__).parent / "without_mmsn.py"


def run_without_mmsn(images):
    """Outputs by path, for a dict of images by path, of one fresh process."""
    folders = {path: path if path.is_dir() else path.parent for path in images}
    for path, folder in folders.items():
        torch.save(images[path], folder / "images.pt")
    command = [sys.executable, str(SCRIPT), *map(str, images)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if "No module named 'mmcv._ext'" in done.stderr:
        pytest.skip("without mmsn, this mmseg is not to be imported beside mmcv-lite")
    assert done.returncode == 0, done.stderr
    return {p: torch.load(f / "outputs.pt", weights_only=True) for p, f in folders.items()}


@pytest.mark.slow
def test_anchors_predict_the_same_without_mmsn(tmp_path):
    images, expected = {}, {}
    for head, anchor in (("setr-naive", 1), ("upernet", 0)):
        config, folder = small_config(head, (4, 4)), tmp_path / head
        config.custom_hooks.append(dict(type="EMAHook"))
        model = trained(config)
        small, weights = plain(*extract(config, model.state_dict(), [anchor]))
        assert "mmsn" not in small.pretty_text
        assert small.custom_hooks == [dict(type="EMAHook")]
        assert save(folder, small, weights).name == "model.pth"
        images[folder] = [torch.randn(2, 3, 64, 64), torch.randn(1, 3, 50, 91)]  # 50 is padded
        with model.backbone.use_stitch(anchor):
            expected[folder] = [logits(model, image) for image in images[folder]]
    for folder, outputs in run_without_mmsn(images).items():
        for ours, theirs in zip(outputs, expected[folder], strict=True):
            assert_same(ours, theirs)


@pytest.mark.parametrize("head", ["upernet", "fpn"])
def test_a_folded_projection_saves_parameters(head):
    config = small_config(head)
    model = trained(config)
    small, weights = extract(config, model.state_dict(), [0])
    _, folded = plain(small, weights)
    assert folded["neck.lateral_convs.2.conv.weight"].shape == (8, 16, 1, 1)
    # 32 x 16 and 32 biases less for each of four levels, and 8 x 32 become 8 x 16; a flag each
    before, after = (sum(w.numel() for w in each.values()) for each in (weights, folded))
    assert before - after == 4 * (32 * 16 + 32 + 8 * 16 + 1)


def test_data_and_loops_of_mmsn_are_left_out(setr):
    config, model = setr
    config.test_dataloader.dataset.type = "mmsn.NYUv2SegDataset"
    small, _ = plain(*extract(config, model.state_dict(), [1]))
    assert "test_dataloader" not in small
    assert "test_evaluator" not in small
    assert small.val_cfg == dict(type="ValLoop")
    assert small.test_pipeline  # which mmseg's inference reads


def with_options(config, **options):
    changed = Config(config.to_dict())
    changed.model.neck = None  # as a config writes it whose base has a neck
    for anchor in changed.model.backbone.anchors:
        anchor.update(options)
    return changed


@pytest.mark.parametrize(
    ("ids", "change", "message"),
    [
        ([2], {}, r"stitches \(2,\) are not one anchor alone"),
        ([0, 1], {}, r"stitches \(0, 1\) are not one anchor alone"),
        ([0], {}, "only inside a MultiLevelNeck without norm"),
        ([1], dict(rel_pos_bias=True), "has a relative position bias, which timm lacks"),
    ],
)
def test_what_timm_cannot_run_is_refused_in_one_line(setr, ids, change, message):
    config = with_options(setr[0], **change)
    small, weights = extract(config, trained(config).state_dict(), ids)
    with pytest.raises(UserError, match=message) as caught:
        plain(small, weights)
    assert "\n" not in str(caught.value)


def test_levels_that_share_a_block_are_refused(setr):
    config = small_config("upernet")
    config.model.backbone.out_indices = (1, 4, 5, 7)
    small, weights = extract(config, trained(config).state_dict(), [0])
    with pytest.raises(UserError, match=r"come from blocks \[0, 2, 2, 3\]"):
        plain(small, weights)
