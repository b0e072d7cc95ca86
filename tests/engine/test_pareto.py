"""The benchmark loop: its reports, for any metric, and its command."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from mmengine.evaluator import BaseMetric

from mmsn.errors import UserError
from mmsn.evaluation import ParetoReport, frontier
from mmsn.models import stitched_backbone
from mmsn.registry import METRICS


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
