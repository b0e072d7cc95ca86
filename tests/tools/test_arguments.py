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

Tool = Callable[[str], ModuleType]
COMMANDS = sorted(
    path.relative_to(ROOT / "tools").with_suffix("").as_posix()
    for path in (ROOT / "tools").rglob("[!_]*.py")
)
HEAVY = {"torch", "mmengine", "mmcv", "mmseg", "mmsn", "numpy"}
RUN = dict(work_dir=None, cfg_options=None, launcher="none", local_rank=0)
MODEL = dict(config="c.py", checkpoint="k.pth")
SCORES = dict(report=None, latency_table=None)


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


PARSED: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "adopt": [
        (
            "c.py --anchors a b=c.pth",
            dict(config="c.py", anchors=["a", "b=c.pth"], out=None, rank=16, stitch=["all"]),
        ),
        (
            "c.py --anchors a b --out d.py --rank 4 --stitch sl 3",
            dict(config="c.py", anchors=["a", "b"], out="d.py", rank=4, stitch=["sl", 3]),
        ),
    ],
    "learngene_pool": [
        (
            "m --out d --instances 6x192 6x768 --images i --steps 9",
            dict(
                model="m",
                out="d",
                instances=[(6, 192), (6, 768)],
                images=["i"],
                steps=9,
                checkpoint=None,
                num_classes=1000,
                positions=3,
                alpha=0.1,
                image_size=None,
                held_out=128,
                batch_size=256,
                lr=5e-5,
                weight_decay=0.05,
                seed=0,
                device="cpu",
                bf16=False,
                workers=0,
                save_every=200,
            ),
        ),
    ],
    "train": [
        ("c.py", dict(config="c.py", **RUN, amp=False, resume=False)),
        (
            "c.py --work-dir w --amp --resume --launcher pytorch --cfg-options a=1 b.c=2 "
            "--local-rank 3",
            dict(
                config="c.py",
                work_dir="w",
                amp=True,
                resume=True,
                launcher="pytorch",
                cfg_options=["a=1", "b.c=2"],
                local_rank=3,
            ),
        ),
        (
            "c.py --local_rank 1",
            dict(config="c.py", **RUN | dict(local_rank=1), amp=False, resume=False),
        ),
    ],
    "test": [
        (
            "c.py k.pth",
            dict(
                **MODEL,
                **RUN,
                stitch=None,
                budget=None,
                out=None,
                show=False,
                show_dir=None,
                wait_time=2,
                tta=False,
            ),
        ),
        (
            "c.py k.pth --out o --show --show-dir d --wait-time 1.5 --tta --launcher slurm "
            "--stitch anchors 25 --budget 30% 100G",
            dict(
                **MODEL,
                **RUN | dict(launcher="slurm"),
                stitch=["anchors", 25],
                budget=["30%", "100G"],
                out="o",
                show=True,
                show_dir="d",
                wait_time=1.5,
                tta=True,
            ),
        ),
    ],
    "benchmark": [
        (
            "c.py k.pth",
            dict(**MODEL, **RUN, stitch=["all"], best_of=None, latency="none", chunk=50, amp=False),
        ),
        (
            "c.py k.pth --stitch sl 3 --latency frontier --chunk 8 --amp",
            dict(
                **MODEL,
                **RUN,
                stitch=["sl", 3],
                best_of=None,
                latency="frontier",
                chunk=8,
                amp=True,
            ),
        ),
        (
            "c.py k.pth --best-of r.json 2",
            dict(
                **MODEL,
                **RUN,
                stitch=["all"],
                best_of=["r.json", "2"],
                latency="none",
                chunk=50,
                amp=False,
            ),
        ),
    ],
    "compare": [
        (
            "c.py k.pth m.onnx n.pt2 --image-size 64 48 --images 5 --repeats 3",
            dict(**MODEL, files=["m.onnx", "n.pt2"], image_size=[64, 48], images=5, repeats=3),
        ),
        (
            "c.py k.pth m.onnx",
            dict(**MODEL, files=["m.onnx"], image_size=None, images=None, repeats=20),
        ),
    ],
    "convert_snnetv2": [
        ("a.pth b.pth", dict(source="a.pth", target="b.pth", config=None, quiet=False)),
        (
            "a.pth b.pth --config c.py --quiet",
            dict(source="a.pth", target="b.pth", config="c.py", quiet=True),
        ),
    ],
    "costs": [
        (
            "c.py",
            dict(
                config="c.py",
                budget=None,
                all=False,
                image_size=None,
                batch_size=1,
                latency_table=None,
                stitch=["all"],
                repeats=20,
                device=None,
                force=False,
            ),
        ),
        (
            "c.py --budget 25ms --image-size 64 48 --batch-size 2 --latency-table t.json "
            "--stitch anchors 4 --repeats 3 --device cpu --force",
            dict(
                config="c.py",
                budget="25ms",
                all=False,
                image_size=[64, 48],
                batch_size=2,
                latency_table="t.json",
                stitch=["anchors", 4],
                repeats=3,
                device="cpu",
                force=True,
            ),
        ),
    ],
    "demo": [("", dict(work_dir="work_dirs/demo")), ("--work-dir w", dict(work_dir="w"))],
    "depth_pictures": [
        (
            "c.py k.pth",
            dict(
                **MODEL,
                **RUN,
                stitch=None,
                budget=None,
                indices=None,
                images=4,
                out=None,
                device=None,
            ),
        ),
        (
            "c.py k.pth --stitch anchors 25 --budget 90G 30% --indices 3 4 --out o --device cuda:0",
            dict(
                **MODEL,
                **RUN,
                stitch=["anchors", 25],
                budget=["90G", "30%"],
                indices=[3, 4],
                images=4,
                out="o",
                device="cuda:0",
            ),
        ),
    ],
    "export": [
        (
            "c.py k.pth --out m.onnx",
            dict(
                **MODEL,
                stitch=None,
                out="m.onnx",
                image_size=None,
                dynamic_size=False,
                precision="float32",
            ),
        ),
        (
            "c.py k.pth --out m.pt2 --stitch middle --image-size 64 48 --precision bfloat16",
            dict(
                **MODEL,
                stitch="middle",
                out="m.pt2",
                image_size=[64, 48],
                dynamic_size=False,
                precision="bfloat16",
            ),
        ),
    ],
    "extract": [
        (
            "c.py k.pth --stitch anchors 9 --out d --plain",
            dict(**MODEL, **SCORES, stitch=["anchors", 9], budget=None, out="d", plain=True),
        ),
        (
            "c.py k.pth --budget 30% 25ms --out d --report r.json --latency-table t.json",
            dict(
                **MODEL,
                stitch=None,
                budget=["30%", "25ms"],
                out="d",
                plain=False,
                report="r.json",
                latency_table="t.json",
            ),
        ),
    ],
    "frontier": [
        ("d", dict(folder="d", page="frontier.md", images="images", metric=None)),
        (
            "d --page p.md --images i --metric rmse",
            dict(folder="d", page="p.md", images="i", metric="rmse"),
        ),
    ],
    "gradio_demo": [
        ("c.py k.pth", dict(**MODEL, report=None, device=None, host="127.0.0.1", port=7860)),
        (
            "c.py k.pth --report r.json --device cpu --host 0.0.0.0 --port 80",
            dict(**MODEL, report="r.json", device="cpu", host="0.0.0.0", port=80),
        ),
    ],
    "infer": [
        (
            "c.py k.pth i.png",
            dict(
                **MODEL,
                **SCORES,
                input="i.png",
                out="painted",
                budget="100%",
                stitch=None,
                device=None,
            ),
        ),
        (
            "c.py k.pth i.png --stitch middle --out o --device cpu --latency-table t.json",
            dict(
                **MODEL,
                input="i.png",
                out="o",
                budget="100%",
                stitch="middle",
                report=None,
                latency_table="t.json",
                device="cpu",
            ),
        ),
    ],
    "report": [
        (
            "a.json",
            dict(
                reports=["a.json"],
                out="report",
                metric=None,
                axis=None,
                alone={},
                interactive=False,
            ),
        ),
        (
            "a.json b.json --out o --metric rmse --axis latency --alone S 1.5 20 --alone L 3 30",
            dict(
                reports=["a.json", "b.json"],
                out="o",
                metric="rmse",
                axis="latency",
                alone=dict(S=(1.5, 20.0), L=(3.0, 30.0)),
                interactive=False,
            ),
        ),
    ],
    "stitch": [
        (
            "--anchors a.py b.py --stitched s.py --work-dir w --probes p.py",
            dict(anchors=["a.py", "b.py"], stitched="s.py", work_dir="w", probes=["p.py"]),
        ),
    ],
    "train_test": [
        ("c.py", dict(config="c.py", **RUN, seed=None)),
        ("c.py --seed 3 --work-dir w", dict(config="c.py", **RUN | dict(work_dir="w"), seed=3)),
    ],
    "dataset_converters/shapes": [
        (
            "",
            dict(out="data/shapes", num_train=1000, num_val=200, size=96, seed=0, difficulty=None),
        ),
    ],
    "dataset_converters/nyuv2_seg": [
        (
            "m.mat s.mat",
            dict(
                mat="m.mat",
                splits="s.mat",
                out="data/nyuv2",
                class_mapping=None,
                image_suffix=".png",
            ),
        ),
    ],
    "dataset_converters/nyuv2_depth": [
        (
            "labelled m.mat s.mat --image-suffix .jpg",
            dict(
                command="labelled",
                mat="m.mat",
                splits="s.mat",
                out="data/nyuv2",
                image_suffix=".jpg",
            ),
        ),
        ("raw nyu.zip --out d", dict(command="raw", source="nyu.zip", out="d")),
    ],
}


@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [(name, words, expected) for name, cases in PARSED.items() for words, expected in cases],
)
def test_flags(tool: Tool, name: str, words: str, expected: dict[str, Any]) -> None:
    assert vars(tool(name).parse_args(words.split())) == expected


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
        ("frontier", "d --pages p.md", "unrecognized arguments: --pages"),
        ("train_test", "c.py --seed x", "invalid int value: 'x'"),
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
        with pytest.raises(UserError, match="budget '50' has no unit: write '100G'"):
            tool(command).main(words.split())
    for command, words in (
        ("infer", "none.py none.pth none.png"),
        ("depth_pictures", "none.py none.pth"),
        ("gradio_demo", "none.py none.pth"),
        ("costs", "none.py"),
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
