"""What the loops of many stitches do once, what they share, and when they keep mmseg's way."""

import math
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook, IterTimerHook, NaiveVisualizationHook
from mmseg.engine.hooks import SegVisualizationHook
from mmseg.evaluation import IoUMetric

from mmsn.engine import loops, pareto
from mmsn.evaluation import ParetoReport
from mmsn.evaluation.iou import BatchLabels
from mmsn.evaluation.tables import class_table
from mmsn.models.label_prediction import LabelStep
from mmsn.registry import HOOKS, METRICS
from mmsn.stitching.trie import Trie
from tests.engine.reading import log_of


@METRICS.register_module()
class ReadsLogits(IoUMetric):
    """A metric that wants more than labels."""

    def process(self, data_batch, data_samples):
        assert all(len(sample["seg_logits"]["data"]) == 12 for sample in data_samples)
        super().process(data_batch, data_samples)


@HOOKS.register_module()
class ReadsOutputs(Hook):
    """A hook that looks at predictions."""

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        assert all("seg_logits" in sample for sample in outputs)


@HOOKS.register_module()
class DrawsItsOwnWay(SegVisualizationHook):
    """Draws nothing as mmseg would, but looks at predictions."""

    def _after_iter(self, runner, batch_idx, data_batch=None, outputs=None, mode="val"):
        assert all("seg_logits" in sample for sample in outputs)


@pytest.fixture
def count(monkeypatch):
    """``count(owner, name)`` lists the calls of a function."""

    def install(owner, name):
        calls, function = [], getattr(owner, name)
        monkeypatch.setattr(
            owner, name, lambda *args, **kw: calls.append(args) or function(*args, **kw)
        )
        return calls

    return install


def results(run, monkeypatch, quick, changes):
    """Every metric's results per image, by stitch, and the figures."""
    kept, evaluate = {}, loops.StitchEvaluators.evaluate

    def keep(self, size):  # metrics forget their results when they are evaluated
        kept.update({i: list(e.metrics[0].results) for i, e in self.by_id.items()})
        return evaluate(self, size)

    with monkeypatch.context() as patch:
        patch.setattr(loops.StitchEvaluators, "evaluate", keep)
        if not quick:
            patch.setattr(loops.StitchLoop, "_wants_labels_only", lambda self: False)
            patch.setattr(BatchLabels, "process", lambda self, metric, *rest: metric.process(*rest))
        return kept, run(**changes).test()


@pytest.mark.parametrize("mode", ["whole", "slide"])
def test_the_quick_way_gives_the_results_of_mmseg(run, monkeypatch, mode):
    """Per image, not only in the mean."""
    changes = {"model.test_cfg": dict(mode=mode, crop_size=(16, 16), stride=(12, 12))}
    (ours, figures), (theirs, expected) = (
        results(run, monkeypatch, quick, changes) for quick in (True, False)
    )
    assert figures == expected
    assert ours.keys() == theirs.keys() == {0, 1, 2, 4}
    for stitch in ours:
        assert len(ours[stitch]) == len(theirs[stitch]) == 3
        for a, b in zip(ours[stitch], theirs[stitch], strict=True):
            assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


NECK = dict(type="MultiLevelNeck", in_channels=[24] * 2, out_channels=8, scales=[2, 1])
FPN = dict(
    type="FPNHead",
    in_channels=[8] * 2,
    in_index=[0, 1],
    channels=8,
    feature_strides=[8, 16],
    num_classes=12,
)


@pytest.mark.parametrize("mode", ["whole", "slide"])
def test_what_heads_share_changes_no_result(run, count, monkeypatch, mode):
    changes = {
        "model.test_cfg": dict(mode=mode, crop_size=(16, 16), stride=(12, 12)),
        "model.neck": NECK,
        "model.decode_head": FPN | dict(_delete_=True),
    }
    convs = count(torch.nn.Conv2d, "forward")
    ours, figures = results(run, monkeypatch, True, changes)
    shared = len(convs)
    monkeypatch.setattr(loops, "level_modules", lambda *_: ())
    alone, expected = results(run, monkeypatch, True, changes)
    assert shared < len(convs) - shared
    assert figures == expected
    assert all(
        torch.equal(torch.stack(a), torch.stack(b))
        for i in ours
        for a, b in zip(ours[i], alone[i], strict=True)
    )


def test_a_batch_is_prepared_once_and_the_trie_and_the_hash_are_made_once(run, count, tmp_path):
    first = run(**{"train_cfg.max_iters": 1})
    first.train()
    runner = run(
        load_from=str(Path(first.work_dir) / "iter_1.pth"),
        **{"test_dataloader.batch_size": 1, "test_cfg.chunk": 1},
    )
    prepared = []
    runner.model.data_preprocessor.register_forward_hook(lambda *_: prepared.append(1))
    tries, hashes = count(Trie, "__init__"), count(pareto, "sha256_of")
    steps = count(LabelStep, "__call__")
    runner.test()
    assert len(tries) == len(hashes) == 1
    assert len(prepared) == 3
    assert len(steps) == 3 * 4
    report = ParetoReport.load(Path(runner.work_dir) / "pareto.json")
    assert len(report.checkpoint_sha256) == 64


def test_of_mmengines_hooks_one_reads_predictions():
    assert loops._reads_outputs(NaiveVisualizationHook())
    assert not loops._reads_outputs(IterTimerHook())
    assert not loops._reads_outputs(SegVisualizationHook(draw=False))


@pytest.mark.parametrize(
    "changes",
    [
        {"test_evaluator.type": "mmsn.ReadsLogits"},
        {"custom_hooks": [dict(type="mmsn.ReadsOutputs")]},
        {"default_hooks.visualization": dict(type="SegVisualizationHook", draw=True)},
        {"default_hooks.visualization": dict(type="mmsn.DrawsItsOwnWay")},
    ],
    ids=["metric", "hook", "pictures", "subclass"],
)
def test_logits_are_there_where_they_may_be_read(run, count, changes):
    steps = count(LabelStep, "__call__")
    runner = run(visualizer=dict(type="SegLocalVisualizer", name="logits"), **changes)
    assert runner.test()
    assert not steps


def test_the_classes_of_a_few_stitches_share_one_table(run):
    runner = run(**{"test_cfg.stitches": ["anchors"]})
    runner.test()
    report = ParetoReport.load(Path(runner.work_dir) / "pareto.json")
    ious = {result.id: result.class_iou for result in report.stitches}
    assert list(ious) == [0, 1]
    for result in report.stitches:  # NaN: the class does not occur
        seen = [iou for iou in result.class_iou if not math.isnan(iou)]
        assert sum(seen) / len(seen) == pytest.approx(result.metrics["mIoU"], abs=0.01)
    table = class_table(report.classes, ious)
    assert log_of(runner).count(f"IoU of each class in percent\n{table}\n") == 1
