"""Convert the official NYUv2 files to images and 40-class label maps (about 700 MB as PNG).

    mmsn nyuv2-seg nyu_depth_v2_labeled.mat splits.mat --out data/nyuv2

Inputs: nyu_depth_v2_labeled.mat from https://cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html and
splits.mat from http://horatio.cs.nyu.edu/mit/silberman/indoor_seg_sup/splits.mat. Needs h5py.
Interrupted, the same command continues.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # the folder of _run_args.py

from _run_args import Parser, prepare, run


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("mat", help="nyu_depth_v2_labeled.mat")
    parser.add_argument("splits", help="splits.mat")
    parser.add_argument("--out", default="data/nyuv2", help="folder to fill (default: %(default)s)")
    parser.add_argument(
        "--class-mapping",
        help="classMapping40.mat, to use instead of the built-in table, which is the same",
    )
    parser.add_argument("--image-suffix", default=".png", choices=(".png", ".jpg"))
    return parser.parse(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    prepare(args)
    from rich.progress import Progress

    from mmsn.datasets.nyuv2_convert import convert_nyuv2

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
    print(
        f"{args.out}: {done.train} train and {done.test} test images "
        f"({done.written} written now, {done.ready} were ready)"
    )


if __name__ == "__main__":
    run(main, continues=True)
