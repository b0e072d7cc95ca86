"""Rows of benchmark_speed.py about what runs before the first image."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _speed import interleave, machine
from _speed_model import Setting, report


def flops(args: argparse.Namespace) -> None:
    """All stitches in closed form."""
    at = Setting(args)
    print(f"{at.header()}: {len(at.backbone.space)} stitches")
    at.compare({"all stitches": lambda: at.backbone.stitch_macs(at.size)})


def switch(args: argparse.Namespace) -> None:
    """Setting another stitch, and holding one for a block."""
    at = Setting(args)
    ids = at.backbone.space.ids

    def hold() -> None:
        for stitch in ids:
            with at.backbone.use_stitch(stitch):
                pass

    print(f"{at.header()}: {len(ids)} switches")
    at.compare({"set_stitch": lambda: [*map(at.backbone.set_stitch, ids)], "use_stitch": hold})


def imports(args: argparse.Namespace) -> None:
    """New processes that import mmseg's models, without and with mmsn."""

    theirs = "import mmseg.models, mmseg.datasets, mmseg.evaluation, mmseg.engine"
    # mmseg alone may not import on this machine, so compat prepares it. A bare package in place of
    # mmsn keeps its __init__ from running.
    plain = (
        "import sys, types, importlib.util as u; m = types.ModuleType('mmsn'); "
        "m.__path__ = list(u.find_spec('mmsn').submodule_search_locations); "
        f"sys.modules['mmsn'] = m; import mmsn.compat; mmsn.compat.prepare(); {theirs}"
    )
    print(f"{machine('cpu')}, {args.rounds} rounds")
    ways = {
        "mmsn and mmseg": _process("-c", f"import mmsn; {theirs}"),
        "mmseg": _process("-c", plain),
    }
    times = interleave(ways, args.rounds)
    report(times)
    ours, alone = (statistics.median(times[way].process) for way in ways)
    print(f"mmsn adds {ours - alone:.2f} s of process time")


def costs(args: argparse.Namespace) -> None:
    """From a shell to the first answer of ``mmsn costs``, beside importing what it needs."""
    tool = Path(__file__).with_name("costs.py")
    size = ["--image-size", *map(str, args.image_size)] if args.image_size else []
    print(f"{args.config}, {machine('cpu')}, {args.rounds} rounds")
    ways = {
        "mmsn costs": _process(str(tool), args.config, *size),
        "import mmsn": _process("-c", "import mmsn"),
    }
    # A round that warms up brings files into memory, which a quick look does not need.
    report(interleave(ways, args.rounds, warm_up=(lambda: None) if args.quick else None))


def _process(*words: str) -> Callable[[], Any]:
    """A new process of this Python."""
    command = [sys.executable, "-W", "ignore", *words]
    return lambda: subprocess.run(command, check=True, capture_output=True)
