"""Train anchors alone, stitch them, fine-tune and evaluate: the whole way to a curve.

    python tools/stitch.py --anchors SMALL.py LARGE.py --stitched STITCHED.py --work-dir DIR

A finished step is not repeated, and an interrupted one continues: run the same command again.
"""

from __future__ import annotations

import argparse

from _run_args import run


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--anchors",
        nargs="+",
        required=True,
        metavar="CONFIG",
        help="the anchors' own trainings, from cheap to dear",
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
    parser.add_argument("--work-dir", required=True, help="folder for everything")
    return parser.parse_args(argv)


def main() -> None:
    args = parse_args()
    import mmsn  # noqa: F401  # first: it prepares what mmengine and mmseg import
    from mmsn.engine.recipe import Step, stitch_from_anchors

    stitch_from_anchors(
        anchors=[Step.from_file(path) for path in args.anchors],
        stitched=Step.from_file(args.stitched),
        work_dir=args.work_dir,
        probes=[Step.from_file(path) for path in args.probes],
    )


if __name__ == "__main__":
    run(main)
