"""The benchmark loop: it survives being killed, and never mixes results of different things."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mmsn.evaluation import ParetoReport, frontier
from mmsn.models import stitched_backbone

SCRIPT = """
import sys, time
import mmsn, torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.models.segmentors.base import BaseSegmentor
torch.set_num_threads(1)
step = BaseSegmentor.test_step
BaseSegmentor.test_step = lambda self, data: (time.sleep(float(sys.argv[2])), step(self, data))[1]
Runner.from_cfg(Config.fromfile(sys.argv[1])).test()
"""


@pytest.fixture
def checkpoint(run, tmp_path):
    """Weights of some initialisation."""
    runner = run(**{"train_cfg.max_iters": 1})
    runner.train()
    return str(Path(runner.work_dir) / "iter_1.pth")


def metrics_of(path):
    return {r.id: r.metrics for r in ParetoReport.load(path).stitches}


def test_a_killed_run_continues_and_ends_with_the_same_numbers(config, checkpoint, tmp_path):
    config.load_from = checkpoint
    config.test_dataloader.batch_size = 1
    config.test_cfg.chunk = 1
    for name in ("undisturbed", "killed"):
        config.work_dir = str(tmp_path / name)
        config.dump(tmp_path / f"{name}.py")

    def start(name, delay):
        command = [sys.executable, "-c", SCRIPT, str(tmp_path / f"{name}.py"), str(delay)]
        root = Path(__file__).parents[2]
        return subprocess.Popen(
            command,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(root)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    process = start("killed", 0.5)
    partial, deadline = tmp_path / "killed" / "pareto.partial.json", time.time() + 60
    while not partial.is_file() and time.time() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    report = ParetoReport.load(partial)
    assert 1 <= report.images < report.of_images == 3
    assert not (tmp_path / "killed" / "pareto.json").exists()

    processes = [start("killed", 0), start("undisturbed", 0)]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert "Continuing after" in outputs[0]
    assert "Continuing after" not in outputs[1]
    results = [metrics_of(tmp_path / name / "pareto.json") for name in ("killed", "undisturbed")]
    assert results[0] == results[1]
    assert len(results[0]) == 4
    assert not partial.exists()
    assert not list((tmp_path / "killed" / "partial").glob("*"))


def interrupted(run, checkpoint, **changes):
    """A run that stops in its third batch, after two chunks."""
    runner = run(
        load_from=checkpoint,
        **{"test_dataloader.batch_size": 1, "test_cfg.chunk": 1, **changes},
    )
    model, calls = runner.model, []
    step = model.test_step

    def stop(data):
        calls.append(1)
        if len(calls) > 2 * 4:
            raise KeyboardInterrupt
        return step(data)

    model.test_step = stop
    with pytest.raises(KeyboardInterrupt):
        runner.test()
    return runner


@pytest.mark.parametrize("change", ["checkpoint", "stitches", "chunk"])
def test_chunks_of_something_else_are_not_used(run, checkpoint, change, tmp_path):
    first = interrupted(run, checkpoint)
    changes = {"test_dataloader.batch_size": 1, "test_cfg.chunk": 1, "load_from": checkpoint}
    if change == "checkpoint":
        state = torch.load(checkpoint, weights_only=True)
        state["state_dict"]["decode_head.conv_seg.bias"] += 0.1
        torch.save(state, tmp_path / "other.pth")
        changes["load_from"] = str(tmp_path / "other.pth")
    elif change == "stitches":
        changes["test_cfg.stitches"] = ["anchors"]
    else:
        changes["test_cfg.chunk"] = 2
    second = run(work_dir=first.work_dir, **changes)
    seen = []
    step = second.model.test_step
    second.model.test_step = lambda data: seen.append(1) or step(data)
    second.test()
    stitches = 2 if change == "stitches" else 4
    assert len(seen) == 3 * stitches


def test_slide_inference_shares_work_and_changes_no_number(run, checkpoint):
    results, calls = [], []
    slide = {"model.test_cfg": dict(mode="slide", crop_size=(16, 16), stride=(12, 12))}
    for loop in ("mmsn.ParetoTestLoop", "TestLoop"):
        stitches = [0, 1, 2, 4] if loop == "TestLoop" else ["all"]
        for stitch in stitches:
            changes = {} if stitch == "all" else dict(test_cfg=dict(type="TestLoop", _delete_=True))
            runner = run(load_from=checkpoint, **slide, **changes)
            runner.load_or_resume()
            backbone, number = stitched_backbone(runner.model), len(results)
            for anchor in backbone.anchors:
                for block in anchor.vit.blocks:
                    block.register_forward_hook(lambda *_, at=number: calls.append(at))
            if stitch != "all":
                backbone.set_stitch(stitch)
            results.append(runner.test())
    shared, apart = results[0], results[1:]
    for stitch, alone in zip((0, 1, 2, 4), apart, strict=True):
        assert shared[f"stitch{stitch}/mIoU"] == alone["mIoU"]
    assert calls.count(0) < sum(calls.count(i) for i in range(1, 5))


def test_a_csv_lies_beside_the_report(run, checkpoint):
    runner = run(load_from=checkpoint)
    runner.test()
    report = json.loads((Path(runner.work_dir) / "pareto.json").read_text())
    with open(Path(runner.work_dir) / "pareto.csv") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["id"]) for row in rows] == [s["id"] for s in report["stitches"]]
    values = [stitch["metrics"]["mIoU"] for stitch in report["stitches"]]
    assert [float(row["mIoU"]) for row in rows] == values
    assert report["images"] == report["of_images"] == 3
    assert len(report["checkpoint_sha256"]) == 64


def test_a_chunk_of_no_image_is_refused(run):
    runner = run(**{"test_cfg.chunk": 0})
    with pytest.raises(ValueError, match="chunk 0 is not allowed"):
        runner.test()


def test_class_iou_is_that_of_the_metric_and_latency_is_measured(run, checkpoint):
    runner = run(load_from=checkpoint, **{"test_cfg.latency": "frontier"})
    runner.test()
    report = ParetoReport.load(Path(runner.work_dir) / "pareto.json")
    assert len(report.classes) == 12
    for result in report.stitches:
        seen = [iou for iou in result.class_iou if iou == iou]  # NaN: the class does not occur
        assert sum(seen) / len(seen) == pytest.approx(result.metrics["mIoU"], abs=0.01)
    timed = [result for result in report.stitches if result.latency]
    assert {r.id for r in timed} == {r.id for r in frontier(report.stitches, "mIoU")}
    assert all(0 < r.latency.p50_ms <= r.latency.p90_ms for r in timed)
    assert report.latency_setting.device.startswith("cpu (")
    assert report.latency_setting.batch_size == 1


def test_an_unknown_latency_is_refused(run):
    with pytest.raises(ValueError, match="'some' is unknown"):
        run(**{"test_cfg.latency": "some"}).test()


def test_the_command_line_benchmarks_and_draws(tool, config, checkpoint, tmp_path, monkeypatch):
    config.dump(tmp_path / "config.py")
    work_dir = tmp_path / "benchmark"
    command = ["benchmark.py", str(tmp_path / "config.py"), checkpoint, "--work-dir", str(work_dir)]
    monkeypatch.setattr(sys, "argv", [*command, "--stitches", "anchors", "4"])
    tool("benchmark").main()
    report = ParetoReport.load(work_dir / "pareto.json")
    assert [result.id for result in report.stitches] == [0, 1, 4]
    for ending in ("png", "svg", "html", "md", "csv"):
        assert (work_dir / f"pareto.{ending}").stat().st_size > 50
    args = tool("benchmark").parse_args(
        ["c.py", "k.pth", "--best-of", str(work_dir / "pareto.json"), "1"]
    )
    chosen = tool("benchmark").best_of(*args.best_of)
    assert set(chosen) <= {0, 1, 4}
    assert {0, 1} <= set(chosen)
