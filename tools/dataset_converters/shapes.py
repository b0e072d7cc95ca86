#!/usr/bin/env python
"""Make the built-in shapes dataset: a few seconds for a thousand images of 96 x 96 pixels."""

from __future__ import annotations

import argparse
import sys


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", nargs="?", default="data/shapes", help="folder (%(default)s)")
    parser.add_argument("--num-train", type=int, default=1000, help="(%(default)s)")
    parser.add_argument("--num-val", type=int, default=200, help="(%(default)s)")
    parser.add_argument("--size", type=int, default=96, help="width and height (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    parser.add_argument(
        "--difficulty", type=float, help="0: color tells much, 1: color tells nothing"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from rich.progress import Progress

    from mmsn.datasets import Scene, generate_shapes

    try:
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
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; run the same command again to continue", file=sys.stderr)
        return 130
    print(
        f"{args.out}: {args.num_train} training and {args.num_val} validation images ({made} new)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
