"""The flags of train.py and test.py, which scripts and ``mim`` hold on to."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from mmengine.config import Config

from mmsn.deploy import parse_budget
from mmsn.errors import UserError

Tool = Callable[[str], ModuleType]
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["train", "test", "depth_pictures"])
def test_help_is_quick_and_promises_no_gpus_flag(name: str) -> None:
    script = str(ROOT / "tools" / f"{name}.py")
    done = subprocess.run(
        [sys.executable, "-X", "importtime", script, "-h"],
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not imported & {"torch", "mmengine", "mmcv", "mmseg", "mmsn", "numpy"}
    # mim adds --gpus N to the command when the help mentions that flag
    assert "--gpus" not in done.stdout


def test_train_flags(tool: Tool) -> None:
    words = "c.py --work-dir w --amp --launcher pytorch --cfg-options a=1 b.c=2 --local-rank 3"
    args = tool("train").parse_args(words.split())
    assert vars(args) == dict(
        config="c.py",
        work_dir="w",
        amp=True,
        launcher="pytorch",
        cfg_options=["a=1", "b.c=2"],
        local_rank=3,
        resume=False,
    )
    assert tool("train").parse_args(["c.py", "--local_rank", "1"]).local_rank == 1


def test_test_flags(tool: Tool) -> None:
    words = "c.py k.pth --out o --show --show-dir d --wait-time 1.5 --tta --launcher slurm"
    args = tool("test").parse_args(words.split())
    assert vars(args) == dict(
        config="c.py",
        checkpoint="k.pth",
        out="o",
        show=True,
        show_dir="d",
        wait_time=1.5,
        tta=True,
        launcher="slurm",
        work_dir=None,
        cfg_options=None,
        local_rank=0,
        stitch=None,
        budget=None,
    )


@pytest.mark.parametrize(
    ("words", "stitches"), [(["all"], "all"), (["0", "25", "1"], [0, 25, 1]), (["7"], [7])]
)
def test_stitch(tool: Tool, words: list[str], stitches: Any) -> None:
    args = tool("test").parse_args(["c.py", "k.pth", "--stitch", *words])
    assert args.stitch == stitches


@pytest.mark.parametrize("words", [["all", "1"], ["x"], ["1.5"]])
def test_a_wrong_stitch_is_told(
    tool: Tool, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        tool("test").parse_args(["c.py", "k.pth", "--stitch", *words])
    assert " ".join(words) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "work_dir"),
    [
        ([], "work_dirs/small"),
        (["--cfg-options", "work_dir=from_options"], "from_options"),
        (["--work-dir", "w", "--cfg-options", "work_dir=from_options"], "w"),
    ],
)
def test_config_overrides(tool: Tool, tmp_path: Path, words: list[str], work_dir: str) -> None:
    path = tmp_path / "small.py"
    path.write_text("model = dict(depth=1, widths=[1, 2])\n")
    options = ["--cfg-options", "model.depth=5", "model.widths=[3,4]"]
    train = tool("train")
    cfg = train.load_config(train.parse_args([str(path), *options, *words]))
    assert cfg.work_dir == work_dir
    assert cfg.model == dict(depth=5, widths=[3, 4])
    assert cfg.launcher == "none"


def test_amp(tool: Tool) -> None:
    set_amp = tool("train").set_amp
    cfg = Config(dict(optim_wrapper=dict(type="OptimWrapper")))
    set_amp(cfg)
    assert cfg.optim_wrapper == dict(type="AmpOptimWrapper", loss_scale="dynamic")
    with pytest.raises(SystemExit, match="not None"):
        set_amp(Config(dict(optimizer=dict(type="SGD"))))


def test_test_options_change_the_config(tool: Tool) -> None:
    test = tool("test")
    cfg = Config(
        dict(
            model=dict(type="M"),
            tta_model=dict(type="T"),
            tta_pipeline=["flip"],
            test_dataloader=dict(dataset=dict(pipeline=["plain"])),
            test_evaluator=[dict(type="IoUMetric"), dict(type="IoUMetric")],
            default_hooks=dict(visualization=dict(type="SegVisualizationHook")),
            visualizer=dict(type="SegLocalVisualizer"),
        )
    )
    test.set_tta(cfg)
    assert cfg.model == dict(type="T", module=dict(type="M"))
    assert cfg.test_dataloader.dataset.pipeline == ["flip"]
    test.set_output(cfg, "o")
    assert [(e.output_dir, e.keep_results) for e in cfg.test_evaluator] == [("o", True)] * 2
    test.set_visualization(cfg, show=True, show_dir="d", wait_time=1.0)
    assert cfg.default_hooks.visualization == dict(
        type="SegVisualizationHook", draw=True, show=True, wait_time=1.0
    )
    assert cfg.visualizer.save_dir == "d"


def test_output_is_of_label_maps(tool: Tool) -> None:
    test = tool("test")
    depth, iou = dict(type="mmsn.DepthMetric"), dict(type="IoUMetric")
    cfg = Config(dict(test_evaluator=[iou, depth]))
    test.set_output(cfg, "o")
    assert cfg.test_evaluator == [iou | dict(output_dir="o", keep_results=True), depth]
    with pytest.raises(SystemExit, match=r"tools/depth_pictures\.py"):
        test.set_output(Config(dict(test_evaluator=depth)), "o")


def test_depth_pictures_flags(tool: Tool) -> None:
    words = "c.py k.pth --stitch anchors 25 --budget 90G 30% --indices 3 4 --out o --device cuda:0"
    args = tool("depth_pictures").parse_args(words.split())
    assert args.stitch == ["anchors", "25"]
    assert args.budget == ["90G", "30%"]
    assert (args.indices, args.out, args.device) == ([3, 4], "o", "cuda:0")
    assert tool("depth_pictures").parse_args(["c.py", "k.pth"]).images == 4
    with pytest.raises(SystemExit):  # either these images, or so many
        tool("depth_pictures").parse_args(["c.py", "k.pth", "--indices", "3", "--images", "2"])


def test_a_budget_that_cannot_be_kept_is_told_in_one_line(
    tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    test, asked = tool("test"), []

    class Runner:
        def test(self) -> None:
            parse_budget(asked[-1].test_cfg.budgets[-1])

    def build(cfg: Config) -> Runner:
        asked.append(cfg)
        return Runner()

    monkeypatch.setattr(test, "load_config", lambda args: Config(dict(model=dict(type="M"))))
    monkeypatch.setattr(test, "build_runner", build)
    monkeypatch.setattr(sys, "argv", ["test.py", "c.py", "k.pth", "--budget", "30%", "50"])
    with pytest.raises(UserError, match="budget '50' has no unit: write '100G'"):
        test.main()
    expected = dict(type="mmsn.ParetoTestLoop", stitches=[], budgets=["30%", "50"])
    assert asked[0].test_cfg == expected
