"""Feed damaged files to everything that reads one.

    python tools/campaigns/fuzz_files.py --inputs 10000

Valid files are damaged at random: flipped bits, cuts, insertions, zeros, parts of other places,
numbers replaced. A reader may give the file's true content or refuse it with ``UserError``.
Everything else is counted: other exceptions, other content (where the format has a checksum) and
readers that take longer than ten seconds.

Left out: MATLAB files, on which SciPy's own reader ends the process when they are damaged.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))  # the folder of _run_args.py

from _run_args import Parser, positive, prepare, run

LIMIT = 10  # seconds for one input


@dataclass
class Reader:
    """How one kind of file is read.

    Attributes:
        path: a valid file.
        read: what is called after each damage; its answers are compared by ``repr``.
        has_checksum: whether other content must be noticed.
    """

    path: Path
    read: Callable[[], Any]
    has_checksum: bool


def readers(folder: Path) -> dict[str, Reader]:
    """All of them, each with a valid file."""
    import torch
    from mmengine.runner import CheckpointLoader

    from mmsn.engine.chunks import ChunkStore
    from mmsn.engine.resume import latest_checkpoint
    from mmsn.evaluation import ParetoReport
    from mmsn.evaluation.latency import LatencyTable
    from mmsn.state_dict import digest_of, read_checkpoint, write_checkpoint

    weights = {f"layer{i}.weight": torch.randn(5, 7) for i in range(4)}
    meta = dict(classes=["a", "b"], palette=[[0, 0, 0], [1, 2, 3]])

    def content(path: Path) -> tuple[str, str]:
        tensors, found = read_checkpoint(path)
        return digest_of(tensors), repr(found)

    pth, safe, old = (folder / n for n in ("weights.pth", "weights.safetensors", "old.pth"))
    write_checkpoint(pth, weights, meta)
    write_checkpoint(safe, weights, meta)
    torch.save({"state_dict": weights}, old, _use_new_zipfile_serialization=False)
    by_mmengine = folder / "mmengine.pth"
    torch.save({"state_dict": weights, "meta": {"epoch": 0, "iter": 5}}, by_mmengine)

    runs = folder / "run"
    runs.mkdir()
    for step in (2, 4):
        torch.save({"state_dict": weights}, runs / f"iter_{step}.pth")
    pointer = runs / "last_checkpoint"
    pointer.write_text(str(runs / "iter_4.pth"))

    store = ChunkStore(folder / "partial", {"config": "x"})
    store.save(0, {0: [[(torch.ones(3), torch.zeros(3))]], 1: [[(torch.ones(3), torch.ones(3))]]})

    def loaded(path: Path) -> Any:
        checkpoint = CheckpointLoader.load_checkpoint(str(path))
        state = checkpoint.get("state_dict", checkpoint)
        return digest_of({k: v for k, v in state.items() if isinstance(v, torch.Tensor)})

    found = {
        "read_checkpoint .pth": Reader(pth, lambda: content(pth), True),
        "read_checkpoint .safetensors": Reader(safe, lambda: content(safe), False),
        "read_checkpoint before torch 1.6": Reader(old, lambda: content(old), False),
        "mmengine .pth": Reader(by_mmengine, lambda: loaded(by_mmengine), True),
        "newest checkpoint": Reader(runs / "iter_4.pth", lambda: latest_checkpoint(runs), False),
        "last_checkpoint": Reader(pointer, lambda: latest_checkpoint(runs), False),
        # A damaged chunk is evaluated again: the reader gives nothing, and never something else.
        "chunk": Reader(store._path(0), lambda: store.load((0, 1)) or _refuse(), True),
        **_lists(folder),
    }
    results = Path(__file__).resolve().parents[2] / "docs" / "results"
    report, table = folder / "report.json", folder / "table.json"
    report.write_bytes(
        next(p for p in sorted(results.rglob("*.json")) if _is_report(p)).read_bytes()
    )
    _latency_table().save(table)
    found["report"] = Reader(report, lambda: _used(ParetoReport.load(report)), False)
    found["latency table"] = Reader(table, lambda: _used(LatencyTable.load(table)), False)
    return found


def _lists(folder: Path) -> dict[str, Reader]:
    """Lists of images, as converters of datasets read them."""
    from mmsn.datasets.nyuv2_depth_convert import _read_list

    text = folder / "nyu_train.txt"
    rows = (f"/s/rgb_{i:05d}.jpg /s/sync_depth_{i:05d}.png 518.8\n" for i in range(3))
    text.write_text("".join(rows))
    return {"list of pairs": Reader(text, lambda: _read_list(text), False)}


def _is_report(path: Path) -> bool:
    from mmsn.errors import UserError
    from mmsn.evaluation import ParetoReport

    try:
        ParetoReport.load(path)
    except UserError:
        return False
    return True


def _latency_table() -> Any:
    from mmsn.evaluation.latency import LatencyTable, TimedStitch
    from mmsn.evaluation.report import Latency, LatencySetting

    return LatencyTable(
        title="tiny",
        torch_version="2.13.0",
        image_size=(32, 32),
        setting=LatencySetting(device="cpu", dtype="float32", batch_size=1, threads=1),
        stitches=[
            TimedStitch(id=i, macs=1000 + i, latency=Latency(p50_ms=1.5, p90_ms=2.5, repeats=20))
            for i in range(5)
        ],
    )


def _used(read: Any) -> str:
    """What is done with a report next: it is printed, and written again."""
    if hasattr(read, "table"):
        read.table(read.default_metric())
    return read.model_dump_json()


def _refuse() -> None:
    from mmsn.errors import UserError

    raise UserError("damaged")


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


def campaign(inputs: int, seed: int, folder: Path) -> dict[str, Any]:
    """Damage so many files.

    Returns:
        Counts by what happened, and the first few faults in full.
    """
    from mmsn.errors import UserError

    draw, counts, faults = random.Random(seed), Counter(), []
    signal.signal(signal.SIGALRM, _stop)
    kinds = readers(folder)
    valid = {name: reader.path.read_bytes() for name, reader in kinds.items()}
    right = {name: repr(reader.read()) for name, reader in kinds.items()}
    for number in range(inputs):
        name = list(kinds)[number % len(kinds)]
        reader = kinds[name]
        bad = damage(valid[name], draw)
        reader.path.write_bytes(bad)
        signal.alarm(LIMIT)
        try:
            answer = repr(reader.read())
            wrong = reader.has_checksum and answer != right[name]
            outcome = "other content" if wrong else "read"
        except UserError as error:
            outcome = "refused" if "\n" not in str(error) else "refused in several lines"
        except TooSlow:
            outcome = "too slow"
        except Exception as error:
            outcome = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
        finally:
            signal.alarm(0)
        reader.path.write_bytes(valid[name])
        counts[outcome if outcome in ("read", "refused") else "faults"] += 1
        if outcome not in ("read", "refused"):
            faults.append(f"{name}: {outcome}")
        if sys.stderr.isatty() and number % 100 == 0:
            print(f"\r{number} {dict(counts)}", end="", file=sys.stderr)
    summary = Counter(faults).most_common(20)
    return dict(inputs=inputs, kinds=len(kinds), **counts, what=dict(summary))


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--inputs", type=positive, default=10_000, help="how many (default: 10000)")
    parser.add_argument("--seed", type=int, default=0, help="of the damages (default: 0)")
    return parser.parse(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaign and print its counts as JSON."""
    args = parse_args(argv)
    prepare(args)
    import logging
    import warnings

    import torch

    torch.manual_seed(0)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        counts = campaign(args.inputs, args.seed, Path(folder))
    print(json.dumps(counts))
    return 1 if counts.get("faults") else 0


if __name__ == "__main__":
    run(main)
