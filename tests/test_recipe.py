"""From anchors to a curve in one call, on a few images."""

import copy
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from mmsn import recipe
from mmsn.engine.resume import is_whole
from mmsn.errors import UserError
from mmsn.evaluation import ParetoReport
from tests.engine.conftest import config, shapes  # noqa: F401  # fixtures
from tests.evaluation.conftest import depth_config  # noqa: F401


@pytest.fixture
def steps(config):  # noqa: F811
    """Two anchors and the stitched network, of two iterations each."""

    config.train_cfg.val_interval = 100  # tests of steps are enough

    def alone(index, name):
        mine = copy.deepcopy(config)
        mine.model.backbone.anchors = [config.model.backbone.anchors[index]]
        mine.model.backbone.out_indices = (0, 1) if index == 0 else (1, 3)
        mine.model.decode_head.in_channels = (16, 24)[index]
        mine.custom_hooks = [dict(type="mmsn.TrainingCostHook")]
        mine.train_cfg.max_iters = 2
        return recipe.Step(name, mine)

    stitched = copy.deepcopy(config)
    stitched.train_cfg.max_iters = 2
    stitched.custom_hooks.append(dict(type="mmsn.TrainingCostHook"))
    return [alone(0, "small"), alone(1, "large")], recipe.Step("stitched", stitched)


@pytest.mark.slow
def test_the_stitched_network_starts_from_the_trained_anchors_and_head(steps, tmp_path, capsys):
    anchors, stitched = steps
    stitched.config.optim_wrapper.optimizer.lr = 0.0
    for step in (*anchors, stitched):
        visualizer = dict(type="SegLocalVisualizer", name="visualizer")
        step.config.visualizer = dict(visualizer, vis_backends=[dict(type="LocalVisBackend")])
        step.config.experiment_name = step.name
    report = recipe.stitch_from_anchors(anchors, stitched, tmp_path)
    trained = torch.load(tmp_path / "stitched" / "iter_2.pth", weights_only=True)["state_dict"]
    for index, name in enumerate(("small", "large")):
        alone = torch.load(tmp_path / name / "iter_2.pth", weights_only=True)["state_dict"]
        for key, value in alone.items():
            if key.startswith("backbone.anchors.0."):
                mine = trained[key.replace("anchors.0", f"anchors.{index}")]
                assert torch.equal(value, mine), key
    assert torch.equal(alone["decode_head.conv_seg.weight"], trained["decode_head.conv_seg.weight"])

    for name in ("small", "large", "stitched"):  # each has its own curves
        lines = [
            json.loads(line)
            for path in (tmp_path / name).glob("*/vis_data/scalars.json")
            for line in path.read_text().splitlines()
        ]
        assert [line["step"] for line in lines if "lr" in line] == [1, 2], name

    assert [r.id for r in report.stitches] == [0, 1, 2, 4]
    loaded = ParetoReport.load(tmp_path / "pareto.json")
    assert loaded.model_dump_json() == report.model_dump_json()  # NaN differs from itself
    assert (tmp_path / "pareto.png").stat().st_size > 10_000
    out = capsys.readouterr().out
    assert re.search(r"trained alone: large, \d\d% of the training compute: mIoU \d+\.\d+ at", out)
    assert re.search(r"to compare with: most frequent class: mIoU \d+\.\d+", out)


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
    again = recipe.train_and_test(first, tmp_path / "small")
    assert again.model_dump_json() == report.model_dump_json()
    assert not steps_done


def test_a_step_whose_last_checkpoint_is_damaged_is_not_finished(steps, tmp_path, monkeypatch):
    (small, _), _ = steps
    small.config.train_cfg.max_iters = 4
    folder = tmp_path / "small"
    monkeypatch.setattr(recipe.StepRunner, "test", lambda self: None)
    untested = r"Pareto report .*pareto\.json could not be read"  # trained, but not tested
    with pytest.raises(UserError, match=untested):
        recipe.train_and_test(copy.deepcopy(small), folder)
    whole = (folder / "iter_4.pth").read_bytes()
    (folder / "iter_4.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=untested):
        recipe.train_and_test(copy.deepcopy(small), folder)
    assert is_whole(folder / "iter_4.pth")
    for name in ("iter_2.pth", "iter_4.pth"):
        (folder / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"nothing to resume from: .*small/iter_4\.pth"):
        recipe.train_and_test(copy.deepcopy(small), folder)


def test_the_number_of_anchors_must_fit(steps, tmp_path):
    anchors, stitched = steps
    with pytest.raises(UserError, match="stitched stitches 2 anchors, but 1 are given"):
        recipe.stitch_from_anchors(anchors[:1], stitched, tmp_path)


def test_steps_of_one_name_are_refused(steps, tmp_path):
    anchors, stitched = steps
    twins = [anchors[0], recipe.Step("small", anchors[1].config)]
    with pytest.raises(UserError, match="need different names"):
        recipe.stitch_from_anchors(twins, stitched, tmp_path)


def test_a_changed_config_does_not_continue_an_older_step(steps, tmp_path):
    (small, _), _ = steps
    recipe.train_and_test(copy.deepcopy(small), tmp_path / "small")
    small.config.optim_wrapper.optimizer.lr = 0.5
    with pytest.raises(UserError, match="was started with another config"):
        recipe.train_and_test(small, tmp_path / "small")


def test_a_step_may_load_weights_of_its_own(steps, tmp_path):
    (small, _), _ = steps
    recipe.train_and_test(copy.deepcopy(small), tmp_path / "first")
    final = tmp_path / "first" / "iter_2.pth"
    small.config.load_from, small.config.optim_wrapper.optimizer.lr = str(final), 0.0
    recipe.train_and_test(small, tmp_path / "second")
    states = [
        torch.load(path, weights_only=True)["state_dict"]
        for path in (final, tmp_path / "second" / "iter_2.pth")
    ]
    key = "backbone.anchors.0.vit.blocks.0.mlp.fc1.weight"
    assert torch.equal(states[0][key], states[1][key])


def test_a_loop_without_a_report_is_refused_before_training(steps, tmp_path):
    (small, _), _ = steps
    small.config.test_cfg = dict(type="TestLoop")
    with pytest.raises(UserError, match=r"needs test_cfg\.type 'mmsn\.ParetoTestLoop'"):
        recipe.train_and_test(small, tmp_path / "small")
    assert not (tmp_path / "small").exists()


@pytest.mark.filterwarnings("ignore:1 of 3 images have no valid depth")
def test_constant_depth_is_the_floor_of_a_depth_config(depth_config):  # noqa: F811
    floors = recipe.floors_of(depth_config)
    assert list(floors) == ["constant depth"]
    root = depth_config.test_dataloader.dataset.data_root
    maps = [np.asarray(Image.open(f"{root}/depths/{i}.png")) / 1000 for i in (0, 2)]
    maps = [depth[depth > 0] for depth in maps]
    constant = np.concatenate(maps).mean()
    expected = np.mean([np.sqrt(((depth - constant) ** 2).mean()) for depth in maps])
    assert floors["constant depth"]["rmse"] == pytest.approx(expected, rel=1e-5)


def test_anchors_are_trained_again_for_what_the_stitched_network_took(steps, tmp_path, capsys):
    anchors, stitched = steps
    for step in anchors:
        step.config.param_scheduler = [
            dict(type="LinearLR", start_factor=0.5, by_epoch=False, begin=0, end=1),
            dict(type="PolyLR", eta_min=0.0, power=1.0, by_epoch=False, begin=1, end=2),
        ]
    report = recipe.stitch_from_anchors(anchors, stitched, tmp_path, equal_compute=True)
    total = report.training.train_macs
    alone = [ParetoReport.load(tmp_path / step.name / "pareto.json") for step in anchors]
    before = sum(r.training.train_macs for r in alone)
    # Two more iterations of two images, with stitches between the cheapest and the costliest.
    macs = [r.macs for r in report.stitches]
    assert before + 12 * min(macs) <= total <= before + 12 * max(macs)
    assert report.training.images_seen == 3 * 2 * 2
    for name in ("small", "large"):
        folder = tmp_path / f"{name}_equal-compute"
        mine = ParetoReport.load(folder / "pareto.json")
        step = mine.training.train_macs / int(re.search(r"iter_(\d+)", mine.checkpoint)[1])
        assert abs(mine.training.train_macs - total) <= step / 2
        dumped = next(folder.glob("*.py")).read_text()
        ends = [int(end) for end in re.findall(r"\bend=(\d+)", dumped)]
        assert ends == [1, int(re.search(r"max_iters=(\d+)", dumped)[1])]
    # What the second training copies does not name the checkpoint of the first.
    assert [step.config.get("load_from") for step in anchors] == [None, None]
    assert "trained alone: small, 1" in capsys.readouterr().out  # 100 % within one iteration


def test_equal_compute_needs_the_count(steps, tmp_path):
    anchors, stitched = steps
    anchors[0].config.custom_hooks = []
    with pytest.raises(UserError, match="equal compute is not known for small: add dict"):
        recipe.stitch_from_anchors(anchors, stitched, tmp_path, equal_compute=True)
    assert not any(tmp_path.iterdir())
