"""What the tools share: arguments, how these change a config, and how errors are shown.

Imports nothing heavy: ``-h`` answers at once, which matters because ``mim train`` asks for the
help text before every run.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


def new_parser(description: str) -> argparse.ArgumentParser:
    """A parser with everything that train.py and test.py have in common, except the config."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("config", help="config file")
    parser.add_argument(
        "--work-dir",
        help="folder for logs and results (default: the config's work_dir, else ./work_dirs/NAME)",
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action="extend",
        metavar="KEY=VALUE",
        help="settings that replace those of the config, e.g. model.backbone.depth=2 "
        'key="[(a,b),(c,d)]"; lists without spaces',
    )
    parser.add_argument(
        "--launcher",
        choices=("none", "pytorch", "slurm", "mpi"),
        default="none",
        help="job launcher (default: none)",
    )
    # torch.distributed.launch passes it as --local-rank from torch 2.0 on, --local_rank before
    parser.add_argument(
        "--local_rank", "--local-rank", type=int, default=0, help="set by the pytorch launcher"
    )
    return parser


def load_config(args: argparse.Namespace) -> Any:
    """The mmengine ``Config`` that the common arguments ask for."""
    import mmsn  # noqa: F401, I001  # first: it prepares what mmengine and mmseg import
    from mmengine.config import Config, DictAction

    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    cfg = Config.fromfile(args.config)
    cfg.launcher = args.launcher
    if args.cfg_options:
        wrong = [word for word in args.cfg_options if "=" not in word]
        if wrong:
            raise SystemExit(f"--cfg-options {' '.join(wrong)}: give KEY=VALUE, without spaces")
        # DictAction belongs to mmengine, so it reads the words only now, after the parsing
        reader = argparse.ArgumentParser(usage="--cfg-options KEY=VALUE ...")
        reader.add_argument("--cfg-options", nargs="+", action=DictAction)
        words = ["--cfg-options", *args.cfg_options]
        cfg.merge_from_dict(reader.parse_args(words).cfg_options)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get("work_dir") is None:
        cfg.work_dir = str(Path("work_dirs") / Path(args.config).stem)
    return cfg


def build_runner(cfg: Any) -> Any:
    """The Runner of a config: mmengine's, or the class that ``runner_type`` names."""
    from mmengine.registry import RUNNERS
    from mmengine.runner import Runner

    return RUNNERS.build(cfg) if "runner_type" in cfg else Runner.from_cfg(cfg)


def run(main: Callable[[], Any]) -> None:
    """Run a command and exit with what it returns.

    What mmsn itself refuses, and a file that is not there, is one line; any other error keeps its
    traceback.
    """
    try:
        code = main()
    except Exception as error:
        if not _is_for_the_user(error):
            raise
        text = str(error.args[0]) if isinstance(error, LookupError) and error.args else str(error)
        raise SystemExit(f"error: {text}") from None
    raise SystemExit(code)


def _is_for_the_user(error: Exception) -> bool:
    if isinstance(error, FileNotFoundError):
        return True
    package = importlib.util.find_spec("mmsn")
    if package is None or package.origin is None:
        return False
    raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename).resolve()
    refusals = (ValueError, LookupError, RuntimeError, OSError, ImportError)
    return Path(package.origin).resolve().parent in raised_in.parents and isinstance(
        error, refusals
    )
