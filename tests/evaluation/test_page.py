"""The page of a report, in a real browser."""

from pathlib import Path

import pytest

from mmsn.evaluation import ParetoReport, write_page

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
