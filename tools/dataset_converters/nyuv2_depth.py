"""Convert NYUv2 to images and 16-bit depth maps in millimeters.

    mmsn nyuv2-depth labeled nyu_depth_v2_labeled.mat splits.mat
    mmsn nyuv2-depth raw nyu.zip

labeled: the official files (mmsn nyuv2-seg -h says where they are) to images, 40-class labels and
depth, about 1.5 GB. raw: the larger training list, a folder or zip with nyu_train.txt and
nyu_test.txt, to the layout of mmseg, data/nyu/{images,annotations}/{train,test}. Interrupted, the
same command continues.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # the folder of _run_args.py

from _run_args import Parser, prepare, run


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    labeled = commands.add_parser("labeled", help="the official labeled set, 1449 images")
    labeled.add_argument("mat", help="nyu_depth_v2_labeled.mat")
    labeled.add_argument("splits", help="splits.mat")
    labeled.add_argument(
        "--out", default="data/nyuv2", help="folder to fill (default: %(default)s)"
    )
    labeled.add_argument("--image-suffix", default=".png", choices=(".png", ".jpg"))
    raw = commands.add_parser("raw", help="the raw training list, about 24 000 images")
    raw.add_argument("source", help="folder or zip")
    raw.add_argument("--out", default="data/nyu", help="folder to fill (default: %(default)s)")
    return parser.parse(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    prepare(args)
    from rich.progress import Progress

    from mmsn.datasets.nyuv2_convert import convert_nyuv2
    from mmsn.datasets.nyuv2_depth_convert import convert_nyuv2_depths, convert_nyuv2_raw

    with Progress() as bar:

        def show(title: str) -> Callable[[int, int], None]:
            task = bar.add_task(title, total=None)
            return lambda count, total: bar.update(task, completed=count, total=total)

        if args.command == "raw":
            done = convert_nyuv2_raw(args.source, args.out, show("raw list"))
        else:
            done = convert_nyuv2(
                args.mat,
                args.splits,
                args.out,
                image_suffix=args.image_suffix,
                progress=show("images and labels"),
            )
            written, ready = convert_nyuv2_depths(args.mat, args.out, show("depth"))
    for line in done.broken:
        print(f"left out: {line}", file=sys.stderr)
    print(
        f"{args.out}: {done.train} train and {done.test} test images "
        f"({done.written} written now, {done.ready} were ready, {len(done.broken)} left out)"
    )
    if args.command == "labeled":
        print(f"depth maps of {written + ready} images ({written} written now, {ready} were ready)")
    return 1 if done.broken else 0


if __name__ == "__main__":
    run(main, continues=True)
