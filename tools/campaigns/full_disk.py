"""Let the disk run full under runs, make room, start them again, and compare the results.

    python tools/campaigns/full_disk.py training --fills 50

Subjects are those of ``kill_runs.py`` that are one process. With ``--how disk`` the folder is a
tmpfs, which only root may mount; before each start a file takes all of its room but a random rest.
With ``--how limit``, which needs no rights, the system refuses to let any file grow beyond a random
size. Each failure has to be an error of the kind that commands print as one line, and must leave no
file half-written. Each new start continues. In the end the results must be those of an undisturbed
run, bit for bit.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.append(str(Path(__file__).resolve().parents[1]))  # the folder of _run_args.py
sys.path.append(str(Path(__file__).resolve().parent))  # that of _forks.py

from _forks import PATIENCE, finished, fork, load, parts, start
from _run_args import FULL, Parser, positive, prepare, run

if TYPE_CHECKING:
    from _subjects import Subject

# What tools/_run_args.py prints as one line.
SAID = re.compile(rf"failed: (\w*UserError|OSError): .*({'|'.join(map(os.strerror, FULL))})")


@contextlib.contextmanager
def tmpfs(folder: Path, size: int) -> Iterator[None]:
    """Make this folder a disk of so many bytes."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{done.stderr.strip()}: run this as root, or with --how limit")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def leave(folder: Path, room: int | None) -> None:
    """Fill a disk but for so many bytes; None empties it of what fills it."""
    ballast = folder / "ballast"
    ballast.unlink(missing_ok=True)
    disk = os.statvfs(folder)
    taken = disk.f_bavail * disk.f_frsize - (room or 0)
    if room is not None and taken > 0:
        with open(ballast, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, taken)


@contextlib.contextmanager
def largest_file(size: int | None) -> Iterator[None]:
    """Limit files of processes that are forked here to so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft if size is None else size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def sizes(folder: Path) -> list[int]:
    """Of all files in a folder to which another process writes; at least one."""
    found = [0]
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            found.append(path.stat().st_size)
    return found


def campaign(subject: Subject, how: str, fills: int, seed: int, folder: Path) -> dict[str, int]:
    """Run out of room so many times, over as many runs as it takes.

    Returns:
        Counts: fills, runs, failures without a line, files left half-written, runs that could not
        go on, and runs that ended with other numbers.
    """
    from _subjects import make_data

    draw = random.Random(seed)
    data, alone, output = folder / "data", folder / "alone", folder / "output.txt"
    if finished([fork(lambda: make_data(data), output)], PATIENCE) != 0:
        raise SystemExit(output.read_text())
    most, code, pids = 0, None, start(subject, alone, data, 0, output)
    while code is None:  # a benchmark removes its chunks at the end
        code = finished(pids, 0.05)
        most = max(most, (sum if how == "disk" else max)(sizes(alone)))
    if code:
        raise SystemExit(output.read_text())
    counts = dict(fills=0, runs=0, without_a_line=0, half_written=0, lost=0, differ=0)
    while counts["fills"] < fills:
        mine = folder / f"run{counts['runs']}"
        counts["runs"] += 1
        with tmpfs(mine, 4 * most) if how == "disk" else contextlib.nullcontext():
            code = None
            while code != 0:
                enough = counts["fills"] == fills
                room = None if enough else round(draw.random() * most)
                if how == "disk":
                    leave(mine, room)
                output.write_text("")
                with largest_file(room if how == "limit" else None):
                    pids = start(subject, mine, data, 0, output)
                code = finished(pids, 10 * PATIENCE)
                last = (output.read_text().splitlines() or ["nothing said"])[-1]
                if code and enough:
                    print(f"{mine}: cannot go on: {last}", file=sys.stderr)
                    counts["lost"] += 1
                    break
                if code:
                    counts["fills"] += 1
                    counts["half_written"] += len(parts(mine))
                    if not SAID.match(last):
                        counts["without_a_line"] += 1
                        print(f"{mine}, room for {room} bytes: {last}", file=sys.stderr)
            if code == 0:
                wrong = subject.differences(mine, alone)
                counts["differ"] += bool(wrong)
                if wrong:
                    print(f"{mine}: {', '.join(wrong[:5])}", file=sys.stderr)
        shutil.rmtree(mine)
        print(f"\r{counts}", end="", file=sys.stderr)
    return counts


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    names = ("training", "benchmark", "recipe", "demo")
    parser.add_argument("subject", choices=names, help="what runs")
    parser.add_argument(
        "--fills", type=positive, default=50, help="how often there is no room (default: 50)"
    )
    parser.add_argument(
        "--how", choices=("disk", "limit"), default="disk", help="a full disk (default), or a limit"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the room left (default: 0)")
    return parser.parse(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaign and print its counts as JSON."""
    args = parse_args(argv)
    prepare(args)
    subject = load(args.subject)
    with tempfile.TemporaryDirectory() as folder:
        counts = campaign(subject, args.how, args.fills, args.seed, Path(folder))
    print(json.dumps(counts))
    return 1 if any(counts[n] for n in list(counts)[2:]) else 0


if __name__ == "__main__":
    run(main)
