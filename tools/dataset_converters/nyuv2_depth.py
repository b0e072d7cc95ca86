#!/usr/bin/env python
"""Convert NYUv2 to images and 16-bit depth maps in millimeters; run it again after a stop.

labelled: the official nyu_depth_v2_labeled.mat and splits.mat (tools/dataset_converters/
nyuv2_seg.py -h says where they are) to images, 40-class labels and depth, about 1.5 GB.
raw: the larger training list, a folder or zip with nyu_train.txt and nyu_test.txt, to the layout
of mmseg, data/nyu/{images,annotations}/{train,test}.
"""

from __future__ import annotations

import argparse
import sys


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    labelled = commands.add_parser("labelled", help="the official labelled set, 1449 images")
    labelled.add_argument("mat", help="nyu_depth_v2_labeled.mat")
    labelled.add_argument("splits", help="splits.mat")
    labelled.add_argument("--out", default="data/nyuv2", help="folder to fill (%(default)s)")
    labelled.add_argument("--image-suffix", default=".png", choices=(".png", ".jpg"))
    raw = commands.add_parser("raw", help="the raw training list, about 24 000 images")
    raw.add_argument("source", help="folder or zip")
    raw.add_argument("--out", default="data/nyu", help="folder to fill (%(default)s)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from rich.progress import Progress

    from mmsn.datasets.nyuv2_convert import convert_nyuv2
    from mmsn.datasets.nyuv2_depth_convert import convert_nyuv2_depths, convert_nyuv2_raw

    try:
        with Progress() as bar:

            def show(title: str):
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
    except (OSError, ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; run the same command again to continue", file=sys.stderr)
        return 130
    for line in done.broken:
        print(f"left out: {line}", file=sys.stderr)
    print(
        f"{args.out}: {done.train} train and {done.test} test images "
        f"({done.written} written now, {done.ready} were ready, {len(done.broken)} left out)"
    )
    if args.command == "labelled":
        print(f"depth maps of {written + ready} images ({written} written now, {ready} were ready)")
    return 1 if done.broken else 0


if __name__ == "__main__":
    sys.exit(main())
