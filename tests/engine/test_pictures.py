"""Pictures of several stitches are named after their stitch."""

from pathlib import Path

import pytest
from mmengine.runner import Runner

DRAW = dict(type="SegVisualizationHook", draw=True, interval=1)


@pytest.fixture
def drawing(config, tmp_path):
    config.default_hooks.visualization = DRAW
    # A visualizer is found again by its name, and would draw into the folder of another test.
    config.visualizer = dict(
        type="SegLocalVisualizer", vis_backends=[dict(type="LocalVisBackend")], name=str(tmp_path)
    )
    config.test_cfg.stitches = [0, 4]
    return config


def pictures(runner):
    """Names without the number at their end, which mmseg and its fork count differently."""
    return sorted(path.name.rpartition("_")[0] for path in Path(runner.log_dir).rglob("*.png"))


def test_each_stitch_has_its_own(drawing):
    runner = Runner.from_cfg(drawing)
    runner.test()
    assert pictures(runner) == sorted(
        f"stitch{stitch}_test_0000{image}.png" for stitch in (0, 4) for image in range(3)
    )
    numbers = {path.stem.rpartition("_")[2] for path in Path(runner.log_dir).rglob("*.png")}
    assert len(numbers) in (1, 3)  # of each stitch the same
    hook = next(hook for hook in runner.hooks if hasattr(hook, "draw"))
    assert hook.draw
    assert hook._visualizer is runner.visualizer


def test_those_of_a_validation_too(drawing):
    drawing.val_cfg.stitches = [1, 2]
    runner = Runner.from_cfg(drawing)
    runner.val()
    images = {1: [], 2: []}
    for name in pictures(runner):
        stitch, _, image = name.partition("_")
        images[int(stitch.removeprefix("stitch"))].append(image)
    assert images[1] == images[2]
    assert len(images[1]) in (2, 3)  # the first image of each batch; mmseg's own hook draws all


def test_one_stitch_keeps_mmseg_s_names(drawing):
    drawing.test_cfg.stitches = [4]
    runner = Runner.from_cfg(drawing)
    runner.test()
    assert pictures(runner) == [f"test_0000{image}.png" for image in range(3)]
