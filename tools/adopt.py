"""Give an mmseg config a stitched backbone: writes a new config and prints what it changed.

mmsn adopt upernet_r50_4xb4-160k_ade20k-512x512.py \\
    --anchors deit3_small_patch16_224.fb_in22k_ft_in1k deit3_large_patch16_224.fb_in22k_ft_in1k
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from _run_args import Parser, add_model, add_stitch, prepare, run


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    add_model(parser, checkpoint=False)
    parser.add_argument(
        "--anchors",
        nargs="+",
        required=True,
        metavar="ANCHOR",
        help="names of timm, smallest to largest, with its published weights; NAME=FILE takes "
        "weights from a local file",
    )
    parser.add_argument("--out", help="file to write (default: NAME_stitched.py in this folder)")
    parser.add_argument(
        "--rank", type=int, default=16, help="of the stitching layers' update (default: 16)"
    )
    add_stitch(parser, "train only these stitches", default=["all"])
    return parser.parse(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    prepare(args)
    from pathlib import Path

    from mmsn.adopt import adopt, find_config, parse_anchor
    from mmsn.errors import UserError
    from mmsn.files import write_text
    from mmsn.models import read_config

    source = find_config(args.config)
    out = Path(args.out or f"{source.stem}_stitched.py")
    if out.exists():
        raise UserError(f"{str(out)!r} exists: give another file as --out, or remove it")
    stitches = args.stitch[0] if len(args.stitch) == 1 else args.stitch
    anchors = [parse_anchor(text) for text in args.anchors]
    adoption = adopt(read_config(source), anchors, args.rank, stitches)
    write_text(out, adoption.text(args.config))
    for change in adoption.changes:
        print(f"- {change}")
    for note in adoption.notes:
        print(f"note: {note}")
    print(f"wrote {out}: mmsn costs {out} shows the stitches, mmsn train {out} trains them")


if __name__ == "__main__":
    run(main)
