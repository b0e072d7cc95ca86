"""The picture of a page: an SVG whose points lie where their values are."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from mmsn.evaluation import ParetoReport
from mmsn.evaluation.report import LatencySetting
from mmsn.evaluation.svg import BOTTOM, LEFT, RIGHT, TOP, Scale, pareto_svg
from tests.evaluation.reports import FAST, G, report, result

PUBLISHED = Path(__file__).parents[2] / "docs/results/published_ade20k_deit3-s-l.json"


def picture(*arguments, **words):
    """The SVG as a tree: it is well-formed XML, too."""
    return ElementTree.fromstring(pareto_svg(*arguments, **words).split("<p class='legend'>")[0])


def points(tree):
    """(x, y, look) of the points by the line that they carry; stars by None."""
    found = {}
    for path in tree.iter("path"):
        if path.get("class", "").startswith("point"):
            x, y = re.findall(r"[\d.]+", path.get("transform"))
            found[path.get("data-line")] = (float(x), float(y), path.get("class"))
    return found


def test_points_lie_where_their_values_are():
    values = [(0, 2, 10.0), (1, 4, 5.0), (2, 10, 30.0)]
    mine = report(*(result(i, macs * G, value) for i, macs, value in values))
    drawn = points(picture([mine], "mIoU"))
    x, y = Scale.around([2, 4, 10], LEFT, RIGHT), Scale.around([10, 5, 30], BOTTOM, TOP)
    assert x(1.6) == LEFT  # 5 % of 8 below the lowest
    assert y(31.25) == TOP
    for i, macs, value in values:
        look = "point" if i == 1 else "point best"
        assert drawn[f"model.backbone.set_stitch({i})"] == (x(macs), y(value), look)


def test_the_frontier_runs_right_then_up():
    mine = report(*(result(i, (i + 1) * G, v) for i, v in enumerate([1.0, 0.5, 3.0])))
    (line,) = [p for p in picture([mine], "mIoU").iter("path") if p.get("class") == "frontier"]
    drawn = points(picture([mine], "mIoU"))
    (x0, y0, _), (x2, y2, _) = (drawn[f"model.backbone.set_stitch({i})"] for i in (0, 2))
    assert line.get("d") == f"M{x0},{y0}H{x2}V{y2}"


def test_a_point_tells_what_it_is():
    published = ParetoReport.load(PUBLISHED)
    tree = picture([published], "mIoU")
    assert len(points(tree)) == 134
    (point,) = [p for p in tree.iter("path") if p.get("data-line", "").endswith("(94)")]
    lines = point.find("title").text.split("\n")
    assert lines[:3] == [
        "stitch 94 (sls)",
        "0:0-2 > 1:4-14 > 0:7-12",
        lines[2],
    ]
    assert lines[2].startswith("171.4 GFLOPs, ")
    assert "mIoU 49.01" in lines


def test_what_has_no_place_is_left_out():
    timed = result(2, 7 * G, 2.0).model_copy(update=dict(latency=FAST))
    setting = LatencySetting(device="cpu", dtype="float32", batch_size=1, threads=1)
    results = [result(0, G, float("nan")), result(1, 2 * G, float("inf")), timed]
    mine = report(*results, latency_setting=setting)
    for axis in ("macs", "latency"):
        assert list(points(picture([mine], "mIoU", axis))) == ["model.backbone.set_stitch(2)"]
    assert list(points(picture([report(results[0])], "mIoU"))) == []


def test_stars_are_drawn_on_the_axis_that_they_are_for():
    mine, alone = report(result(0, G, 1.0)), {"<a> & b": (2.0, 3.0)}
    star = next(
        p for p in picture([mine], "mIoU", alone=alone).iter("path") if p.get("fill") == "#E69F00"
    )
    assert star.find("title").text == "<a> & b\n2 GFLOPs, 3.000"
    assert None not in points(picture([mine], "mIoU", "latency", alone))


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.69, 1.29, [0.7, 0.8, 0.9, 1.0, 1.1, 1.2]),
        (0, 100, [0, 20, 40, 60, 80, 100]),
        (-3, 3, [-3, -2, -1, 0, 1, 2, 3]),
        (33e9, 363e9, [50e9, 100e9, 150e9, 200e9, 250e9, 300e9, 350e9]),
    ],
)
def test_ticks_are_round(low, high, ticks):
    assert Scale(low, high, 0, 1).ticks() == pytest.approx(ticks)


def test_several_runs_are_told_by_color():
    runs = [report(result(0, 5, 1.5), result(1, 9, 2.5)), report(result(0, 4, 1.0))]
    fills = {p.get("fill") for p in picture(runs, "mIoU").iter("path") if p.get("data-line")}
    assert fills == {"#0072B2", "#D55E00"}


def test_one_value_has_a_scale_too():
    scale = Scale.around([4.0], 0, 100)
    assert (scale.low, scale.high, scale(4.0)) == (3.8, 4.2, 50.0)
    assert Scale.around([0.0], 0, 100)(0.0) == 50.0
