"""Train anchors alone, stitch them, fine-tune and evaluate: from anchors to a curve.

    mmsn stitch --anchors SMALL.py LARGE.py --stitched STITCHED.py --work-dir DIR

A finished step is not repeated, and an interrupted one continues: run the same command again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from _run_args import Parser, add_equal_compute, prepare, run


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument(
        "--anchors",
        nargs="+",
        required=True,
        metavar="CONFIG",
        help="the anchors' own trainings, smallest to largest",
    )
    parser.add_argument(
        "--stitched", required=True, metavar="CONFIG", help="the stitched network's training"
    )
    parser.add_argument(
        "--probes",
        nargs="*",
        default=[],
        metavar="CONFIG",
        help="further trainings to compare with, for example linear probes",
    )
    add_equal_compute(parser)
    parser.add_argument("--work-dir", required=True, help="folder for all results")
    return parser.parse(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    prepare(args)
    from mmsn.recipe import Step, stitch_from_anchors

    stitch_from_anchors(
        anchors=[Step.from_file(path) for path in args.anchors],
        stitched=Step.from_file(args.stitched),
        work_dir=args.work_dir,
        probes=[Step.from_file(path) for path in args.probes],
        equal_compute=args.equal_compute,
    )


if __name__ == "__main__":
    run(main, continues=True)
