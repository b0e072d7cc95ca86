"""The notebook docs/tutorial.ipynb runs from its first cell to its last, with fewer iterations."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import ROOT

NOTEBOOK = json.loads((ROOT / "docs" / "tutorial.ipynb").read_text())
CODE = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
SHORT = "iterations, train_images, val_images = 4, 16, 4"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names that the notebook's code leaves behind."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    names: dict[str, Any] = {"__name__": "__main__"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("notebook"))
        for cell in CODE:
            exec("".join(cell["source"]), names)
            if "parameters" in cell["metadata"].get("tags", []):
                exec(SHORT, names)
        names["files"] = sorted(str(path) for path in Path("tutorial").glob("*"))
    return names


@pytest.mark.slow
def test_it_gives_a_curve_and_a_file_that_predicts(ran: dict[str, Any]) -> None:
    assert ran["iterations"] == 4
    assert len(ran["report"].stitches) == len(ran["gflops"]) == 32
    assert {"tutorial/pareto.png", "tutorial/stitch.onnx", "tutorial/predict.py"} <= {*ran["files"]}
    assert ran["labels"].shape == (96, 96)
    assert (ran["labels"] == ran["same"]).mean() > 0.99
    macs = ran["menu"].macs
    assert macs[ran["chosen"]] <= 0.7 * max(macs.values()) == 0.7e9 * max(ran["gflops"])
    assert not ran["model"].backbone.uninitialized
    assert np.ptp([stitch.metrics["mIoU"] for stitch in ran["report"].stitches]) > 0


def test_its_saved_outputs_are_small_and_whole() -> None:
    """See CONTRIBUTING for how to make them anew."""
    outputs = [output for cell in CODE for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "execute_result"}
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    text = json.dumps(NOTEBOOK)
    assert len(text) < 200_000
    assert not re.search(r"/(home|root|tmp)/|mmengine - |Warning", text)
