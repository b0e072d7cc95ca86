"""Stitching layers are solved before training, unless a checkpoint holds them."""

import logging
from pathlib import Path

import pytest
import torch

from tests.engine.reading import layer_weights, log_of


def test_load_from_keeps_loaded_stitching_layers(trained, run):
    file = Path(trained.work_dir) / "iter_4.pth"
    runner = run(load_from=str(file), **{"train_cfg.max_iters": 1})
    runner.train()
    assert "Initialized" not in log_of(runner)
    for name, weight in layer_weights(runner).items():
        assert torch.equal(weight, layer_weights(trained)[name])


def test_loading_anchors_alone_still_initializes(trained, run, tmp_path):
    state = trained.model.state_dict()
    only = {k: v for k, v in state.items() if "stitching_layers" not in k}
    torch.save({"state_dict": only}, tmp_path / "anchors.pth")
    runner = run(load_from=str(tmp_path / "anchors.pth"), **{"train_cfg.max_iters": 1})
    runner.train()
    assert "Initialized 3 stitching layers" in log_of(runner)


def test_resuming_in_an_empty_folder_initializes(run):
    runner = run(resume=True, **{"train_cfg.max_iters": 1})
    runner.train()
    assert "Initialized 3 stitching layers" in log_of(runner)


def test_a_rank_deficient_initialization_warns(run, caplog):
    with caplog.at_level(logging.WARNING):
        runner = run(custom_hooks=[dict(type="mmsn.StitchInitHook", num_images=1)])
        runner.train()
    (line,) = [text for text in log_of(runner).splitlines() if "directions" in text]
    assert "3 of 3 stitching layers are not determined by the images" in line
    assert "span 5 of 25 directions at worst (layer 1 to 0 after unit 0)" in line
    assert "raise num_images of StitchInitHook" in line


@pytest.mark.parametrize("wanted", [3, 6, 99])
def test_as_many_images_are_taken_as_asked(run, wanted, monkeypatch):
    hook = dict(type="mmsn.StitchInitHook", num_images=wanted)
    runner = run(custom_hooks=[hook], **{"train_cfg.max_iters": 1})
    seen = []
    processor = runner.model.data_preprocessor
    forward = processor.forward
    monkeypatch.setattr(
        processor,
        "forward",
        lambda data, training=False: seen.append(len(data["inputs"])) or forward(data, training),
    )
    runner.train()
    validated = 3  # once each, though three stitches run on them
    assert sum(seen) == min(wanted, 10) + 2 + validated
