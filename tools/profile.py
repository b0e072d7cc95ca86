"""What the stitches of a config cost, before any training: FLOPs, parameters, activation memory.

    python tools/profile.py CONFIG                    # a line per budget group
    python tools/profile.py CONFIG --all              # a line per stitch
    python tools/profile.py CONFIG --budget 100G      # the stitch that a budget chooses
    python tools/profile.py CONFIG --latency T.json   # with times, measured here if T.json is new

FLOPs are multiply-accumulates of the whole segmentor for one image. Nothing is built on a device,
except to measure times. Answers are kept in ~/.cache/mmsn, so that asking again needs no PyTorch.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import sysconfig
import warnings
from importlib import metadata
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import Any

if __name__ == "profile":
    # Somebody imports Python's own profile, as cProfile does, and so PyTorch, in every tool here:
    # the folder of a script comes first on the path. Step aside.
    _spec = PathFinder.find_spec("profile", [sysconfig.get_path("stdlib")])
    sys.modules["profile"] = module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["profile"])


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config file of a segmentor with a StitchedViT backbone")
    parser.add_argument("--budget", help="100G, 30%%, 40Mparams, or 25ms with --latency")
    parser.add_argument("--all", action="store_true", help="every stitch, not only budget groups")
    parser.add_argument(
        "--image-size", nargs=2, type=int, metavar=("H", "W"), help="default: the training crop"
    )
    parser.add_argument("--batch-size", type=int, default=1, help="images per pass (%(default)s)")
    parser.add_argument(
        "--latency", metavar="TABLE", help="a latency table of this device; measured if not there"
    )
    parser.add_argument(
        "--stitches", nargs="+", default=["all"], help="which to time, as for benchmark.py (all)"
    )
    parser.add_argument("--repeats", type=int, default=20, help="timed passes each (%(default)s)")
    parser.add_argument("--device", help="to time on (default: cuda where there is one, else cpu)")
    parser.add_argument(
        "--force", action="store_true", help="take a latency table of another device or setting"
    )
    args = parser.parse_args(argv)
    if args.batch_size < 1 or args.repeats < 1 or min(args.image_size or [1]) < 1:
        parser.error("--batch-size, --repeats and --image-size: give whole numbers from 1")
    return args


def read_config(path: str) -> Any:
    """The config, without importing what it wants imported: that needs PyTorch."""
    from mmengine.config import Config

    try:
        config = Config.fromfile(path, import_custom_modules=False)
    except Exception as error:  # a config is a program, which may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise SystemExit(f"config {path!r} cannot be read ({reason})") from None
    if "backbone" not in config.get("model", {}):
        raise SystemExit(f"config {path!r} has no model with a backbone: name a segmentor's config")
    return config


def answer_file(args: argparse.Namespace, config: Any) -> Path:
    """Where the answer lies, by all that it depends on: question, model and installed code."""
    package = find_spec("mmsn").submodule_search_locations[0]
    sources = sorted(Path(package).rglob("*.py"))
    question = [
        {**vars(args), "config": Path(args.config).stem},  # the answer names it
        [config.get(key) for key in ("default_scope", "custom_imports", "model")],
        [(str(path), path.stat().st_mtime_ns) for path in [Path(__file__), *sources]],
        [(name, _version(name)) for name in ("torch", "timm", "mmsegmentation")],
        _version("onedl-mmsegmentation"),
    ]
    digest = hashlib.sha256(json.dumps(question, default=str).encode()).hexdigest()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "mmsn" / "profiles" / f"{digest}.txt"


def kept_answer(file: Path) -> str | None:
    """The text that an earlier call kept; None if there is none that can be read."""
    try:
        return file.read_text(encoding="utf-8") or None
    except (OSError, UnicodeDecodeError):
        return None


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def measured_table(args: argparse.Namespace, config: Any, size: tuple[int, int], model: Any) -> Any:
    """The table in the file, or a new one of this device."""
    import torch
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import MODELS
    from rich.progress import track

    from mmsn.deploy import LatencyTable
    from mmsn.models import segmentor_macs, stitched_backbone
    from mmsn.stitching import resolve

    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if Path(args.latency).exists():
        table = LatencyTable.load(args.latency)
        table.check(model, size, args.batch_size, args.force, device)
        return table
    words = [int(word) if word.isdigit() else word for word in args.stitches]
    ids = resolve(stitched_backbone(model).space, segmentor_macs(model, size), words)
    real = revert_sync_batchnorm(MODELS.build(config.model)).to(device)  # any weights will do
    rounds = iter(track(range(args.repeats + 2), f"timing {len(ids)} stitches", transient=True))
    table = LatencyTable.measure(
        real,
        ids,
        size,
        title=Path(args.config).stem,
        batch_size=args.batch_size,
        repeats=args.repeats,
        on_pass=lambda: next(rounds, None),
    )
    table.save(args.latency)
    return table


def answer(args: argparse.Namespace, config: Any) -> str:
    """The text to print."""
    warnings.filterwarnings("ignore", category=UserWarning)  # mmseg's, about what is not used here
    import mmsn  # noqa: F401  # first: it prepares what mmseg imports
    from mmsn.deploy import StitchMenu
    from mmsn.deploy.profile import build_on_meta, cost_table, group_costs, profile
    from mmsn.models import stitched_backbone

    model = build_on_meta(config)
    size = tuple(args.image_size or stitched_backbone(model).img_size)
    table = measured_table(args, config, size, model) if args.latency else None
    times = {s.id: s.latency.p50_ms for s in table.stitches} if table else None
    costs = profile(model, size, args.batch_size)
    lines = []
    if args.budget:
        # forced: the table has been checked for the device, which this model is not on
        chosen = StitchMenu(model, None, table, size, force=True).select(args.budget)
        lines.append(str(chosen))
        costs = tuple(cost for cost in costs if cost.stitch == chosen.stitch)
    one_each = args.all or args.budget
    rows = [(cost,) for cost in costs] if one_each else group_costs(costs)
    for_what = f"{Path(args.config).stem}, {size[0]}x{size[1]}, batch {args.batch_size}"
    lines += [
        f"{for_what}: {len(rows)} of {len(stitched_backbone(model).space)} stitches"
        if one_each
        else f"{for_what}: {len(costs)} stitches in {len(rows)} budget groups",
        cost_table(rows, times),
    ]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    config = read_config(args.config)
    file = answer_file(args, config)
    kept = None if args.latency else kept_answer(file)
    if kept is not None:
        print(kept, end="")
        return
    try:
        text = answer(args, config)
    except (LookupError, OSError, ValueError) as error:
        raise SystemExit(str(error)) from None
    print(text, end="")
    if not args.latency:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            part = file.with_suffix(f".part{os.getpid()}")  # another call may be reading
            part.write_text(text, encoding="utf-8")
            part.replace(file)
        except OSError:
            pass  # a home that cannot be written only makes the next call slower


if __name__ == "__main__":
    main()
