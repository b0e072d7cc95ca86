"""Run images or videos within a budget, and paint classes, or depth, over them.

    python tools/infer.py CONFIG CHECKPOINT INPUT --budget 30% --out painted

INPUT is an image, a video or a folder. Finished files are skipped: the same command continues.
"""

from __future__ import annotations

import argparse


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.replace("%", "%%"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", help="config file")
    parser.add_argument("checkpoint", help="checkpoint file")
    parser.add_argument("input", help="image, video or folder")
    parser.add_argument("--out", default="painted", help="folder to write (%(default)s)")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--budget",
        default="100%",
        help="100G (FLOPs: multiply-accumulates of the whole segmentor for one crop), 30%% (of the "
        "dearest stitch's), 40Mparams, or 25ms with --latency (default: 100%%)",
    )
    choice.add_argument("--stitch", type=int, metavar="ID", help="this stitch instead")
    parser.add_argument("--report", help="a pareto.json: take the best measured stitch")
    parser.add_argument("--latency", metavar="TABLE", help="a latency table of this device")
    parser.add_argument("--device", help="default: cuda where there is one, else cpu")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    import mmsn  # noqa: F401, I001  # first: it prepares what mmseg imports
    import torch
    from rich.progress import Progress

    from mmsn.deploy import LatencyTable, StitchMenu
    from mmsn.deploy.infer import count_frames, find_inputs, find_outputs, open_model, paint_file
    from mmsn.evaluation import ParetoReport

    try:
        files = find_outputs(find_inputs(args.input), args.out)
        report = ParetoReport.load(args.report) if args.report else None
        table = LatencyTable.load(args.latency) if args.latency else None
        device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
        model = open_model(args.config, args.checkpoint, device)
        budget = args.budget if args.stitch is None else args.stitch
        print(StitchMenu(model, report, table).set(budget))
        faults: list[str] = []
        left = {source: target for source, target in files.items() if not target.exists()}
        with Progress(transient=True) as progress:
            task = progress.add_task("frames", total=sum(map(count_frames, left)))
            for source, target in left.items():
                try:
                    paint_file(model, source, target, lambda: progress.advance(task))
                except ValueError as error:  # the others may be whole
                    faults.append(str(error))
    except (LookupError, OSError, ValueError) as error:
        raise SystemExit(" ".join(str(error).split())) from None
    painted, there = len(left) - len(faults), len(files) - len(left)
    print(f"{painted} files painted, {there} were there; see {args.out}")
    if faults:
        raise SystemExit(f"{len(faults)} files were left out: {'; '.join(faults)}")


if __name__ == "__main__":
    main()
