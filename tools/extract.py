"""Take one stitch out of a supernet as a small model, or several as a smaller supernet.

    python tools/extract.py CONFIG CHECKPOINT --stitch 25 --out DIR

DIR receives config.py and model.safetensors, which mmseg.apis.init_model, tools/test.py and
tools/export.py take like any config and checkpoint.
"""

from __future__ import annotations

import argparse


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config file of the supernet")
    parser.add_argument("checkpoint", help="its weights: .pth or .safetensors")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--stitch", nargs="+", type=int, metavar="ID", help="the stitches to keep")
    which.add_argument(
        "--budget",
        nargs="+",
        help="the best stitch within each: 100G (GFLOPs, as multiply-accumulates, of the whole "
        "segmentor), 30%% (of the dearest), 40Mparams, 25ms",
    )
    parser.add_argument("--report", help="pareto.json, by whose metric --budget finds the best")
    parser.add_argument(
        "--latency-table", metavar="FILE", help="of the device it is for, with budgets in ms"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write")
    parser.add_argument(
        "--plain",
        action="store_true",
        help="an anchor as a model of mmseg and timm alone, without mmsn: writes model.pth",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    import mmsn  # noqa: F401  # first: it prepares what mmengine and mmseg import
    from mmsn.deploy import LatencyTable, StitchMenu, extract, load, plain, save
    from mmsn.deploy.profile import build_on_meta
    from mmsn.evaluation import ParetoReport

    try:
        config, state, meta = load(args.config, args.checkpoint)
        stitches = args.stitch
        if args.budget:
            menu = StitchMenu(
                build_on_meta(config),
                ParetoReport.load(args.report) if args.report else None,
                LatencyTable.load(args.latency_table) if args.latency_table else None,
                force=True,  # the model leaves for the device of the table
            )
            chosen = [menu.select(budget) for budget in args.budget]
            print(*chosen, sep="\n")
            stitches = [selection.stitch.id for selection in chosen]
        small, weights = extract(config, state, stitches)
        if args.plain:
            small, weights = plain(small, weights)
        path = save(args.out, small, weights, meta)
    except (OSError, ValueError, LookupError) as error:
        raise SystemExit(f"error: {error}") from None
    before, after = (sum(t.numel() for t in each.values()) / 1e6 for each in (state, weights))
    print(
        f"{path}: {after:.4g} M of {before:.4g} M parameters, {path.stat().st_size / 1e6:.4g} MB; "
        f"config: {path.with_name('config.py')}"
    )


if __name__ == "__main__":
    main()
