"""What the commands share: arguments, what these mean, and how errors are shown.

Each argument that several commands take has one builder here, so one name has one meaning.
Imports nothing heavy: ``-h`` answers at once, which matters because ``mim train`` asks for the
help text before every run. What needs PyTorch is imported inside functions.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

STITCH_WORDS = "ids, or words: all, anchors, middle, sl, ls, lsl, sls"
BUDGETS = (
    "400G (FLOPs, that is multiply-accumulates, of the whole segmentor for one crop), 50%% (of "
    "the most expensive stitch's) or 200Mparams"
)


class Parser(argparse.ArgumentParser):
    """Modifications: an error is one line, and flags are never abbreviated.

    An abbreviation would change its meaning when a command gets another flag.
    """

    def __init__(self, description: str | None = None, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(description=description, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with status 2."""
        self.exit(2, f"error: {message}; {self.prog} -h lists what is allowed\n")

    def parse(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """Parse, after answering a shell that asks for completions."""
        if "_ARGCOMPLETE" in os.environ:
            import argcomplete

            argcomplete.autocomplete(self)
        return self.parse_args(argv)


def positive(text: str) -> int:
    """A whole number from 1."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"got {text!r}; give a whole number from 1")
    return int(text)


def natural(text: str) -> int:
    """A whole number from 0."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"got {text!r}; give a whole number from 0")
    return int(text)


def stitch_name(text: str) -> int | str:
    """An id, or a word that ``mmsn.stitching.resolve`` knows."""
    return int(text) if text.isascii() and text.isdigit() else text


def add_model(parser: argparse.ArgumentParser, checkpoint: bool = True) -> None:
    """Config, and checkpoint."""
    parser.add_argument("config", help="config file")
    if checkpoint:
        parser.add_argument("checkpoint", help="checkpoint file: .pth or .safetensors")


def add_run(parser: argparse.ArgumentParser) -> None:
    """What every command takes that changes a config as mmseg's own tools do."""
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


def add_stitch(
    parser: Any, what: str, several: bool = True, default: Sequence[int | str] | None = None
) -> None:
    """``--stitch``: a list of names where ``several`` are allowed, else one name."""
    one = "id, or a word that stands for one stitch, such as middle"
    parser.add_argument(
        "--stitch",
        nargs="+" if several else None,
        type=stitch_name,
        default=default,
        metavar="STITCH",
        help=f"{what}: {STITCH_WORDS if several else one}",
    )


def add_budget(parser: Any, what: str, several: bool = True, default: str | None = None) -> None:
    """``--budget``: texts here, ``Budget`` after ``prepare``; a list where ``several``."""
    parser.add_argument(
        "--budget",
        nargs="+" if several else None,
        default=default,
        help=f"{what}: {BUDGETS}" + (f" (default: {default}%)" if default else ""),
    )


def add_latency_table(parser: argparse.ArgumentParser, what: str) -> None:
    """``--latency-table``, which makes budgets such as 25ms possible."""
    parser.add_argument("--latency-table", metavar="FILE", help=f"{what}; allows --budget 25ms")


def add_report(parser: argparse.ArgumentParser, what: str) -> None:
    """``--report``: what a benchmark measured."""
    parser.add_argument("--report", metavar="FILE", help=f"pareto.json of a benchmark: {what}")


def add_equal_compute(parser: argparse.ArgumentParser) -> None:
    """``--equal-compute``."""
    parser.add_argument(
        "--equal-compute",
        action="store_true",
        help="compare with anchors that are trained alone for as many FLOPs as the stitched "
        "network took with its anchors; about three times the work",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """``--device``: a name here, a ``torch.device`` after ``prepare``."""
    parser.add_argument(
        "--device", help="for example cuda:0 (default: cuda where there is one, else cpu)"
    )


def add_image_size(parser: argparse.ArgumentParser, default: str) -> None:
    """``--image-size H W``."""
    parser.add_argument(
        "--image-size",
        nargs=2,
        type=positive,
        metavar=("H", "W"),
        help=f"of the images (default: {default})",
    )


def prepare(args: argparse.Namespace) -> None:
    """Import mmsn, and read ``budget`` and ``device`` before anything large is loaded."""
    import mmsn  # noqa: F401  # first: it prepares what mmengine and mmseg import
    from mmsn.deploy import parse_budget
    from mmsn.models import usable_device

    budget = getattr(args, "budget", None)
    if isinstance(budget, list):
        args.budget = [parse_budget(text) for text in budget]
    elif budget is not None:
        args.budget = parse_budget(budget)
    if "device" in args:
        args.device = usable_device(args.device)


def load_config(args: argparse.Namespace) -> Any:
    """The mmengine ``Config`` that ``add_model`` and ``add_run`` ask for."""
    import mmsn  # noqa: F401, I001  # first: it prepares what mmengine and mmseg import
    from mmengine.config import DictAction
    from mmsn.errors import UserError
    from mmsn.models import read_config

    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    cfg = read_config(args.config)
    cfg.launcher = args.launcher
    if args.cfg_options:
        wrong = [word for word in args.cfg_options if not word.partition("=")[1] or word[0] == "="]
        if wrong:
            raise UserError(f"--cfg-options {' '.join(wrong)}: give KEY=VALUE, without spaces")
        # DictAction belongs to mmengine, so it reads the words only now, after the parsing
        reader = argparse.ArgumentParser(usage="--cfg-options KEY=VALUE ...")
        reader.add_argument("--cfg-options", nargs="+", action=DictAction)
        words = ["--cfg-options", *args.cfg_options]
        try:
            cfg.merge_from_dict(reader.parse_args(words).cfg_options)
        except (AssertionError, KeyError, TypeError, ValueError, IndexError) as error:
            # mmengine's own words for a value it cannot read, or a key that the config cannot take
            raise UserError(
                f"--cfg-options {' '.join(args.cfg_options)} do not fit this config "
                f"({type(error).__name__}: {error}): check brackets, and keys against the config"
            ) from error
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get("work_dir") is None:
        cfg.work_dir = str(Path("work_dirs") / Path(args.config).stem)
    return cfg


def build_runner(cfg: Any, training: bool = False) -> Any:
    """The Runner of a config whose mistakes have been refused; see ``mmsn.running``."""
    from mmsn.running import make_runner

    return make_runner(cfg, training)


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # a disk, a quota, the largest file allowed


def run(main: Callable[[], int | None], continues: bool = False) -> NoReturn:
    """Run a command and exit with what it returns: the one place where errors become a line.

    What the user can correct is one line on stderr and status 2: a ``UserError``, packages that
    mmsn's import refuses, and a full disk. Any other exception is a fault in the program, wherever
    it was raised, and keeps its traceback.

    Args:
        main: the command.
        continues: calling the command again continues it, which is said when it is interrupted.
    """
    try:
        code = main()
    except KeyboardInterrupt:
        hint = "; run the same command again to continue" if continues else ""
        print(f"stopped{hint}", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        if not isinstance(error, _user_errors()) and getattr(error, "errno", None) not in FULL:
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from None
    raise SystemExit(code)


def _user_errors() -> tuple[type[Exception], ...]:
    # Looked up among what is imported: help and completion must not import mmsn, and where its
    # import failed these are the modules that got as far.
    names = (("mmsn.errors", "UserError"), ("mmsn.stack", "StackProblem"))
    return tuple(
        getattr(sys.modules[module], name) for module, name in names if module in sys.modules
    )
