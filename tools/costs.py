"""Show what the stitches of a config cost: FLOPs, parameters, activation memory, times.

    mmsn costs CONFIG                            # a line per budget group
    mmsn costs CONFIG --all                      # a line per stitch
    mmsn costs CONFIG --budget 400G              # the stitch that a budget chooses
    mmsn costs CONFIG --latency-table T.json     # with times, measured here if T.json is new

FLOPs are multiply-accumulates of the whole segmentor for one image. No weights are made, except to
measure times.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _run_args import (
    Parser,
    add_budget,
    add_device,
    add_image_size,
    add_latency_table,
    add_model,
    add_stitch,
    positive,
    prepare,
    run,
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    add_model(parser, checkpoint=False)
    which = parser.add_mutually_exclusive_group()
    add_budget(which, "only the most expensive stitch within this budget", several=False)
    which.add_argument("--all", action="store_true", help="every stitch, not only budget groups")
    add_image_size(parser, "the training crop")
    parser.add_argument(
        "--batch-size", type=positive, default=1, help="images per pass (default: %(default)s)"
    )
    add_latency_table(parser, "times on this device; measured and written if the file is missing")
    add_stitch(parser, "which to time if they are measured", default=["all"])
    parser.add_argument(
        "--repeats",
        type=positive,
        default=20,
        help="timed passes of each stitch (default: %(default)s)",
    )
    add_device(parser)
    parser.add_argument(
        "--force", action="store_true", help="accept a latency table of another device or setting"
    )
    return parser.parse(argv)


def measured_table(args: argparse.Namespace, config: Any, size: tuple[int, int], menu: Any) -> Any:
    """A new table of this device, written to the file."""
    from rich.progress import track

    from mmsn.deploy import LatencyTable
    from mmsn.models import build

    ids = menu.resolve(args.stitch)
    real = build(config, args.device)  # times do not depend on the values of weights
    rounds = iter(track(range(args.repeats + 2), f"timing {len(ids)} stitches", transient=True))
    table = LatencyTable.measure(
        real,
        ids,
        size,
        title=Path(args.config).stem,
        batch_size=args.batch_size,
        repeats=args.repeats,
        on_pass=lambda: next(rounds, None),
    )
    table.save(args.latency_table)
    return table


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    warnings.filterwarnings("ignore", category=UserWarning)  # mmseg's, about what is not used here
    prepare(args)
    from mmsn.deploy import LatencyTable, StitchMenu
    from mmsn.deploy.costs import cost_table, group_costs, stitch_costs
    from mmsn.models import build, read_config

    config = read_config(args.config)
    model = build(config, "meta")
    menu = StitchMenu(model, image_size=tuple(args.image_size) if args.image_size else None)
    size, space = menu.image_size, menu.backbone.space
    table = None
    if args.latency_table:
        if Path(args.latency_table).exists():
            table = LatencyTable.load(args.latency_table)
            table.check(model, size, args.batch_size, args.force, args.device)
        else:
            table = measured_table(args, config, size, menu)
            print(table.text())
        # forced: the table has been checked for the device, which this model is not on
        menu = StitchMenu(model, None, table, size, force=True)
    costs = stitch_costs(model, size, args.batch_size)
    if args.budget:
        chosen = menu.select(args.budget)
        print(chosen)
        costs = tuple(cost for cost in costs if cost.stitch == chosen.stitch)
    one_each = args.all or args.budget
    rows = [(cost,) for cost in costs] if one_each else group_costs(costs)
    for_what = f"{Path(args.config).stem}, {size[0]}x{size[1]}, batch {args.batch_size}"
    counted = (
        f"{len(rows)} of {len(space)} stitches"
        if one_each
        else f"{len(costs)} stitches in {len(rows)} budget groups"
    )
    print(f"{for_what}: {counted}")
    print(cost_table(rows, menu.latency_ms or None), end="")


if __name__ == "__main__":
    run(main)
