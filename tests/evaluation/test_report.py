"""The Pareto report as a file: what it holds, what it refuses, its CSV."""

import csv
import json

import numpy as np
import pytest
from pydantic import ValidationError

from mmsn.errors import UserError
from mmsn.evaluation import ParetoReport, Training
from mmsn.evaluation.report import Latency, LatencySetting
from tests.evaluation.reports import FAST, depth_report, report, result


def test_a_report_survives_its_file(tmp_path):
    before = report(result(0, 5, 1.5), result(1, 9, float("nan")))
    before.save(tmp_path / "deep" / "pareto.json")
    after = ParetoReport.load(tmp_path / "deep" / "pareto.json")
    assert after.stitches[0] == before.stitches[0]
    assert np.isnan(after.stitches[1].metrics["mIoU"])
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["pareto.json"]


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
        "classes",
        "latency_setting",
        "training",
        "software",
        "stitches",
    ]
    assert list(content["stitches"][0]) == [
        "id",
        "kind",
        "segments",
        "macs",
        "params",
        "metrics",
        "class_iou",
        "latency",
    ]


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
    with pytest.raises(UserError, match=rf"x\.json is not a Pareto report: {reason}"):
        ParetoReport.load(file)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (dict(images=5), "images 5 are more than of_images 4"),
        (dict(stitches=[result(0, 5, 1.0), result(0, 6, 2.0)]), "stitch 0 is listed twice"),
        (
            dict(stitches=[result(0, 5, 1.0), result(1, 6, 2.0, "rmse")]),
            r"stitch 1 has the metrics \['rmse'\], the first",
        ),
        (
            dict(stitches=[result(0, 5, 1.0).model_copy(update=dict(class_iou=[1.0]))]),
            "class_iou of stitch 0 has 1 values for 0 classes",
        ),
        (
            dict(stitches=[result(0, 5, 1.0).model_copy(update=dict(latency=FAST))]),
            "stitch 0 has a latency, which needs a latency_setting",
        ),
        (
            dict(stitches=[result(0, 5, 1.0).model_copy(update=dict(segments=((0, 3, 3),)))]),
            "runs no block",
        ),
    ],
)
def test_a_report_that_contradicts_itself_is_refused(tmp_path, change, reason):
    wrong = report(result(0, 5, 1.5)).model_copy(update=change)
    wrong.save(tmp_path / "x.json")
    with pytest.raises(UserError, match=reason):
        ParetoReport.load(tmp_path / "x.json")


def test_a_90th_percentile_below_the_median_is_refused():
    with pytest.raises(ValidationError, match=r"p90_ms 1.0 is below p50_ms 2.0"):
        Latency(p50_ms=2, p90_ms=1, repeats=3)


def test_a_cut_off_file_is_refused(tmp_path):
    file = tmp_path / "x.json"
    file.write_text(report(result(0, 5, 1.5)).model_dump_json()[:40])
    with pytest.raises(UserError, match="not a Pareto report: the whole file"):
        ParetoReport.load(file)


def test_both_tasks_are_reported_by_iou_first():
    both = depth_report()
    for r in both.stitches:
        r.metrics["mIoU"] = 40.0
    assert both.default_metric() == "mIoU"


def test_the_csv_names_every_column(tmp_path):
    timed = result(1, 70, 2.5).model_copy(update=dict(latency=FAST))
    setting = LatencySetting(device="cpu", dtype="float32", batch_size=1, threads=1)
    whole = report(result(0, 50, 1.5), timed, latency_setting=setting)
    whole.save_csv(tmp_path / "x.csv")
    with open(tmp_path / "x.csv") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == dict(
        id="0", kind="anchor", segments="0:0-12", macs="50", params="1000", p50_ms="", p90_ms="",
        mIoU="1.5",
    )  # fmt: skip
    assert (rows[1]["p50_ms"], rows[1]["p90_ms"]) == ("1.0", "2.0")


def test_what_the_weights_cost_may_be_stated(tmp_path):
    training = Training(train_macs=10**22, images_seen=12_000, seed=0)
    report(result(0, 5, 1.5), training=training).save(tmp_path / "x.json")
    assert ParetoReport.load(tmp_path / "x.json").training == training
    assert report(result(0, 5, 1.5)).training is None
    assert Training(seed=3).model_dump() == dict(train_macs=None, images_seen=None, seed=3)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"macs":5', f'"macs":{10**309}', "stitches.0.macs: .* less than or equal to 9223372"),
        (
            '"params":1000',
            '"params":1' + 5000 * "0",
            "the whole file: Invalid JSON: number out",
        ),
        ('"id":0', f'"id":{2**63}', "stitches.0.id: .*, got 9223372036854775808"),
        ('"images":3', '"images":-1', "images: .* greater than or equal to 0, got -1"),
        ('"seed":1', '"seed":-1', "training.seed"),
        ('"train_macs":7', '"train_macs":0', "training.train_macs"),
        ('"train_macs":7', f'"train_macs":{10**31}', "training.train_macs"),
    ],
)
def test_a_number_outside_its_range_is_refused_where_it_is_read(tmp_path, old, new, reason):
    training = Training(train_macs=7, seed=1)
    text = report(result(0, 5, 1.5), training=training).model_dump_json()
    assert old in text
    (tmp_path / "x.json").write_text(text.replace(old, new))
    with pytest.raises(UserError, match=rf"x\.json is not a Pareto report: {reason}") as caught:
        ParetoReport.load(tmp_path / "x.json")
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"Pareto report .*x\.json could not be read: No such"):
        ParetoReport.load(tmp_path / "x.json")
