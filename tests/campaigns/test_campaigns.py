"""Short forms of the campaigns in ``tools/campaigns``."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CAMPAIGNS = Path(__file__).resolve().parents[2] / "tools" / "campaigns"


def run(name, *options):
    """The counts that a campaign prints, run in a process of its own."""
    done = subprocess.run(
        [sys.executable, str(CAMPAIGNS / f"{name}.py"), *map(str, options)],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


pytestmark = pytest.mark.slow


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_killed_trainings_end_as_an_undisturbed_one():
    counts = run("kill_training", "--kills", 3, "--slow", 0.1)
    assert counts["kills"] >= 3
    assert counts["trainings"] >= 1
    assert counts["lost"] == counts["differ"] == 0


def test_damaged_files_are_refused_or_read():
    counts = run("fuzz_files", "--inputs", 500)
    assert counts["inputs"] == 500
    assert counts["refused"] > 250
    assert counts["read"] > 90  # as after a change of one digit
    assert not counts["what"]
