"""What all tests share."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

import mmsn  # noqa: F401  first of all: it prepares the installed OpenMMLab packages

torch.set_num_threads(1)  # the networks here are too small for more to help


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
            f"mmsn_tools_{name}", ROOT / "tools" / f"{name}.py"
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
