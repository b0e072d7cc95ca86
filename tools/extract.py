"""Extract one stitch of a supernet as a small model, or several as a smaller supernet.

    mmsn extract CONFIG CHECKPOINT --stitch 25 --out DIR

DIR receives config.py and model.safetensors, which mmsn.models.open_segmentor, mmsn test and
mmsn export take like any config and checkpoint.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from _run_args import (
    Parser,
    add_budget,
    add_latency_table,
    add_model,
    add_report,
    add_stitch,
    prepare,
    run,
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    add_model(parser)
    which = parser.add_mutually_exclusive_group(required=True)
    add_stitch(which, "the stitches to keep")
    add_budget(which, "the best stitch within each budget")
    add_report(parser, "the best stitch is the one with the best metric")
    add_latency_table(parser, "measured on the device that the model is for")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write")
    parser.add_argument(
        "--plain",
        action="store_true",
        help="an anchor as a model of mmseg and timm alone, without mmsn: writes model.pth",
    )
    return parser.parse(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    prepare(args)
    from mmsn.deploy import LatencyTable, StitchMenu, extract, plain, save
    from mmsn.evaluation import ParetoReport
    from mmsn.models import build, read_config
    from mmsn.state_dict import read_checkpoint

    config = read_config(args.config)
    menu = StitchMenu(
        build(config, "meta"),
        ParetoReport.load(args.report) if args.report else None,
        LatencyTable.load(args.latency_table) if args.latency_table else None,
        force=True,  # the model moves to the device of the table
    )
    if args.budget:
        chosen = [menu.select(budget) for budget in args.budget]
        print(*chosen, sep="\n")
        stitches = [selection.stitch.id for selection in chosen]
    else:
        stitches = list(menu.resolve(args.stitch))
    state, meta = read_checkpoint(args.checkpoint)
    small, weights = extract(config, state, stitches)
    if args.plain:
        small, weights = plain(small, weights)
    path = save(args.out, small, weights, meta)
    before, after = (sum(t.numel() for t in each.values()) / 1e6 for each in (state, weights))
    print(
        f"{path}: {after:.4g} M of {before:.4g} M parameters, {path.stat().st_size / 1e6:.4g} MB; "
        f"config: {path.with_name('config.py')}"
    )


if __name__ == "__main__":
    run(main)
