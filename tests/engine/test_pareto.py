"""The benchmark loop: it survives being killed, and never mixes results of different things."""

import csv
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.runner import Runner
from mmseg.models.segmentors.base import BaseSegmentor
from PIL import Image

from mmsn.engine.chunks import ChunkStore, FolderLock
from mmsn.errors import UserError
from mmsn.evaluation import ParetoReport, frontier
from mmsn.models import stitched_backbone
from mmsn.registry import METRICS
from tests.engine.processes import CONTEXT
from tests.engine.reading import log_of


def _test(path, delay, log):
    """Test a config in a process of its own, each batch delayed by so many seconds."""
    with open(log, "w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    torch.set_num_threads(1)
    step = BaseSegmentor.test_step
    BaseSegmentor.test_step = lambda self, data: (time.sleep(delay), step(self, data))[1]
    Runner.from_cfg(Config.fromfile(path)).test()


@pytest.fixture
def checkpoint(run, tmp_path):
    """Weights of some initialization."""
    runner = run(**{"train_cfg.max_iters": 1})
    runner.train()
    return str(Path(runner.work_dir) / "iter_1.pth")


def metrics_of(path):
    return {r.id: r.metrics for r in ParetoReport.load(path).stitches}


@pytest.mark.slow
def test_a_killed_run_continues_and_ends_with_the_same_numbers(config, checkpoint, tmp_path):
    config.load_from = checkpoint
    config.test_dataloader.batch_size = 1
    config.test_cfg.chunk = 1
    for name in ("undisturbed", "killed"):
        config.work_dir = str(tmp_path / name)
        config.dump(tmp_path / f"{name}.py")

    def start(name, delay):
        files = str(tmp_path / f"{name}.py"), delay, str(tmp_path / f"{name}.log")
        process = CONTEXT.Process(target=_test, args=files)
        process.start()
        return process

    process = start("killed", 0.5)
    partial = tmp_path / "killed" / "pareto.partial.json"
    # No deadline: on a busy machine the imports alone take longer than a minute.
    while not partial.is_file() and process.is_alive():
        time.sleep(0.02)
    process.kill()
    process.join()
    report = ParetoReport.load(partial)
    assert 1 <= report.images < report.of_images == 3
    assert not (tmp_path / "killed" / "pareto.json").exists()

    processes = [start("killed", 0), start("undisturbed", 0)]
    for process in processes:
        process.join()
    outputs = [(tmp_path / f"{name}.log").read_text() for name in ("killed", "undisturbed")]
    assert [process.exitcode for process in processes] == [0, 0], outputs
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


def resumed(run, first, checkpoint, stitches=4, **changes):
    """How many of the images a second run in the same folder evaluates, and that run."""
    standard = {"test_dataloader.batch_size": 1, "test_cfg.chunk": 1, "load_from": checkpoint}
    second = run(work_dir=first.work_dir, **standard | changes)
    seen = []
    step = second.model.test_step
    second.model.test_step = lambda data: seen.append(1) or step(data)
    second.test()
    return len(seen) / stitches, second


def test_chunks_of_the_same_are_used(run, checkpoint):
    assert resumed(run, interrupted(run, checkpoint), checkpoint)[0] == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"test_cfg.stitches": ["anchors"]},
        {"test_cfg.chunk": 2},
        {"test_cfg.fp16": True},
        {"test_evaluator.iou_metrics": ["mIoU", "mDice"]},
        {"model.test_cfg": dict(mode="slide", crop_size=(16, 16), stride=(12, 12))},
        {"test_dataloader.dataset.data_prefix.seg_map_path": "labels"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_chunks_of_another_config_are_not_used(run, checkpoint, shapes, changes):
    labels = shapes / "labels"
    if not labels.exists():
        shutil.copytree(shapes / "annotations/validation", labels)
    stitches = 2 if "test_cfg.stitches" in changes else 4
    first = interrupted(run, checkpoint)
    assert resumed(run, first, checkpoint, stitches, **changes)[0] == 3


def test_chunks_of_other_weights_are_not_used(run, checkpoint, tmp_path):
    first = interrupted(run, checkpoint)
    state = torch.load(checkpoint, weights_only=True)
    state["state_dict"]["decode_head.conv_seg.bias"] += 0.1
    torch.save(state, tmp_path / "other.pth")
    assert resumed(run, first, str(tmp_path / "other.pth"))[0] == 3
    first = interrupted(run, None)  # with the weights that the model has
    assert resumed(run, first, None, **{"randomness.seed": 1})[0] == 3


@pytest.mark.parametrize(("chunk", "numbers"), [(2, [0, 1]), (3, [0, 1]), (4, [0])])
def test_a_chunk_has_as_many_images_as_asked_for_in_whole_batches(
    run, checkpoint, monkeypatch, chunk, numbers
):
    saved, save = [], ChunkStore.save
    monkeypatch.setattr(
        ChunkStore,
        "save",
        lambda self, number, results: saved.append(number) or save(self, number, results),
    )
    run(load_from=checkpoint, **{"test_cfg.chunk": chunk, "test_cfg.stitches": [0]}).test()
    assert saved == numbers  # of three images, two in a batch


def test_a_folder_in_use_is_refused_before_anything_is_evaluated(run, checkpoint):
    pytest.importorskip("fcntl")
    runner = run(load_from=checkpoint)
    with (
        FolderLock(Path(runner.work_dir)),
        pytest.raises(UserError, match="in use by another benchmark"),
    ):
        runner.test()
    assert not list(Path(runner.work_dir).glob("p*"))  # neither chunks nor a report


def test_chunks_of_changed_labels_are_not_used(run, checkpoint, shapes, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(shapes, root)
    data = {"test_dataloader.dataset.data_root": str(root)}
    first = interrupted(run, checkpoint, **data)
    label = sorted((root / "annotations/validation").iterdir())[0]
    Image.fromarray(255 - np.array(Image.open(label))).save(label)
    images, second = resumed(run, first, checkpoint, **data)
    assert images == 3
    assert log_of(second).count("holds an unfinished benchmark of another checkpoint") == 1
    assert not (Path(second.work_dir) / "partial").exists()


@pytest.mark.parametrize("content", [b"", b"no chunk", "cut"])
def test_a_damaged_chunk_is_evaluated_again(run, checkpoint, content):
    first = interrupted(run, checkpoint)
    path = next(Path(first.work_dir).rglob("rank0-chunk00001.pt"))
    path.write_bytes(path.read_bytes()[:-100] if content == "cut" else content)
    images, second = resumed(run, first, checkpoint)
    assert images == 2
    undisturbed = run(load_from=checkpoint, **{"test_dataloader.batch_size": 1})
    undisturbed.test()
    found, expected = (metrics_of(Path(r.work_dir) / "pareto.json") for r in (second, undisturbed))
    assert found == expected


def test_a_shuffled_order_is_refused(run, checkpoint):
    runner = run(load_from=checkpoint, **{"test_dataloader.sampler.shuffle": True})
    with pytest.raises(UserError, match="shuffle=False"):
        runner.test()


@METRICS.register_module()
class OddMetric(BaseMetric):
    """A metric that keeps objects, writes files, wants all images and gives more than numbers."""

    def __init__(self, output_dir, plain=True):
        super().__init__(prefix="odd")
        self.output_dir, self.plain = output_dir, plain

    def process(self, data_batch, data_samples):
        for sample in data_samples:
            path = Path(self.output_dir) / f"{len(self.results)}.npy"
            np.save(path, sample["pred_sem_seg"]["data"].cpu().numpy())
            self.results.append(str(path) if self.plain else path)

    def compute_metrics(self, results):
        if len(results) < 3:
            raise RuntimeError("needs every image")
        total = sum(int(np.load(path).sum()) for path in results)
        return dict(total=total, histogram=np.arange(3), note="text")


@pytest.mark.slow
@pytest.mark.parametrize("plain", [True, False])
def test_any_metric_will_do(run, checkpoint, tmp_path, plain):
    evaluator = [
        dict(type="IoUMetric", iou_metrics=["mIoU"]),
        dict(type="mmsn.OddMetric", output_dir=str(tmp_path / "files"), plain=plain),
    ]
    changes = dict(load_from=checkpoint, test_evaluator=evaluator)
    changes["test_dataloader.batch_size"] = 1
    if not plain:
        with pytest.raises(UserError, match=r"not plain data.* set chunk=0"):
            run(**changes, **{"test_cfg.chunk": 1}).test()
        changes["test_cfg.chunk"] = 0
    else:
        changes["test_cfg.chunk"] = 1
    runner = run(**changes)
    runner.test()
    report = ParetoReport.load(Path(runner.work_dir) / "pareto.json")
    for result in report.stitches:
        assert result.metrics.keys() >= {"mIoU", "odd/total"}
        assert not result.metrics.keys() & {"odd/histogram", "odd/note"}
        alone = run(**changes | {"test_cfg": dict(type="TestLoop", _delete_=True)})
        stitched_backbone(alone.model).set_stitch(result.id)
        assert alone.test()["odd/total"] == result.metrics["odd/total"]


def test_without_metrics_there_is_no_report(tool, config, checkpoint, tmp_path):
    work_dir = tmp_path / "benchmark"
    work_dir.mkdir()
    (work_dir / "pareto.json").write_text("an older one")
    config.test_evaluator.update(format_only=True, output_dir=str(tmp_path / "out"))
    config.dump(tmp_path / "config.py")
    tool("benchmark").main([str(tmp_path / "config.py"), checkpoint, "--work-dir", str(work_dir)])
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        f"stitch{i}" for i in (0, 1, 2, 4)
    ]
    assert not list(work_dir.glob("pareto.png"))
    assert not list(work_dir.glob("pareto.partial.json"))


@pytest.mark.slow
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


def test_a_chunk_below_no_image_is_refused(run):
    with pytest.raises(UserError, match="chunk -1 is not allowed"):
        run(**{"test_cfg.chunk": -1}).test()


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
    with pytest.raises(UserError, match="'some' is unknown"):
        run(**{"test_cfg.latency": "some"}).test()


def test_the_command_line_benchmarks_and_draws(tool, config, checkpoint, tmp_path):
    config.dump(tmp_path / "config.py")
    work_dir = tmp_path / "benchmark"
    words = [str(tmp_path / "config.py"), checkpoint, "--work-dir", str(work_dir)]
    tool("benchmark").main([*words, "--stitch", "anchors", "4"])
    report = ParetoReport.load(work_dir / "pareto.json")
    assert [result.id for result in report.stitches] == [0, 1, 4]
    for ending in ("png", "svg", "html", "md", "csv"):
        assert (work_dir / f"pareto.{ending}").stat().st_size > 50
    args = tool("benchmark").parse_args(
        ["c.py", "k.pth", "--best-of", str(work_dir / "pareto.json"), "1"]
    )
    chosen = tool("benchmark").best_of(args.best_of[0], int(args.best_of[1]))
    assert set(chosen) <= {0, 1, 4}
    assert {0, 1} <= set(chosen)


def test_mixed_precision_gives_what_mmengine_gives(run, checkpoint):
    mixed = dict(load_from=checkpoint, **{"test_cfg.fp16": True})
    runner = run(**mixed, **{"test_cfg.latency": "frontier"})
    shared = runner.test()
    assert ParetoReport.load(Path(runner.work_dir) / "pareto.json").latency_setting.dtype in (
        "bfloat16",
        "float16",
    )
    for stitch in (0, 4):
        runner = run(**mixed | {"test_cfg": dict(type="TestLoop", fp16=True, _delete_=True)})
        stitched_backbone(runner.model).set_stitch(stitch)
        alone = runner.test()
        assert {k: shared[f"stitch{stitch}/{k}"] for k in alone} == alone


def test_the_report_of_an_earlier_run_is_kept(run, checkpoint):
    first = run(load_from=checkpoint)
    first.test()
    folder = Path(first.work_dir)
    before = (folder / "pareto.json").read_bytes()
    for _ in range(2):
        changes = {"test_cfg.stitches": [0]}
        run(load_from=checkpoint, work_dir=str(folder), **changes).test()
    logged = "".join(path.read_text() for path in folder.rglob("*.log"))
    for number in (1, 2):
        line = f"The report of an earlier run is now {folder / f'pareto.{number}.json'}\n"
        assert logged.count(line) == 1
    assert (folder / "pareto.1.json").read_bytes() == before
    assert len(ParetoReport.load(folder / "pareto.2.json").stitches) == 1
    assert len(ParetoReport.load(folder / "pareto.json").stitches) == 1


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["no.pth"], "error: checkpoint 'no.pth' does not exist"),
        (["CHECKPOINT", "--stitch", "3"], "error: stitch 3 is unknown: ids are 0 to 4 without 3"),
    ],
)
def test_bad_input_is_one_line(tool, config, checkpoint, tmp_path, capsys, words, line):
    config.dump(tmp_path / "config.py")
    words = [checkpoint if word == "CHECKPOINT" else word for word in words]
    words = [str(tmp_path / "config.py"), *words, "--work-dir", str(tmp_path / "out")]
    command = tool("benchmark")
    with pytest.raises(SystemExit) as ended:
        tool("_run_args").run(lambda: command.main(words))
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(line)
