"""Feed damaged files to everything that reads one.

    python tools/campaigns/fuzz_files.py --inputs 10000

Valid files are damaged at random: flipped bits, cuts, insertions, zeros, parts of other places,
numbers and words replaced. A reader may give the file's true content or refuse it with a
``UserError`` in one line. Everything else is counted as a fault: other exceptions, other content
(where the format has a checksum), readers that take longer than ten seconds or eat the memory, and
processes that end. What is read, and how, is in ``_readers.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import signal
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.append(str(Path(__file__).resolve().parents[1]))  # the folder of _run_args.py

from _run_args import Parser, positive, prepare, run

if TYPE_CHECKING:
    from _readers import Reader

LIMIT = 10  # seconds for one input
MEMORY = 4 << 30  # bytes of address space that reading may add


def damage(data: bytes, draw: random.Random) -> bytes:
    """The file with one to three faults."""
    for _ in range(draw.randint(1, 3)):
        data = draw.choice(FAULTS)(data, draw)
    return data


def _flip(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 8))):
        if changed:
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _cut(data: bytes, draw: random.Random) -> bytes:
    start, stop = _range(data, draw)
    return draw.choice((data[:start], data[stop:], data[:start] + data[stop:]))


def _insert(data: bytes, draw: random.Random) -> bytes:
    at = draw.randint(0, len(data))
    return data[:at] + draw.randbytes(draw.choice((1, 4, 100))) + data[at:]


def _zero(data: bytes, draw: random.Random) -> bytes:
    start, stop = _range(data, draw)
    return data[:start] + bytes(stop - start) + data[stop:]


def _move(data: bytes, draw: random.Random) -> bytes:
    (start, stop), at = _range(data, draw), draw.randint(0, len(data))
    return data[:at] + data[start:stop] + data[at:]


def _number(data: bytes, draw: random.Random) -> bytes:
    """Text formats: one number becomes another, as programs write them."""
    found = list(re.finditer(rb"-?\d+(\.\d+)?([eE][+-]?\d+)?", data))
    if not found:
        return data
    match = draw.choice(found)
    others = (
        b"-1",
        b"0",
        b"1e999",
        b"NaN",
        b"1" + b"0" * 309,
        b'"5"',
        b"null",
        b"[]",
        b"{}",
        b"1.5",
    )
    return data[: match.start()] + draw.choice(others) + data[match.end() :]


def _word(data: bytes, draw: random.Random) -> bytes:
    """Text formats: one word becomes another of the file."""
    found = list(re.finditer(rb"\w+", data))
    if not found:
        return data
    match, other = draw.choice(found), draw.choice(found)
    return data[: match.start()] + other.group() + data[match.end() :]


FAULTS = (_flip, _flip, _cut, _insert, _zero, _move, _number, _word)


def _range(data: bytes, draw: random.Random) -> tuple[int, int]:
    start = draw.randint(0, len(data))
    return start, min(len(data), start + draw.choice((1, 4, 64, 1000)))


class TooSlow(BaseException):
    """A ``BaseException``, which no reader catches."""


def _stop(*_: Any) -> None:
    raise TooSlow


def outcome_of(reader: Reader) -> tuple[str, str]:
    """("read", what was read), ("refused", the message) or ("fault", its kind)."""
    from mmsn.errors import UserError

    signal.signal(signal.SIGALRM, _stop)
    signal.alarm(LIMIT)
    try:
        return "read", repr(reader.read())
    except UserError as error:
        line = str(error)
        return ("refused", line) if "\n" not in line else ("fault", f"several lines: {line!r}")
    except TooSlow:
        return "fault", "too slow"
    except Exception as error:
        return "fault", f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
    finally:
        signal.alarm(0)


def outcome_in_a_process(reader: Reader) -> tuple[str, str]:
    """The same in a fork of this process, which the reader may end."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 2)  # native code says there why it aborts
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(LIMIT + 2)  # native code returns to no Python handler
            os.write(write_end, json.dumps(outcome_of(reader)).encode()[:60_000])
        finally:
            os._exit(0)
    os.close(write_end)
    with open(read_end, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        return "fault", "too slow" if name == "SIGALRM" else f"ended by {name}"
    kind, text = json.loads(said)
    return kind, text


def campaign(
    inputs: int, seed: int, folder: Path, only: str, keep: Path | None = None
) -> dict[str, Any]:
    """Damage so many files.

    Args:
        only: a part of the names of kinds; "" for all.
        keep: the folder for files that made a fault.

    Returns:
        Counts by what happened and by kind, and the faults by their message.
    """
    from _readers import readers

    draw, counts, faults = random.Random(seed), Counter(), Counter()
    of_kind: dict[str, Counter[str]] = defaultdict(Counter)
    kinds = {name: reader for name, reader in readers(folder).items() if only in name}
    valid = {name: reader.path.read_bytes() for name, reader in kinds.items()}

    def outcome(reader: Reader) -> tuple[str, str]:
        return (outcome_in_a_process if reader.is_native else outcome_of)(reader)

    right = {name: outcome(reader) for name, reader in kinds.items()}
    unread = {name: found for name, found in right.items() if found[0] != "read"}
    assert not unread, f"valid files are not read: {unread}"
    _limit_memory()
    for number in range(inputs):
        name = list(kinds)[number % len(kinds)]
        reader = kinds[name]
        bad = reader.mutate(draw) if reader.mutate else damage(valid[name], draw)
        reader.path.write_bytes(bad)
        kind, text = outcome(reader)
        reader.path.write_bytes(valid[name])
        if kind == "read" and reader.has_checksum and text != right[name][1]:
            kind, text = "fault", "other content"
        counts[kind] += 1
        of_kind[name][kind] += 1
        if kind == "fault":
            faults[f"{name}: {text}"] += 1
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{number}{reader.path.suffix}").write_bytes(bad)
        if sys.stderr.isatty() and number % 100 == 0:
            print(f"\r{number} {dict(counts)}", end="", file=sys.stderr)
    return dict(
        inputs=inputs,
        kinds=len(kinds),
        **counts,
        what=dict(faults.most_common(40)),
        of_kind={name: dict(found) for name, found in of_kind.items()},
    )


def _limit_memory() -> None:
    """A damaged size must not take the machine's memory: beyond the limit it is a MemoryError."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--inputs", type=positive, default=10_000, help="how many (default: 10000)")
    parser.add_argument("--seed", type=int, default=0, help="of the damages (default: 0)")
    parser.add_argument("--only", default="", help="kinds whose name has this in it")
    parser.add_argument("--keep", type=Path, help="folder for the files that made a fault")
    return parser.parse(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaign and print its counts as JSON."""
    args = parse_args(argv)
    prepare(args)
    import logging
    import warnings

    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)  # a process with threads must not be forked
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        counts = campaign(args.inputs, args.seed, Path(folder), args.only, args.keep)
    print(json.dumps(counts))
    return 1 if counts.get("fault") else 0


if __name__ == "__main__":
    run(main)
