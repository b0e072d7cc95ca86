"""The Pareto report: its frontier, its file format, its picture."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsn.evaluation import ParetoReport, StitchResult, frontier, plot_pareto
from mmsn.evaluation.baseline import most_frequent_class


def result(stitch_id, macs, value, metric="mIoU"):
    return StitchResult(
        id=stitch_id,
        kind="anchor",
        segments=((0, 0, 12),),
        macs=macs,
        params=1000,
        metrics={metric: value},
    )


def report(*results):
    return ParetoReport(
        title="a title",
        config="c.py",
        checkpoint="x.pth",
        checkpoint_sha256="",
        image_size=(64, 96),
        images=3,
        of_images=4,
        software={},
        stitches=results,
    )


points = st.lists(st.tuples(st.integers(1, 50), st.integers(0, 20)), min_size=1)


@given(points, st.sampled_from(["mIoU", "rmse"]))
def test_the_frontier_is_what_no_cheaper_or_equal_stitch_reaches(values, metric):
    results = [result(i, macs, float(v), metric) for i, (macs, v) in enumerate(values)]
    better = (lambda a, b: a < b) if metric == "rmse" else (lambda a, b: a > b)
    best = frontier(results, metric)
    for r in results:
        dominated = any(
            (o.macs <= r.macs and better(o.metrics[metric], r.metrics[metric]))
            or (o.macs < r.macs and o.metrics[metric] == r.metrics[metric])
            for o in results
        )
        on_it = any((r.macs, r.metrics) == (o.macs, o.metrics) for o in best)
        assert on_it != dominated
    assert [r.macs for r in best] == sorted({r.macs for r in best})


def test_a_report_survives_its_file(tmp_path):
    before = report(result(0, 5, 1.5), result(1, 9, float("nan")))
    before.save(tmp_path / "deep" / "pareto.json")
    after = ParetoReport.load(tmp_path / "deep" / "pareto.json")
    assert after.stitches[0] == before.stitches[0]
    assert np.isnan(after.stitches[1].metrics["mIoU"])
    assert list(tmp_path.rglob("*.part")) == []


def test_fields_are_pinned():
    content = json.loads(report(result(0, 5, 1.5)).model_dump_json())
    assert list(content) == [
        "schema_version",
        "title",
        "config",
        "checkpoint",
        "checkpoint_sha256",
        "image_size",
        "images",
        "of_images",
        "software",
        "stitches",
    ]
    assert list(content["stitches"][0]) == ["id", "kind", "segments", "macs", "params", "metrics"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c: c | {"schema_version": 2}, "schema_version"),
        (lambda c: c | {"surprise": 1}, "surprise"),
        (lambda c: {k: v for k, v in c.items() if k != "stitches"}, "stitches: Field required"),
        (lambda c: c | {"stitches": [{"id": 0}]}, r"stitches\.0\.kind"),
    ],
)
def test_a_foreign_file_is_refused_with_the_reason(tmp_path, change, reason):
    content = json.loads(report(result(0, 5, 1.5)).model_dump_json())
    file = tmp_path / "x.json"
    file.write_text(json.dumps(change(content)))
    with pytest.raises(ValueError, match=rf"x\.json is no Pareto report: {reason}"):
        ParetoReport.load(file)


def test_a_cut_off_file_is_refused(tmp_path):
    file = tmp_path / "x.json"
    file.write_text(report(result(0, 5, 1.5)).model_dump_json()[:40])
    with pytest.raises(ValueError, match="no Pareto report: the whole file"):
        ParetoReport.load(file)


def test_the_table_lists_all_by_cost_and_stars_the_frontier():
    rows = report(result(3, 9_000_000_000, 2.0), result(1, 5_000_000_000, 4.25)).table()
    lines = [line for line in rows.splitlines() if "anchor" in line]
    assert "4.25" in lines[0]
    assert "*" in lines[0]
    assert "*" not in lines[1]


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_picture_is_drawn(tmp_path, ending):
    path = tmp_path / f"curve.{ending}"
    plot_pareto(
        report(result(0, 5, 1.5), result(1, 9, 2.5)),
        path,
        alone={"small": (5.0, 1.2)},
        levels=[("floor", 0.1), ("probe", 1.7)],
    )
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG" if ending == "png" else b"<?xml")
    if ending == "svg":
        assert b"floor: 0.1 (out of view)" in content or b"<!-- floor" in content


def test_the_most_frequent_class_agrees_with_the_metric_of_mmseg():
    from mmseg.evaluation import IoUMetric

    rng = np.random.default_rng(0)
    labels = [rng.choice([0, 1, 1, 3, 255], size=(20, 30)) for _ in range(4)]
    ours = most_frequent_class(labels, num_classes=5)
    metric = IoUMetric(iou_metrics=["mIoU"])
    metric.dataset_meta = dict(classes=list("abcde"))
    import torch

    for label in labels:
        sample = dict(
            pred_sem_seg=dict(data=torch.full((1, 20, 30), 1)),
            gt_sem_seg=dict(data=torch.from_numpy(label)[None]),
        )
        metric.process({}, [sample])
    theirs = metric.evaluate(len(labels))
    assert ours["mIoU"] == pytest.approx(theirs["mIoU"], abs=0.01)
    assert ours["aAcc"] == pytest.approx(theirs["aAcc"], abs=0.01)


def test_no_labelled_pixel_is_refused():
    with pytest.raises(ValueError, match="no labelled pixel"):
        most_frequent_class([np.full((2, 2), 255)], 3)
