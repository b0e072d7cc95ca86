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


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")


@needs_fork
@pytest.mark.parametrize("subject", ["training", "benchmark-2"])
def test_killed_runs_end_as_undisturbed_ones(subject):
    counts = run("kill_runs", subject, "--kills", 3)
    assert counts["kills"] == 3
    assert counts["runs"] >= 1
    assert counts["lost"] == counts["differ"] == counts["hung"] == 0


@needs_fork
@pytest.mark.parametrize("subject", ["training", "benchmark"])
def test_runs_without_room_end_as_undisturbed_ones(subject):
    counts = run("full_disk", subject, "--fills", 3, "--how", "limit")
    assert counts["fills"] == 3
    assert counts["runs"] >= 1
    assert counts["without_a_line"] == counts["half_written"] == 0
    assert counts["lost"] == counts["differ"] == 0


@needs_fork
def test_damaged_files_are_refused_or_read():
    counts = run("fuzz_files", "--inputs", 180)
    assert counts["inputs"] == 180
    assert counts["kinds"] == len(counts["of_kind"]) >= 29
    assert counts["refused"] > 100
    assert counts["read"] > 30  # as after a change of one digit
    assert not counts["what"]
