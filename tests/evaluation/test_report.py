"""The Pareto report: its frontier, its file format, its picture."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mmsn.errors import UserError
from mmsn.evaluation import (
    ParetoReport,
    StitchResult,
    class_gains,
    frontier,
    hypervolume,
    pareto_figure,
    plot_pareto,
    write_page,
)
from mmsn.evaluation.depth_metric import DEPTH_METRICS
from mmsn.evaluation.report import Latency, LatencySetting, metric_label, shown

ROOT = Path(__file__).parents[2]


def result(stitch_id, macs, value, metric="mIoU"):
    return StitchResult(
        id=stitch_id,
        kind="anchor",
        segments=((0, 0, 12),),
        macs=macs,
        params=1000,
        metrics={metric: value},
    )


def report(*results, **changes):
    fields = dict(
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
    return ParetoReport(**fields | changes)


FAST = Latency(p50_ms=1, p90_ms=2, repeats=3)
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
        "classes",
        "latency_setting",
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
    with pytest.raises(UserError, match=rf"x\.json is no Pareto report: {reason}"):
        ParetoReport.load(file)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (dict(images=5), "images 5 are more than of_images 4"),
        (dict(stitches=[result(0, 5, 1.0), result(0, 6, 2.0)]), "a stitch is there twice"),
        (
            dict(stitches=[result(0, 5, 1.0), result(1, 6, 2.0, "rmse")]),
            "stitch 1 has other metrics",
        ),
        (
            dict(stitches=[result(0, 5, 1.0).model_copy(update=dict(class_iou=[1.0]))]),
            "class_iou of stitch 0 does not fit",
        ),
        (
            dict(stitches=[result(0, 5, 1.0).model_copy(update=dict(latency=FAST))]),
            "latencies need a latency_setting",
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
    with pytest.raises(UserError, match="no Pareto report: the whole file"):
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


def depth_report(prefix=""):
    """Three stitches with depth metrics; the one in the middle is worse than the cheapest."""
    results = []
    for i, (macs, rmse) in enumerate([(5, 0.51312), (7, 0.5242), (9, 0.38734)]):
        metrics = {f"{prefix}{k}": 0.9 if k[:1] == "d" else 0.1 for k in DEPTH_METRICS}
        metrics[f"{prefix}rmse"] = rmse
        one = result(i, macs * 10**9, 0.0)
        results.append(one.model_copy(update=dict(metrics=metrics)))
    return report(*results)


@pytest.mark.parametrize("prefix", ["", "depth/"])
def test_depth_is_reported_by_rmse_and_less_is_better(prefix, tmp_path):
    mine = depth_report(prefix)
    metric = mine.default_metric()
    assert metric == f"{prefix}rmse"
    assert [r.id for r in frontier(mine.stitches, metric)] == [0, 2]
    assert hypervolume(mine.stitches, metric, 9e9, 0.6) == pytest.approx(4 * (0.6 - 0.51312))
    assert [line.split("|")[-2].strip() for line in mine.markdown().splitlines()[2:]] == [
        "0.5131",
        "0.3873",
    ]
    rows = [line for line in mine.table().splitlines() if "anchor" in line]
    assert [("*" in row) for row in rows] == [True, False, True]
    assert "0.5242" in rows[1]
    assert class_gains(mine) == []
    plot_pareto(mine, tmp_path / "x.svg", levels=[("constant depth", 0.5171)])
    assert f"<!-- {prefix}rmse (m, lower is better) -->" in (tmp_path / "x.svg").read_text()
    assert "<!-- constant depth: 0.5171 -->" in (tmp_path / "x.svg").read_text()
    write_page([mine], tmp_path / "x.html", alone={"alone": (5.0, 0.41236)})
    page = (tmp_path / "x.html").read_text()
    assert "<td>0.3873</td>" in page
    assert f"{prefix}rmse 0.5242" in page.replace("\\u002f", "/")
    assert "5 GFLOPs, 0.4124" in page
    assert "IoU of each class" not in page


def test_both_tasks_are_reported_by_iou_first():
    both = depth_report()
    for r in both.stitches:
        r.metrics["mIoU"] = 40.0
    assert both.default_metric() == "mIoU"


def test_labels_and_digits():
    assert metric_label("mIoU") == "mIoU (%)"
    assert metric_label("depth/rmse") == "depth/rmse (m, lower is better)"
    assert metric_label("abs_rel") == "abs_rel (lower is better)"
    assert metric_label("d1") == "d1"
    assert [shown(v) for v in (45.5, 0.5131, 5.12345, 100, float("nan"))] == [
        "45.50",
        "0.5131",
        "5.123",
        "100.0",
        "nan",
    ]


def test_hypervolume_is_the_area_to_the_reference_point():
    results = [result(0, 2_000_000_000, 10.0), result(1, 5_000_000_000, 30.0)]
    results.append(result(2, 6_000_000_000, 20.0))  # dominated
    assert hypervolume(results, "mIoU", 8e9, 0.0) == pytest.approx(3 * 10 + 3 * 30)
    assert hypervolume(results, "mIoU", 4e9, 5.0) == pytest.approx(2 * 5)
    errors = [result(0, 2_000_000_000, 0.6, "rmse"), result(1, 4_000_000_000, 0.4, "rmse")]
    assert hypervolume(errors, "rmse", 5e9, 0.7) == pytest.approx(2 * 0.1 + 1 * 0.3)


def test_the_frontier_by_latency_leaves_out_what_was_not_timed():
    timed = [result(0, 5, 1.0), result(1, 9, 2.0), result(2, 7, 3.0)]
    times = (4.0, 3.0, None)
    timed = [
        r.model_copy(update=dict(latency=t and Latency(p50_ms=t, p90_ms=t, repeats=3)))
        for r, t in zip(timed, times, strict=True)
    ]
    assert [r.id for r in frontier(timed, "mIoU", "latency")] == [1]


def test_class_gains_are_sorted_by_what_the_dear_end_gains():
    ious = {0: [10.0, 50.0], 1: [40.0, 55.0]}
    results = [
        result(i, 5 + i, float(i)).model_copy(update=dict(class_iou=iou)) for i, iou in ious.items()
    ]
    mine = report(*results, classes=["lamp", "wall"])
    assert class_gains(mine) == [("lamp", [10.0, 40.0]), ("wall", [50.0, 55.0])]


def test_several_runs_are_overlaid_in_a_picture_and_a_page(tmp_path):
    runs = [report(result(0, 5, 1.5), result(1, 9, 2.5)), report(result(0, 4, 1.0))]
    runs[1].title = "another <run>"
    plot_pareto(runs, tmp_path / "two.svg")
    assert b"another" in (tmp_path / "two.svg").read_bytes()
    write_page(runs, tmp_path / "two.html", alone={"a small & plain ViT": (5.0, 1.2)})
    page = (tmp_path / "two.html").read_text()
    assert "another &lt;run&gt;" in page
    assert "model.backbone.set_stitch(1)" in page
    assert "trained alone" in page
    assert "<script src=" not in page  # stands alone


def test_the_published_curve_comes_along():
    published = ParetoReport.load(ROOT / "docs" / "results" / "published_ade20k_deit3-s-l.json")
    assert len(published.stitches) == 134
    best = frontier(published.stitches, "mIoU")
    assert [r.id for r in best] == [0, 90, 108, 91, 109, 93, 94, 96, 20, 4, 3, 2, 1]
    golden = json.loads((ROOT / "tests" / "data" / "flops_ade20k_deit3_s_l.json").read_text())
    assert {str(r.id): r.macs for r in published.stitches} == golden


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


def test_a_frontier_of_nothing_has_no_volume():
    nothing = [result(0, 5, float("nan")), result(1, 50, 3.0)]
    assert hypervolume(nothing, "mIoU", max_macs=10, worst=0.0) == 0.0


def test_a_stitch_worse_than_the_reference_adds_nothing():
    results = [result(0, 10**9, 1.0), result(1, 2 * 10**9, 5.0)]
    assert hypervolume(results, "mIoU", max_macs=4 * 10**9, worst=2.0) == pytest.approx(2 * 3.0)


def test_classes_that_do_not_occur_come_last_and_a_prefix_does_not_matter(tmp_path):
    nan = float("nan")
    rows = [(50, 1.0, [5.0, nan, 10.0, 1.0]), (70, 2.0, [6.0, nan, 30.0, 1.0])]
    results = [
        result(i, macs, value, "val/mIoU").model_copy(update=dict(class_iou=ious))
        for i, (macs, value, ious) in enumerate(rows)
    ]
    whole = report(*results, classes=["a", "absent", "b", "c"])
    assert [name for name, _ in class_gains(whole)] == ["b", "a", "c", "absent"]
    assert whole.default_metric() == "val/mIoU"
    write_page([whole], tmp_path / "x.html")
    assert "absent" in (tmp_path / "x.html").read_text()


def test_titles_are_shown_as_they_are(tmp_path):
    odd = report(result(0, 5, 1.5), result(1, 9, 2.5)).model_copy(
        update=dict(title=r"a[/b] $\foo$ [red]")
    )
    assert "a[/b] $" in odd.table().replace("\n", "")
    plot_pareto([odd, odd], tmp_path / "x.png", alone={r"$\bar$": (1.0, 2.0)})
    plot_pareto(odd, tmp_path / "y.png")


def test_the_frontier_is_drawn_in_steps_and_all_points_are_there(tmp_path):
    whole = report(*(result(i, 10**9 * (i + 1), v) for i, v in enumerate([1.0, 0.5, 3.0])))
    plot_pareto(whole, tmp_path / "x.svg")
    picture = (tmp_path / "x.svg").read_text()
    figure = pareto_figure([whole])
    assert figure.data[0].line.shape == "hv"
    assert sorted(x for trace in figure.data[1:] for x in trace.x) == [1.0, 2.0, 3.0]
    # one collection per drawn group: the two on the frontier, the one beside it
    assert picture.count("PathCollection_") >= 2


def test_the_report_tool_draws_latency_where_it_was_measured(tool, tmp_path, capsys):
    setting = LatencySetting(device="cpu", dtype="float32", batch_size=1, threads=1)
    plain = report(result(0, 50, 1.5))
    timed = [result(i, 10 * i + 10, i).model_copy(update=dict(latency=FAST)) for i in range(2)]
    whole = report(*timed, latency_setting=setting, image_size=(32, 32))
    whole.save(tmp_path / "timed.json")
    plain.save(tmp_path / "plain.json")
    main = tool("report").main
    both = [str(tmp_path / "timed.json"), str(tmp_path / "plain.json")]
    assert main([*both, "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "pareto-latency.png").is_file()
    assert "differ in image_size, so their hypervolumes do not compare" in capsys.readouterr().out
    with pytest.raises(UserError, match="no latency was measured"):
        main([both[1], "--axis", "latency", "--out", str(tmp_path / "out2")])
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file: give a folder"):
        main([both[1], "--out", str(tmp_path / "file")])
