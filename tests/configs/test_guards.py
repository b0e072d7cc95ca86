"""Every config trains with the hooks of docs/safety.md."""

import pytest
from mmengine.config import Config

from tests.configs.leaves import by_stem
from tests.conftest import ROOT

CONFIGS = ROOT / "configs"
SCHEDULES = sorted((CONFIGS / "_base_" / "schedules").glob("*.py"))
# Those without label maps: image classes and boxes.
NO_LABEL_MAPS = ("lamb_50e", "adamw-detection_184k")


@pytest.mark.parametrize("path", SCHEDULES, ids=by_stem)
def test_a_schedule_guards_its_runs(path):
    hooks = {hook["type"]: hook for hook in Config.fromfile(path).default_hooks.values()}
    wanted = {"mmsn.AtomicCheckpointHook", "mmsn.FiniteHook", "mmsn.RankCheckHook"}
    if path.stem not in NO_LABEL_MAPS:
        wanted.add("mmsn.LabelHook")
    assert hooks.keys() >= wanted
    assert "CheckpointHook" not in hooks
    assert hooks["mmsn.FiniteHook"].get("action", "stop") == "stop"
    assert hooks["mmsn.AtomicCheckpointHook"]["max_keep_ckpts"] >= 1


def test_no_other_config_replaces_them():
    assert len(SCHEDULES) > 10
    others = set(CONFIGS.rglob("*.py")) - set(SCHEDULES)
    assert len(others) > 100
    assert [path for path in others if "default_hooks" in path.read_text()] == []
