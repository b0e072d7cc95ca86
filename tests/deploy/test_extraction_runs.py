"""Extractions in a Runner: a smaller supernet trains and is benchmarked, a stitch is tested."""

import json
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

from mmsn.deploy import extract, save
from tests.engine.conftest import config, shapes  # noqa: F401


def extraction(config, stitches, folder):  # noqa: F811
    """A config that runs in a folder of its own, from files."""
    init_default_scope("mmseg")
    model = MODELS.build(config.model)
    for layer in model.backbone.stitching_layers.values():
        layer.initialized.fill_(True)
    path = save(folder, *extract(config, model.state_dict(), stitches))
    small = Config.fromfile(folder / "config.py")
    small.load_from, small.work_dir = str(path), str(folder / "run")
    small.experiment_name = folder.name + folder.parent.name
    return small


def test_a_smaller_supernet_trains_and_is_benchmarked(config, tmp_path):  # noqa: F811
    small = extraction(config, [0, 2], tmp_path / "two")
    small.custom_hooks[-1].parts = 1  # so that the log names what was drawn
    runner = Runner.from_cfg(small)
    before = {k: v.clone() for k, v in runner.model.state_dict().items()}
    runner.train()
    drawn = set(runner.message_hub.get_scalar("train/stitch").data[0].astype(int))
    assert drawn <= {0, 2}
    changed = {k for k, v in runner.model.state_dict().items() if not torch.equal(v, before[k])}
    assert any("anchors.0" in key for key in changed)
    assert runner.message_hub.get_scalar("val/stitch0/mIoU").current() >= 0
    runner.test()
    report = json.loads((Path(small.work_dir) / "pareto.json").read_text())
    assert [stitch["id"] for stitch in report["stitches"]] == [0, 2]


def test_a_single_stitch_is_tested_from_its_files(config, tmp_path):  # noqa: F811
    small = extraction(config, [2], tmp_path / "one")
    metrics = Runner.from_cfg(small).test()
    assert set(metrics) >= {"mIoU", "stitch2/mIoU"}
