"""The page of a report, in a real browser."""

from pathlib import Path

import pytest

from mmsn.evaluation import (
    ParetoReport,
    class_gains,
    frontier,
    hypervolume,
    markdown_table,
    pareto_figure,
    plot_pareto,
    text_table,
    write_page,
)
from tests.evaluation.reports import depth_report, report, result

PUBLISHED = Path(__file__).parents[2] / "docs/results/published_ade20k_deit3-s-l.json"


@pytest.fixture
def page(browser, tmp_path):
    """The page of the published curve and a second run, opened without a network."""
    published = ParetoReport.load(PUBLISHED)
    mine = [
        result.model_copy(update=dict(metrics={"mIoU": result.metrics["mIoU"] + 1}))
        for result in published.stitches[:20]
    ]
    other = published.model_copy(update=dict(title="<mine> & yours", stitches=mine))
    path = tmp_path / "pareto.html"
    write_page([published, other], path, alone={"anchor <alone>": (33.1, 46.0)})
    context = browser.new_context(offline=True)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened = context.new_page()
    opened.faults = []
    opened.on("pageerror", lambda error: opened.faults.append(str(error)))
    opened.on("requestfailed", lambda request: opened.faults.append(request.url))
    opened.goto(path.as_uri())
    opened.wait_for_selector(".scatterlayer .point")
    yield opened
    assert opened.faults == []
    context.close()


def point(page, stitch):
    """Where the first run's point of this stitch is on the screen."""
    return page.evaluate(
        """stitch => {
          const plot = document.querySelector('.plotly-graph-div');
          const line = `model.backbone.set_stitch(${stitch})`;
          const trace = plot._fullData.find(t => (t.customdata || []).includes(line));
          const at = trace.customdata.indexOf(line);
          const {xaxis, yaxis} = plot._fullLayout, box = plot.getBoundingClientRect();
          return [box.left + xaxis._offset + xaxis.d2p(trace.x[at]),
                  box.top + yaxis._offset + yaxis.d2p(trace.y[at])];
        }""",
        stitch,
    )


def test_hovering_shows_what_a_stitch_is(page):
    page.mouse.move(*point(page, 94))
    text = page.wait_for_selector(".hoverlayer .hovertext").text_content()
    assert "stitch 94" in text
    assert "0:0-2 > 1:4-14 > 0:7-12" in text
    assert "171.4 GFLOPs" in text
    assert "mIoU 49.01" in text


def test_clicking_copies_the_line_that_selects_it(page):
    page.mouse.click(*point(page, 25))
    page.wait_for_function("document.getElementById('hint').textContent === 'copied:'")
    line = "model.backbone.set_stitch(25)"
    assert page.text_content("#chosen") == line
    assert page.evaluate("navigator.clipboard.readText()") == line


def test_names_are_shown_as_they_are(page):
    assert page.text_content("h1").endswith("<mine> & yours")
    legend = page.text_content(".legend")
    assert "<mine> & yours" in legend
    assert "trained alone" in legend


def test_nothing_offers_to_send_the_data_away(page):
    titles = page.eval_on_selector_all(
        ".modebar-btn", "buttons => buttons.map(b => b.dataset.title)"
    )
    assert titles
    assert not [t for t in titles if any(w in t.lower() for w in ("share", "cloud", "studio"))]


@pytest.mark.parametrize("prefix", ["", "depth/"])
def test_depth_is_reported_by_rmse_and_less_is_better(prefix, tmp_path):
    mine = depth_report(prefix)
    metric = mine.default_metric()
    assert metric == f"{prefix}rmse"
    assert [r.id for r in frontier(mine.stitches, metric)] == [0, 2]
    assert hypervolume(mine.stitches, metric, 9e9, 0.6) == pytest.approx(4 * (0.6 - 0.51312))
    assert [line.split("|")[-2].strip() for line in markdown_table(mine).splitlines()[2:4]] == [
        "0.5131",
        "0.3873",
    ]
    rows = [line for line in text_table(mine).splitlines() if "anchor" in line]
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


def test_titles_are_shown_as_they_are(tmp_path):
    odd = report(result(0, 5, 1.5), result(1, 9, 2.5)).model_copy(
        update=dict(title=r"a[/b] $\foo$ [red]")
    )
    assert "a[/b] $" in text_table(odd).replace("\n", "")
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


def test_several_runs_are_overlaid_in_a_page(tmp_path):
    runs = [report(result(0, 5, 1.5), result(1, 9, 2.5)), report(result(0, 4, 1.0))]
    runs[1].title = "another <run>"
    write_page(runs, tmp_path / "two.html", alone={"a small & plain ViT": (5.0, 1.2)})
    page = (tmp_path / "two.html").read_text()
    assert "another &lt;run&gt;" in page
    assert "model.backbone.set_stitch(1)" in page
    assert "trained alone" in page
    assert "<script src=" not in page  # stands alone


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
