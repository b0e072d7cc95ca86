"""``mmsn train-test``: it trains with one seed everywhere, continues, and repeats nothing."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmseg.models.segmentors.base import BaseSegmentor

from mmsn.errors import UserError
from mmsn.evaluation import ParetoReport
from mmsn.models import stitched_backbone
from mmsn.stitching import draw_parts
from tests.engine.conftest import config, shapes  # noqa: F401  # fixtures


@pytest.fixture
def words(config, tmp_path):  # noqa: F811
    """The command line of a short training."""
    config.custom_hooks.append(dict(type="mmsn.TrainingCostHook"))
    config.test_cfg.stitches = ["anchors"]
    config.train_dataloader.batch_size = 4
    config.dump(tmp_path / "short.py")
    return [str(tmp_path / "short.py"), "--work-dir", str(tmp_path / "out"), "--seed", "3"]


@pytest.fixture
def steps(monkeypatch):
    """The stitches that each training step runs; ``steps.stop_at`` interrupts one."""
    original = BaseSegmentor.train_step

    class Steps(list):
        stop_at = None

    seen = Steps()

    def train_step(self, *args, **kwargs):
        if len(seen) == seen.stop_at:
            raise KeyboardInterrupt
        seen.append(tuple(s.id for s in stitched_backbone(self).training_stitches))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(BaseSegmentor, "train_step", train_step)
    return seen


def test_the_seed_reaches_the_runner_and_the_hooks_that_draw(tool):
    cfg = Config(
        dict(
            randomness=dict(seed=0, deterministic=True),
            custom_hooks=[
                dict(type="mmsn.StitchInitHook"),
                dict(type="mmsn.FLOPsConstrainedSamplingHook", parts=2, seed=1),
                dict(type="mmsn.TrainingCostHook"),
            ],
        )
    )
    tool("train_test").set_seed(cfg, 5)
    assert cfg.randomness == dict(seed=5, deterministic=True)
    assert [hook.get("seed") for hook in cfg.custom_hooks] == [5, 5, None]


@pytest.mark.slow
def test_an_interrupted_training_continues_and_a_finished_one_is_not_repeated(
    tool, words, steps, tmp_path
):
    main, out = tool("train_test").main, tmp_path / "out"
    steps.stop_at = 3
    with pytest.raises(KeyboardInterrupt):
        main(words)
    assert not (out / "pareto.json").exists()
    steps.stop_at = None
    main(words)
    groups = [(0,), (2,), (4,), (1,)]
    assert steps == [draw_parts(groups, 3, i, 4) for i in (0, 1, 2, 2, 3)]
    report = ParetoReport.load(out / "pareto.json")
    assert [result.id for result in report.stitches] == [0, 1]
    assert (report.training.images_seen, report.training.seed) == (16, 3)
    assert torch.load(out / "iter_4.pth", weights_only=True)["meta"]["seed"] == 3
    written = (out / "pareto.json").read_bytes()
    main(words)
    assert len(steps) == 5
    assert (out / "pareto.json").read_bytes() == written


def test_another_seed_needs_another_folder(tool, words, steps):
    main = tool("train_test").main
    main(words)
    with pytest.raises(UserError, match=r"was started with another config in .*out: give another"):
        main([*words[:-1], "4"])
    assert len(steps) == 4


def test_without_a_folder_it_writes_where_train_does(tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = []
    monkeypatch.setattr("mmsn.recipe.train_and_test", lambda step, folder: asked.append(folder))
    Path("plain.py").write_text("model = dict()\n")
    tool("train_test").main(["plain.py"])
    assert asked == [Path("work_dirs/plain")]
