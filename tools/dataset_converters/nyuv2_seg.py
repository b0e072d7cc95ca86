#!/usr/bin/env python
"""Convert the official NYUv2 files to images and 40-class label maps (about 700 MB as PNG).

Inputs: nyu_depth_v2_labeled.mat from https://cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html and
splits.mat from http://horatio.cs.nyu.edu/mit/silberman/indoor_seg_sup/splits.mat. Needs h5py and
scipy. Run it again to continue after a stop.
"""

from __future__ import annotations

import argparse
import sys


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mat", help="nyu_depth_v2_labeled.mat")
    parser.add_argument("splits", help="splits.mat")
    parser.add_argument("--out", default="data/nyuv2", help="folder to fill (%(default)s)")
    parser.add_argument(
        "--class-mapping", help="classMapping40.mat instead of the built-in, equal table"
    )
    parser.add_argument("--image-suffix", default=".png", choices=(".png", ".jpg"))
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from rich.progress import Progress

    from mmsn.datasets.nyuv2_convert import convert_nyuv2

    try:
        with Progress() as bar:
            task = bar.add_task("NYUv2", total=None)
            done = convert_nyuv2(
                args.mat,
                args.splits,
                args.out,
                args.class_mapping,
                args.image_suffix,
                lambda count, total: bar.update(task, completed=count, total=total),
            )
    except (OSError, ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; run the same command again to continue", file=sys.stderr)
        return 130
    print(
        f"{args.out}: {done.train} train and {done.test} test images "
        f"({done.written} written now, {done.ready} were ready)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
