"""What all tests share."""

import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import settings

import mmsn  # noqa: F401  first of all: it prepares the installed OpenMMLab packages

torch.set_num_threads(1)  # the networks here are too small for more to help

# A timing is never an assertion: a busy machine must not fail an example.
settings.register_profile("mmsn", deadline=None)
settings.load_profile("mmsn")


ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def reproducible():
    """Each test draws the same random numbers, whichever tests run before it."""
    torch.manual_seed(0)


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """``tool("train")`` is tools/train.py, imported as when it is run."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(
            f"mmsn_tools_{Path(name).name}", ROOT / "tools" / f"{name}.py"
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium, driven by Playwright."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(names)} is on the PATH")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()
