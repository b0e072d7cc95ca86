"""The flags of every command, which scripts and ``mim`` depend on, and what they change."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from mmengine.config import Config

from mmsn.deploy import Budget
from mmsn.errors import UserError
from tests.conftest import ROOT
from tests.tools.flags import PARSED

Tool = Callable[[str], ModuleType]
COMMANDS = sorted(
    path.relative_to(ROOT / "tools").with_suffix("").as_posix()
    for path in (ROOT / "tools").rglob("[!_]*.py")
)
HEAVY = {"torch", "mmengine", "mmcv", "mmseg", "mmsn", "numpy"}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_quick_and_promises_no_gpus_flag(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(ROOT / "tools" / f"{name}.py"), "-h"],
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not imported & HEAVY
    # mim adds --gpus N to the command when the help mentions that flag
    assert "--gpus" not in done.stdout


@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [(name, words, expected) for name, cases in PARSED.items() for words, expected in cases],
)
def test_flags(tool: Tool, name: str, words: str, expected: dict[str, Any]) -> None:
    assert vars(tool(name).parse_args(words.split())) == expected


def test_every_command_is_in_the_table() -> None:
    assert sorted(PARSED) == COMMANDS


@pytest.mark.parametrize("path", sorted((ROOT / "tools").rglob("*.py")), ids=lambda path: path.stem)
def test_parser_and_device_are_the_shared_ones(path: Path) -> None:
    """A second parser would abbreviate flags; a second rule would choose another device."""
    text = path.read_text(encoding="utf-8")
    if path.name != "_run_args.py":
        assert "ArgumentParser(" not in text
        assert '"--device"' not in text
    assert "cuda.is_available" not in text


@pytest.mark.parametrize(
    ("name", "words", "fault"),
    [
        ("train", "", "the following arguments are required: config"),
        ("train", "c.py --cfg a=1", "unrecognized arguments: --cfg"),  # never abbreviated
        ("infer", "c.py k.pth i.png --latency t.json", "unrecognized arguments: --latency"),
        ("infer", "c.py k.pth i.png --budget 1G --stitch 2", "not allowed with argument"),
        ("extract", "c.py k.pth --out d", "one of the arguments --stitch --budget is required"),
        ("export", "c.py k.pth --out m.onnx --image-size 0 5", "got '0'; give a whole number from"),
        ("costs", "c.py --batch-size 1.5", "got '1.5'; give a whole number from 1"),
        ("benchmark", "c.py k.pth --best-of r.json x", "K is 'x'; give a whole number from 1"),
        ("benchmark", "c.py k.pth --best-of r.json 2 --stitch all", "not allowed with argument"),
        ("shrink_anchor", "m --out c --depth 0", "--depth: got '0'; give a whole number from 1"),
        ("benchmark_speed", "flops c.py --stitches 0", "unrecognized arguments: --stitches"),
        ("benchmark_speed", "flops c.py --rounds 0", "--rounds: got '0'; give a whole number from"),
        ("frontier", "d --pages p.md", "unrecognized arguments: --pages"),
        ("train_test", "c.py --seed x", "got 'x'; give a whole number from 0"),
        ("report", "a.json --alone S one 2", "could not convert string to float: 'one'; give"),
        ("depth_pictures", "c.py k.pth --indices 3 --images 2", "not allowed with argument"),
        ("dataset_converters/nyuv2_depth", "raw", "required: source"),
    ],
)
def test_a_wrong_word_is_one_line_and_status_2(
    tool: Tool, capsys: pytest.CaptureFixture[str], name: str, words: str, fault: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        tool(name).parse_args(words.split())
    told = capsys.readouterr().err
    assert caught.value.code == 2
    assert told.startswith("error: ")
    assert fault in told
    assert told.count("\n") == 1


def test_budgets_and_device_are_read_before_anything_is_loaded(tool: Tool) -> None:
    shared = tool("_run_args")
    args = argparse.Namespace(budget=["30%", "2G"], device="cpu")
    shared.prepare(args)
    assert args.budget == [Budget("percent", 30.0), Budget("macs", 2.0)]
    assert args.device == torch.device("cpu")
    one = argparse.Namespace(budget="5Mparams", device=None)
    shared.prepare(one)
    assert one.budget == Budget("params", 5.0)
    assert one.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    for command, words in (
        ("test", "none.py none.pth --budget 30% 50"),
        ("extract", "none.py none.pth --budget 50 --out d"),
        ("depth_pictures", "none.py none.pth --budget 50"),
        ("infer", "none.py none.pth none.png --budget 50"),
        ("costs", "none.py --budget 50"),
    ):
        with pytest.raises(UserError, match="budget '50' has no unit: write '400G'"):
            tool(command).main(words.split())
    for command, words in (
        ("infer", "none.py none.pth none.png"),
        ("depth_pictures", "none.py none.pth"),
        ("gradio_demo", "none.py none.pth"),
        ("costs", "none.py"),
        ("benchmark_speed", "flops none.py"),
        ("shrink_anchor", "none --out none.safetensors"),
    ):
        with pytest.raises(UserError, match=r"device 'abacus' cannot be used here \(.*: give one"):
            tool(command).main([*words.split(), "--device", "abacus"])


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
    for word in ("depth", "=1"):
        with pytest.raises(UserError, match=f"--cfg-options {word}: give KEY=VALUE"):
            train.load_config(train.parse_args([str(path), "--cfg-options", word]))
    for word in ("work_dir=[(1,2", "model.widths.x=1"):
        with pytest.raises(UserError, match="do not fit this config"):
            train.load_config(train.parse_args([str(path), "--cfg-options", word]))


def test_amp(tool: Tool) -> None:
    set_amp = tool("train").set_amp
    cfg = Config(dict(optim_wrapper=dict(type="OptimWrapper")))
    set_amp(cfg)
    assert cfg.optim_wrapper == dict(type="AmpOptimWrapper", loss_scale="dynamic")
    with pytest.raises(UserError, match="not None"):
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
    for change in (
        lambda: test.set_tta(Config(dict(tta_pipeline=None))),
        lambda: test.set_visualization(Config(), show=True, show_dir=None, wait_time=1.0),
    ):
        with pytest.raises(UserError, match="need"):
            change()


def test_output_is_of_label_maps(tool: Tool) -> None:
    test = tool("test")
    depth, iou = dict(type="mmsn.DepthMetric"), dict(type="IoUMetric")
    cfg = Config(dict(test_evaluator=[iou, depth]))
    test.set_output(cfg, "o")
    assert cfg.test_evaluator == [iou | dict(output_dir="o", keep_results=True), depth]
    with pytest.raises(UserError, match=r"tools/depth_pictures\.py"):
        test.set_output(Config(dict(test_evaluator=depth)), "o")


def test_named_stitches_and_budgets_become_a_loop(
    tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Config] = []

    class Runner:
        test_loop = argparse.Namespace(report_path=None)

        def test(self) -> None:
            pass

    def build(cfg: Config) -> Runner:
        asked.append(cfg)
        return Runner()

    for name, words, loop in (
        (
            "test",
            "--stitch anchors 2 --budget 30% 90G",
            dict(stitches=["anchors", 2], budgets=["30%", "90G"]),
        ),
        (
            "benchmark",
            "--stitch sl 3",
            dict(stitches=["sl", 3], latency="none", chunk=50, fp16=False),
        ),
    ):
        module = tool(name)
        monkeypatch.setattr(module, "load_config", lambda args: Config(dict(model=dict(type="M"))))
        monkeypatch.setattr(module, "build_runner", build)
        module.main(["c.py", "k.pth", *words.split()])
        assert asked[-1].test_cfg == dict(type="mmsn.ParetoTestLoop", **loop)
        assert asked[-1].load_from == "k.pth"


def test_depth_pictures_are_spread_over_the_dataset(tool: Tool) -> None:
    choose = tool("depth_pictures").choose_images
    assert choose(10, None, 2) == [2, 7]
    assert choose(3, None, 9) == [0, 1, 2]
    assert choose(10, [3, 9], 4) == [3, 9]
    with pytest.raises(UserError, match=r"--indices 10: give indices of the test dataset, 0 to 9"):
        choose(10, [3, 10], 4)
