"""Run images or videos within a budget, and paint classes, or depth, over them.

    mmsn infer CONFIG CHECKPOINT INPUT --budget 50% --out painted

INPUT is an image, a video or a folder. The same command continues where it was stopped: finished
files are skipped. They are painted again if the stitch, the checkpoint, the config or the input
changed.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence

from _run_args import (
    Parser,
    add_budget,
    add_device,
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
    parser.add_argument("input", help="image, video or folder")
    parser.add_argument("--out", default="painted", help="folder to write (default: %(default)s)")
    choice = parser.add_mutually_exclusive_group()
    add_budget(choice, "run the best stitch within this budget", several=False, default="100%")
    add_stitch(choice, "run this stitch", several=False)
    add_report(parser, "the best stitch is the one with the best metric")
    add_latency_table(parser, "measured on this device")
    add_device(parser)
    return parser.parse(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    prepare(args)
    from rich.progress import Progress

    from mmsn.deploy import LatencyTable, Predictor, StitchMenu
    from mmsn.deploy.infer import (
        PaintRecord,
        count_frames,
        find_inputs,
        find_outputs,
        paint_file,
    )
    from mmsn.errors import UserError
    from mmsn.evaluation import ParetoReport
    from mmsn.files import sha256_of
    from mmsn.models import build, read_config

    files = find_outputs(find_inputs(args.input), args.out)
    report = ParetoReport.load(args.report) if args.report else None
    table = LatencyTable.load(args.latency_table) if args.latency_table else None
    config = read_config(args.config)
    network = build(config, "meta")  # the stitch is chosen before weights are loaded
    menu = StitchMenu(network, report, table, force=True)
    if table is not None:
        table.check(network, menu.image_size, device=args.device)
    selection = menu.select(args.budget if args.stitch is None else menu.one(args.stitch))
    print(selection)
    predictor = Predictor.load(config, args.checkpoint, args.device)
    made_of = dict(
        stitch=selection.stitch.id,
        checkpoint=sha256_of(args.checkpoint),
        config=hashlib.sha256(config.pretty_text.encode()).hexdigest(),
    )
    record = PaintRecord(args.out, made_of)
    faults: list[str] = []
    left = {s: t for s, t in files.items() if not record.is_current(s, t)}
    again = sum(target.exists() for target in left.values())
    with Progress(transient=True) as progress:
        task = progress.add_task("frames", total=sum(map(count_frames, left)))
        for source, target in left.items():
            try:
                paint_file(
                    predictor, source, target, selection.stitch.id, lambda: progress.advance(task)
                )
            except UserError as error:  # the others may be readable
                faults.append(str(error))
            else:
                record.add(source, target)
    painted, there = len(left) - len(faults), len(files) - len(left)
    anew = f" ({again} of them again, because what they are made of changed)" if again else ""
    print(f"{painted} files painted{anew}, {there} were there already; see {args.out}")
    if faults:
        raise UserError(f"{len(faults)} files were skipped: {'; '.join(faults)}")


if __name__ == "__main__":
    run(main, continues=True)
