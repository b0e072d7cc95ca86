"""Kill runs at random moments until they are through, and compare them with undisturbed ones.

    python tools/campaigns/kill_runs.py training --kills 100

Subjects: training and benchmark, with ``-2`` on two processes; recipe (mmsn stitch) and demo (mmsn
demo, with fewer images and iterations). They save after every iteration or image, and a write
takes long, in pieces. Half of the kills (SIGKILL) come at a random moment, half of them inside a
write. Each new start continues. In the end the weights, the optimizer, GFLOPs of the drawn
stitches, learning rates, losses and reports must be those of a run that was left alone, bit for
bit. Of two processes, one or both are killed; the other one must end by itself.

Processes are forked from this one, so a start costs no import. What they do is in ``_subjects.py``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.append(str(Path(__file__).resolve().parents[1]))  # the folder of _run_args.py
sys.path.append(str(Path(__file__).resolve().parent))  # that of _forks.py

from _forks import PATIENCE, finished, fork, load, parts, start
from _run_args import Parser, positive, prepare, run

if TYPE_CHECKING:
    from _subjects import Subject


def until_killed(
    pids: list[int], folder: Path, wait: float, in_a_write: bool, draw: random.Random
) -> tuple[int | None, bool]:
    """Kill at a moment, unless all end before it; the exit code, and whether a write was hit."""
    before = parts(folder)
    if in_a_write:
        end = time.monotonic() + PATIENCE
        while not parts(folder) - before and time.monotonic() < end:
            code = finished(pids, 0)
            if code is not None:
                return code, False
    code = finished(pids, wait)
    if code is not None:
        return code, False
    victims = pids if draw.random() < 0.5 else [draw.choice(pids)]
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    return None, bool(parts(folder) - before)


def campaign(subject: Subject, kills: int, seed: int, slow: float, folder: Path) -> dict[str, int]:
    """Kill so many times, over as many runs as it takes.

    Returns:
        Counts: kills, runs, kills in a write, runs that could not go on, runs that ended with other
        numbers, and ranks that did not end when another one was killed.
    """
    from _subjects import make_data

    draw = random.Random(seed)
    data, alone, output = folder / "data", folder / "alone", folder / "output.txt"
    done = [fork(lambda: make_data(data), output)]
    if finished(done, PATIENCE) != 0:
        raise SystemExit(output.read_text())
    begin = time.monotonic()
    if finished(start(subject, alone, data, slow, output), 10 * PATIENCE) != 0:
        raise SystemExit(output.read_text())
    whole = time.monotonic() - begin
    counts = dict(kills=0, runs=0, in_a_write=0, lost=0, differ=0, hung=0)
    while counts["kills"] < kills:
        mine = folder / f"run{counts['runs']}"
        counts["runs"] += 1
        code = None
        while code is None:
            output.write_text("")
            pids = start(subject, mine, data, slow, output)
            if counts["kills"] == kills:
                code = finished(pids, 10 * PATIENCE)
                break
            in_a_write = draw.random() < 0.5
            wait = draw.uniform(0, slow if in_a_write else whole)
            code, hit = until_killed(pids, mine, wait, in_a_write, draw)
            counts["kills"] += code is None
            counts["in_a_write"] += hit
            if code is None and finished(pids, PATIENCE) is None:
                counts["hung"] += 1
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
                finished(pids, PATIENCE)
        if code != 0:
            last = (output.read_text().splitlines() or ["nothing said"])[-1]
            print(f"{mine}: cannot go on after {counts['kills']} kills: {last}", file=sys.stderr)
            counts["lost"] += 1
            continue
        wrong = subject.differences(mine, alone)
        counts["differ"] += bool(wrong)
        if wrong:
            print(f"{mine}: {', '.join(wrong[:5])}", file=sys.stderr)
        print(f"\r{counts}", end="", file=sys.stderr)
    return counts


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    names = ("training", "training-2", "benchmark", "benchmark-2", "recipe", "demo")
    parser.add_argument("subject", choices=names, help="what is killed")
    parser.add_argument("--kills", type=positive, default=100, help="how many (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    parser.add_argument(
        "--slow", type=float, default=0.2, help="seconds that a write takes (default: 0.2)"
    )
    parser.add_argument(
        "--hook",
        default="mmsn.AtomicCheckpointHook",
        help="what saves; with mmengine's CheckpointHook trainings get lost",
    )
    parser.add_argument("--folder", help="keep the files here (default: a temporary folder)")
    return parser.parse(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaign and print its counts as JSON."""
    args = parse_args(argv)
    prepare(args)
    subject = load(args.subject, args.hook)
    with contextlib.ExitStack() as stack:
        folder = Path(args.folder or stack.enter_context(tempfile.TemporaryDirectory())).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        counts = campaign(subject, args.kills, args.seed, args.slow, folder)
    print(json.dumps(counts))
    return 1 if counts["lost"] or counts["differ"] or counts["hung"] else 0


if __name__ == "__main__":
    run(main)
