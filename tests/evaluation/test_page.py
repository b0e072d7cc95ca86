"""The page of a report: what it holds, and how it works in a real browser."""

import re
from pathlib import Path

import pytest

from mmsn.evaluation import ParetoReport, write_page
from mmsn.evaluation.report import LatencySetting
from tests.evaluation.reports import FAST, G, depth_report, report, result

PUBLISHED = Path(__file__).parents[2] / "docs/results/published_ade20k_deit3-s-l.json"


def test_the_page_is_light_and_stands_alone(tmp_path):
    write_page([ParetoReport.load(PUBLISHED)], tmp_path / "x.html", alone={"alone": (33.0, 46.0)})
    page = (tmp_path / "x.html").read_text()
    assert len(page) < 150_000
    assert not re.findall(r"(?:src|href)=|https?://|@import", page)
    assert "IoU of each class" not in page
    assert "mean best mIoU within the budget: 48.49 (" in page


def test_the_interactive_page_brings_its_library_along(tmp_path):
    mine = report(result(0, 5 * G, 1.5), result(1, 9 * G, 2.5), title="<a> run")
    write_page([mine], tmp_path / "x.html", interactive=True)
    page = (tmp_path / "x.html").read_text()
    assert len(page) > 3_000_000
    assert "<script src=" not in page
    assert "model.backbone.set_stitch(1)" in page
    assert "&lt;a&gt; run" in page


def rows_of(page, number):
    """Cells of the rows of a table."""
    body = re.findall(r"<tbody>(.*?)</tbody>", page)[number]
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", body)]


def test_tables_hold_the_frontier_and_all_stitches(tmp_path):
    timed = result(2, 7 * G, 2.0).model_copy(update=dict(latency=FAST))
    setting = LatencySetting(device="cpu", dtype="float32", batch_size=1, threads=1)
    mine = report(result(0, 9 * G, 1.0), timed, title="<t>", latency_setting=setting)
    write_page([mine], tmp_path / "x.html")
    page = (tmp_path / "x.html").read_text()
    last = ["2", "anchor", "0:0-12", "7", "0.001", "2.000", "1", "2"]
    assert rows_of(page, 0) == [last]
    assert rows_of(page, 1) == [last, ["0", "anchor", "0:0-12", "9", "0.001", "1.000", "", ""]]
    assert "<t>" not in page


@pytest.mark.parametrize("prefix", ["", "depth/"])
def test_of_depth_rmse_comes_first(prefix, tmp_path):
    write_page([depth_report(prefix)], tmp_path / "x.html", alone={"alone": (5.0, 0.41236)})
    page = (tmp_path / "x.html").read_text()
    assert [row[5] for row in rows_of(page, 0)] == ["0.5131", "0.3873"]
    assert f"{prefix}rmse 0.5242" in page
    assert f"{prefix}rmse (m, lower is better)" in page
    assert "5 GFLOPs, 0.4124" in page


def test_classes_that_do_not_occur_come_last(tmp_path):
    nan = float("nan")
    rows = [(50, 1.0, [5.0, nan, 10.0, 1.0]), (70, 2.0, [6.0, nan, 30.0, 1.0])]
    results = [
        result(i, macs, value, "val/mIoU").model_copy(update=dict(class_iou=ious))
        for i, (macs, value, ious) in enumerate(rows)
    ]
    whole = report(*results, classes=["a", "absent", "b", "c"])
    assert whole.default_metric() == "val/mIoU"
    write_page([whole], tmp_path / "x.html")
    table = rows_of((tmp_path / "x.html").read_text(), 2)
    assert [row[0] for row in table] == ["b", "a", "c", "absent"]
    assert table[0][1:] == ["10.0", "30.0"]


def test_several_runs_are_named(tmp_path):
    runs = [report(result(0, 5, 1.5), result(1, 9, 2.5)), report(result(0, 4, 1.0))]
    runs[1].title = "another <run>"
    write_page(runs, tmp_path / "two.html")
    page = (tmp_path / "two.html").read_text()
    assert page.count("another &lt;run&gt;") == 4  # title, heading, legend, table


@pytest.fixture
def opened(browser, tmp_path):
    """Opens the page of the published curve and a second run, without a network."""
    contexts = []

    def open_page(ready, **words):
        published = ParetoReport.load(PUBLISHED)
        mine = [
            r.model_copy(update=dict(metrics={"mIoU": r.metrics["mIoU"] + 1}))
            for r in published.stitches[:20]
        ]
        other = published.model_copy(update=dict(title="<mine> & yours", stitches=mine))
        path = tmp_path / "pareto.html"
        write_page([published, other], path, alone={"anchor <alone>": (33.1, 46.0)}, **words)
        contexts.append(browser.new_context(offline=True))
        contexts[-1].grant_permissions(["clipboard-read", "clipboard-write"])
        page = contexts[-1].new_page()
        page.faults = []
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on("requestfailed", lambda request: page.faults.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector(ready)
        return page

    yield open_page
    for context in contexts:
        assert [fault for page in context.pages for fault in page.faults] == []
        context.close()


@pytest.fixture
def page(opened):
    return opened(".point")


def test_pointing_shows_what_a_stitch_is(page):
    page.locator("[data-line='model.backbone.set_stitch(94)']").first.hover(force=True)
    text = page.text_content("#info")
    assert text.startswith("stitch 94 (sls) | 0:0-2 > 1:4-14 > 0:7-12 | 171.4 GFLOPs")
    assert "mIoU 49.01" in text


@pytest.mark.parametrize("by", ["click", "key"])
def test_choosing_copies_the_line_that_selects_it(page, by):
    point = page.locator("[data-line='model.backbone.set_stitch(96)']").first
    point.dispatch_event("click") if by == "click" else point.press("Enter")
    page.wait_for_function("document.getElementById('hint').textContent === 'copied:'")
    line = "model.backbone.set_stitch(96)"
    assert page.text_content("#chosen") == line
    assert page.evaluate("navigator.clipboard.readText()") == line


def test_names_are_shown_as_they_are(page):
    assert page.text_content("h1").endswith("<mine> & yours")
    assert "<mine> & yours" in page.text_content(".legend")
    assert "trained alone" in page.text_content(".legend")


def test_a_click_on_a_head_sorts(page):
    head = page.locator("table").first.locator("th").nth(5)
    assert head.text_content() == "mIoU"
    orders = []
    for _ in range(2):
        head.click()
        cells = page.locator("table").first.locator("tbody td:nth-child(6)").all_text_contents()
        orders.append([float(cell) for cell in cells])
    assert orders[0] == sorted(orders[0], reverse=True)
    assert orders[1] == sorted(orders[1])
    assert len(set(orders[0])) > 5


def test_the_interactive_page_copies_and_sends_nothing(opened):
    page = opened(".scatterlayer .point", interactive=True)
    at = page.evaluate(
        """() => {
          const plot = document.querySelector('.plotly-graph-div');
          const line = 'model.backbone.set_stitch(25)';
          const trace = plot._fullData.find(t => (t.customdata || []).includes(line));
          const k = trace.customdata.indexOf(line);
          const {xaxis, yaxis} = plot._fullLayout, box = plot.getBoundingClientRect();
          return [box.left + xaxis._offset + xaxis.d2p(trace.x[k]),
                  box.top + yaxis._offset + yaxis.d2p(trace.y[k])];
        }"""
    )
    page.mouse.click(*at)
    page.wait_for_function("document.getElementById('hint').textContent === 'copied:'")
    assert page.text_content("#chosen") == "model.backbone.set_stitch(25)"
    titles = page.eval_on_selector_all(
        ".modebar-btn", "buttons => buttons.map(b => b.dataset.title)"
    )
    assert titles
    assert not [t for t in titles if any(w in t.lower() for w in ("share", "cloud", "studio"))]
