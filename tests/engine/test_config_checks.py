"""Mistakes in a config, found by the hooks where a Runner was not made by the commands of mmsn."""

from pathlib import Path

import pytest
from mmengine.runner import Runner

from mmsn.errors import UserError


def log(runner):
    return next(Path(runner.log_dir).glob("*.log")).read_text()


def test_an_error_stops_before_weights_are_loaded(config):
    config.model.backbone.anchors[0].pretrained = True  # which there is no network for
    config.model.decode_head.in_channels = 16
    config.val_cfg = config.val_dataloader = config.val_evaluator = None
    runner = Runner.from_cfg(config)
    with pytest.raises(UserError, match=r"^model\.decode_head\.in_channels is 16, but must be 24"):
        runner.train()


def test_warnings_come_once_and_before_least_squares(config):
    config.val_cfg = dict(type="ValLoop")
    config.train_cfg.max_iters = 1
    runner = Runner.from_cfg(config)
    runner.train()
    text = log(runner)
    for line in (
        "val_cfg.type 'ValLoop' evaluates one stitch only, 1",
        "start from random weights",
    ):
        assert text.count(line) == 1
        assert text.index(line) < text.index("stitching layers by least squares")


def test_a_test_looks_at_its_own_loop(config):
    config.test_cfg = dict(type="TestLoop")
    runner = Runner.from_cfg(config)
    runner.test()
    assert "test_cfg.type 'TestLoop' evaluates one stitch only, 1" in log(runner)
    assert "random weights" not in log(runner)


def test_hooks_may_be_registered_by_a_program(config):
    """So those that a config lacks do not stop a Runner that a program made."""
    sampling = config.custom_hooks.pop()
    config.train_cfg.max_iters = 1
    runner = Runner.from_cfg(config)
    runner.train()
    assert "custom_hooks has no mmsn.FLOPsConstrainedSamplingHook" in log(runner)
    config.experiment_name, config.work_dir = "registered", config.work_dir + "_registered"
    runner = Runner.from_cfg(config)
    runner.register_hook(sampling)
    runner.train()
    assert "custom_hooks has no" not in log(runner)
