"""The page, used as a visitor would use it; skipped where there is no browser or no gradio."""

import os
import re
import shutil

import cv2
import numpy as np
import pytest
from torch import nn

from mmsn.deploy import extract
from mmsn.errors import UserError
from mmsn.models.opening import with_weights
from tests.deploy.tiny import tiny_model, tiny_report

gr = pytest.importorskip("gradio", reason="needs mmsn[demo]")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def sliders(page):
    return [block for block in page.blocks.values() if isinstance(block, gr.Slider)]


def test_one_stitch_leaves_nothing_to_choose():
    from mmsn.deploy.gradio_page import build_page

    whole = tiny_model()
    one = with_weights(*extract(whole.cfg, whole.state_dict(), [6]), whole.dataset_meta)
    assert [slider.visible for slider in sliders(build_page(whole))] == [True]
    assert [slider.visible for slider in sliders(build_page(one))] == [False]
    one.backbone = nn.Identity()
    with pytest.raises(UserError, match="has no stitches to choose from"):
        build_page(one)


@pytest.fixture
def url(monkeypatch):
    from mmsn.deploy.gradio_page import build_page

    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    model = tiny_model()
    macs = model.backbone.stitch_macs((32, 32))
    order = sorted(macs, key=macs.__getitem__)
    page = build_page(model, tiny_report(model, {i: 30.0 + k for k, i in enumerate(order)}))
    _, address, _ = page.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
    yield address
    page.close()


@pytest.fixture
def visit(url):
    """Open the page on a small laptop's screen."""
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport=dict(width=1366, height=768))
        page.goto(url)
        playwright.expect(page.locator("#chosen")).to_contain_text("within 100%", timeout=60_000)
        yield page
        browser.close()


def upload(page, path, image=None):
    if image is not None:
        cv2.imwrite(str(path), image)
    page.locator("input[type=file]").first.set_input_files(str(path))


def photo(height, width):
    rng = np.random.default_rng(0)
    return cv2.resize(rng.integers(0, 255, (6, 8, 3)).astype(np.uint8), (width, height))


def is_seen(page, locator):
    """Is all of it on the screen, without scrolling?"""
    box = locator.bounding_box()
    return box is not None and box["y"] >= 0 and box["y"] + box["height"] <= 768


def look(page, name):
    if "MMSN_SCREENSHOT" in os.environ:  # a folder; to be looked at
        page.wait_for_timeout(1000)
        page.screenshot(path=f"{os.environ['MMSN_SCREENSHOT']}/{name}.png")


def test_a_visitor_moves_the_slider(visit, tmp_path):
    chosen = visit.locator("#chosen")
    upload(visit, tmp_path / "picture.png", photo(480, 640))
    playwright.expect(chosen).to_contain_text("ms measured, the median of 5", timeout=60_000)
    expensive = visit.locator("img[src*='/file=']").nth(1).get_attribute("src")
    ring = visit.get_by_text(re.compile(r"chosen: stitch \d+")).first
    ticks = visit.locator(".xtick text").all_inner_texts()
    for element in (
        visit.locator("input[type=range]").first,
        visit.locator(".js-plotly-plot"),
        ring,
    ):
        assert is_seen(visit, element)
    legend = visit.locator("#legend")
    playwright.expect(legend).to_contain_text(re.compile(r"[a-e] \d+%"))
    assert "rgb(" in legend.inner_html()
    look(visit, "first")
    slider = visit.locator("input[type=number]").first
    slider.fill("60")
    slider.press("Enter")
    slider.blur()
    playwright.expect(chosen).to_contain_text("within 60%", timeout=60_000)
    playwright.expect(chosen).to_contain_text("ms measured")
    playwright.expect(ring).to_be_visible()
    cheap = visit.locator("img[src*='/file=']").nth(1).get_attribute("src")
    assert cheap != expensive
    assert visit.locator(".xtick text").all_inner_texts() == ticks
    look(visit, "second")


def test_a_large_photo_answers_and_a_broken_one_says_so(visit, tmp_path):
    chosen = visit.locator("#chosen")
    upload(visit, tmp_path / "large.jpg", photo(3000, 4000))
    playwright.expect(chosen).to_contain_text("ms measured", timeout=60_000)
    size = visit.evaluate(
        "[...document.querySelectorAll(\"img[src*='/file=']\")].map(i => i.naturalWidth)"
    )
    assert max(size[1:]) == 1024
    visit.reload()
    (tmp_path / "broken.png").write_bytes(b"no")
    upload(visit, tmp_path / "broken.png")
    shown = visit.get_by_text("This file is not an image that can be read").first
    playwright.expect(shown).to_be_visible(timeout=60_000)
    look(visit, "broken")


def test_an_example_is_a_click_away(visit):
    visit.locator("img[src*='shapes-']").first.click()
    playwright.expect(visit.locator("#chosen")).to_contain_text("ms measured", timeout=60_000)
    look(visit, "example")
