"""The page, driven as a visitor would drive it; skipped where there is no browser or no gradio."""

import os
import re
import shutil

import cv2
import numpy as np
import pytest

from tests.deploy.tiny import tiny_model, tiny_report

gr = pytest.importorskip("gradio", reason="needs mmsn[demo]")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


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


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_a_visitor_moves_the_slider(url, tmp_path):
    rng = np.random.default_rng(0)
    picture = cv2.resize(rng.integers(0, 255, (6, 8, 3)).astype(np.uint8), (320, 240))
    cv2.imwrite(str(tmp_path / "picture.png"), picture)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport=dict(width=1100, height=1200))
        page.goto(url)
        chosen = page.locator("#chosen")
        playwright.expect(chosen).to_contain_text("within 100%", timeout=60_000)
        page.locator("input[type=file]").first.set_input_files(str(tmp_path / "picture.png"))
        playwright.expect(chosen).to_contain_text("ms measured", timeout=60_000)
        expensive = page.locator("img[src*='/file=']").last.get_attribute("src")
        slider = page.locator("input[type=number]").first
        slider.fill("60")
        slider.press("Enter")
        slider.blur()
        playwright.expect(chosen).to_contain_text("within 60%", timeout=60_000)
        playwright.expect(chosen).to_contain_text("ms measured")
        playwright.expect(page.get_by_text(re.compile(r"chosen: stitch \d+")).first).to_be_visible()
        cheap = page.locator("img[src*='/file=']").last.get_attribute("src")
        assert cheap != expensive
        if "MMSN_SCREENSHOT" in os.environ:  # to be looked at
            page.wait_for_timeout(1000)
            page.screenshot(path=os.environ["MMSN_SCREENSHOT"], full_page=True)
        browser.close()
