"""Every Python snippet of docs/runtime.md runs, from top to bottom."""

import re

import numpy as np
import torch

from tests.conftest import ROOT
from tests.deploy.tiny import tiny_config, tiny_model, tiny_report


def test_the_snippets_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = tiny_model()
    tiny_config().dump("c.py")
    torch.save(
        dict(state_dict=model.state_dict(), meta=dict(dataset_meta=model.dataset_meta)), "k.pth"
    )
    tiny_report(model, {i: float(i) for i in model.backbone.space.ids}).save("pareto.json")
    image = np.zeros((40, 48, 3), np.uint8)
    names = dict(config="c.py", checkpoint="k.pth", report="pareto.json", image=image)
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / "docs/runtime.md").read_text(), re.DOTALL)
    assert len(snippets) == 5
    for snippet in snippets:
        exec(snippet, names)
    out = capsys.readouterr().out
    assert "largest that fits 60%" in out
    assert "largest that fits" in out.splitlines()[-1]
    assert len(names["results"]) == 3
    assert names["controller"].stitch in (0, 1, 4)
