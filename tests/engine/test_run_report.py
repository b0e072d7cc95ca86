"""A report joins metrics with what stitches are and cost; earlier reports are kept."""

from types import SimpleNamespace

import pytest
from mmengine.config import Config
from mmengine.logging import MessageHub

from mmsn.engine.hooks.cost_hook import TRAINING_COST
from mmsn.engine.run_report import keep_older, make_report, metrics_so_far
from mmsn.evaluation.report import Training
from mmsn.models import segmentor_macs, segmentor_params
from tests.deploy.tiny import SIZE, tiny_model


class Counts:
    """A metric: how many results there are, and their sum."""

    def __init__(self, prefix, results):
        self.prefix, self.results = prefix, results

    def compute_metrics(self, results):
        values = {"count": len(results), "sum": sum(results)}
        results.clear()  # as mmseg's metrics may
        return values


def test_metrics_so_far_leave_the_results_where_they_are():
    metrics = [Counts(None, [1, 2]), Counts("val", [5])]
    evaluator = SimpleNamespace(metrics=metrics)
    expected = {"count": 2, "sum": 3, "val/count": 1, "val/sum": 5}
    assert metrics_so_far(evaluator) == expected
    assert metrics_so_far(evaluator) == expected
    assert [metric.results for metric in metrics] == [[1, 2], [5]]


def test_older_reports_take_the_first_free_number(tmp_path):
    path = tmp_path / "pareto.json"
    assert keep_older(path) is None
    (tmp_path / "pareto.2.json").write_text("second")
    for content, name in (("a", "pareto.1.json"), ("b", "pareto.3.json")):
        path.write_text(content)
        assert keep_older(path) == tmp_path / name
        assert (tmp_path / name).read_text() == content
        assert not path.exists()
    assert (tmp_path / "pareto.2.json").read_text() == "second"


@pytest.fixture
def runner(tmp_path):
    """As much of a Runner as a report needs."""
    config = tmp_path / "snnetv2_tiny.py"
    config.write_text("load_from = 'weights.pth'\n")
    model = tiny_model()
    return SimpleNamespace(
        model=model,
        cfg=Config.fromfile(config),
        experiment_name="experiment",
        visualizer=SimpleNamespace(dataset_meta=model.dataset_meta),
        message_hub=MessageHub.get_instance(tmp_path.name),
    )


def test_a_report_names_the_run_and_costs_every_stitch(runner):
    results = {0: {"mIoU": 12.345678912, "note": "no number"}, 4: {"mIoU": 30}}
    ious = {0: [10.0, 20.0, 30.0, 40.0, 50.0], 4: [1.0]}
    report = make_report(runner, results, ious, 3, 9, "ab" * 32)
    assert (report.title, report.checkpoint) == ("snnetv2_tiny", "weights.pth")
    assert (report.images, report.of_images) == (3, 9)
    assert report.checkpoint_sha256 == "ab" * 32
    assert report.image_size == (SIZE, SIZE)
    assert list(report.classes) == list("abcde")
    assert report.training is None
    macs, params = segmentor_macs(runner.model, (SIZE, SIZE)), segmentor_params(runner.model)
    for result in report.stitches:
        stitch = runner.model.backbone.space[result.id]
        assert (result.kind, result.segments) == (stitch.kind, stitch.segments)
        assert (result.macs, result.params) == (macs[result.id], params[result.id])
    assert [result.metrics for result in report.stitches] == [{"mIoU": 12.34568}, {"mIoU": 30.0}]
    # One value for each of five classes, or none.
    assert [result.class_iou for result in report.stitches] == [ious[0], None]


def test_a_report_tells_what_the_training_cost_and_needs_no_file_name(runner):
    runner.message_hub.update_info(TRAINING_COST, dict(train_macs=7, images_seen=3, seed=1))
    runner.cfg = Config({})
    report = make_report(runner, {1: {"mIoU": 1.0}}, {}, 1, 1, "")
    assert report.training == Training(train_macs=7, images_seen=3, seed=1)
    assert (report.title, report.config, report.checkpoint) == ("experiment", "", "")
