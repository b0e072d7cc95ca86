"""The whole way from anchors to a curve, on a few images."""

import copy
import re

import pytest
import torch

from mmsn.engine import recipe
from mmsn.evaluation import ParetoReport


@pytest.fixture
def steps(config):
    """Two anchors and the stitched network, of two iterations each."""

    def alone(index, name):
        mine = copy.deepcopy(config)
        mine.model.backbone.anchors = [config.model.backbone.anchors[index]]
        mine.model.backbone.out_indices = (0, 1) if index == 0 else (1, 3)
        mine.model.decode_head.in_channels = (16, 24)[index]
        mine.custom_hooks = []
        mine.train_cfg.max_iters = 2
        return recipe.Step(name, mine)

    stitched = copy.deepcopy(config)
    stitched.train_cfg.max_iters = 2
    return [alone(0, "small"), alone(1, "large")], recipe.Step("stitched", stitched)


def test_the_stitched_network_starts_from_the_trained_anchors_and_head(steps, tmp_path, capsys):
    anchors, stitched = steps
    stitched.config.optim_wrapper.optimizer.lr = 0.0
    report = recipe.stitch_from_anchors(anchors, stitched, tmp_path)
    trained = torch.load(tmp_path / "stitched" / "iter_2.pth", weights_only=True)["state_dict"]
    for index, name in enumerate(("small", "large")):
        alone = torch.load(tmp_path / name / "iter_2.pth", weights_only=True)["state_dict"]
        for key, value in alone.items():
            if key.startswith("backbone.anchors.0."):
                mine = trained[key.replace("anchors.0", f"anchors.{index}")]
                assert torch.equal(value, mine), key
    assert torch.equal(alone["decode_head.conv_seg.weight"], trained["decode_head.conv_seg.weight"])

    assert [r.id for r in report.stitches] == [0, 1, 2, 4]
    assert ParetoReport.load(tmp_path / "pareto.json") == report
    assert (tmp_path / "pareto.png").stat().st_size > 10_000
    out = capsys.readouterr().out
    assert re.search(r"trained alone: large: mIoU \d+\.\d\d at", out)
    assert re.search(r"to compare with: most frequent class: mIoU \d+\.\d\d", out)


def test_finished_steps_are_kept_and_a_cut_off_one_continues(steps, tmp_path, monkeypatch):
    anchors, _ = steps
    first = copy.deepcopy(anchors[0])
    first.config.train_cfg.max_iters = 4  # saves at 2, then is cut off
    train_step = "mmseg.models.segmentors.base.BaseSegmentor.train_step"
    calls = []

    def cut_off(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    from mmseg.models.segmentors.base import BaseSegmentor

    original = BaseSegmentor.train_step
    monkeypatch.setattr(train_step, cut_off)
    with pytest.raises(KeyboardInterrupt):
        recipe.train_and_test(copy.deepcopy(first), tmp_path / "small")
    assert (tmp_path / "small" / "iter_2.pth").is_file()
    monkeypatch.setattr(train_step, original)

    steps_done = []
    monkeypatch.setattr(
        train_step, lambda self, *a, **k: steps_done.append(1) or original(self, *a, **k)
    )
    report = recipe.train_and_test(copy.deepcopy(first), tmp_path / "small")
    assert len(steps_done) == 2  # iterations 3 and 4
    steps_done.clear()
    assert recipe.train_and_test(first, tmp_path / "small") == report
    assert not steps_done


def test_the_number_of_anchors_must_fit(steps, tmp_path):
    anchors, stitched = steps
    with pytest.raises(ValueError, match="stitched stitches 2 anchors, but 1 are given"):
        recipe.stitch_from_anchors(anchors[:1], stitched, tmp_path)
