"""Make the built-in shapes dataset: a few seconds for a thousand images of 96 x 96 pixels.

    mmsn shapes data/shapes

Interrupted, the same command continues.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # the folder of _run_args.py

from _run_args import Parser, positive, prepare, run


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument(
        "out", nargs="?", default="data/shapes", help="folder to fill (default: %(default)s)"
    )
    parser.add_argument(
        "--num-train", type=int, default=1000, help="training images (default: %(default)s)"
    )
    parser.add_argument(
        "--num-val", type=int, default=200, help="validation images (default: %(default)s)"
    )
    parser.add_argument(
        "--size", type=positive, default=96, help="width and height (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: %(default)s)")
    parser.add_argument(
        "--difficulty",
        type=float,
        help="from 0 (color tells the class) to 1 (color tells nothing about it)",
    )
    return parser.parse(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    prepare(args)
    from rich.progress import Progress

    from mmsn.datasets import Scene, generate_shapes

    scene = Scene() if args.difficulty is None else Scene(difficulty=args.difficulty)
    with Progress() as bar:
        task = bar.add_task("shapes", total=None)
        made = generate_shapes(
            args.out,
            args.num_train,
            args.num_val,
            args.size,
            args.seed,
            scene,
            lambda count, total: bar.update(task, completed=count, total=total),
        )
    print(
        f"{args.out}: {args.num_train} training and {args.num_val} validation images ({made} new)"
    )


if __name__ == "__main__":
    run(main, continues=True)
