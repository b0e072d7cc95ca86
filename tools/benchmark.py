"""Benchmark the whole Pareto curve of a checkpoint: every stitch, shared work, a report.

    python tools/benchmark.py CONFIG CHECKPOINT --work-dir DIR

Interrupted or killed, the same command continues; DIR/pareto.partial.json can be read meanwhile.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from _run_args import build_runner, load_config, new_parser


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = new_parser(__doc__ or "")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("checkpoint", help="checkpoint file")
    parser.add_argument(
        "--stitches",
        nargs="+",
        default=["all"],
        help="ids, or words: all, anchors, middle, sl, ls, lsl, sls (default: all)",
    )
    parser.add_argument(
        "--best-of",
        nargs=2,
        metavar=("REPORT", "K"),
        help="only the K stitches of each budget group that an earlier pareto.json scores best",
    )
    parser.add_argument(
        "--latency",
        choices=("none", "frontier", "all"),
        default="none",
        help="which stitches to time on this machine (default: none)",
    )
    parser.add_argument("--chunk", type=int, default=50, help="images between savings (50)")
    parser.add_argument("--amp", action="store_true", help="mixed precision")
    return parser.parse_args(argv)


def best_of(report_path: str, count: str) -> list[int]:
    """Ids of the best stitches per budget group of an earlier report."""
    from mmsn.evaluation import LOWER_IS_BETTER, ParetoReport
    from mmsn.stitching import best_per_group, budget_groups, count_units, default_step

    report = ParetoReport.load(report_path)
    metric = report.default_metric()
    sign = -1 if metric in LOWER_IS_BETTER else 1
    macs = {r.id: r.macs for r in report.stitches}
    units = count_units(segment for result in report.stitches for segment in result.segments)
    groups = budget_groups(macs, default_step(macs, units))
    scores = {r.id: sign * r.metrics[metric] for r in report.stitches}
    return list(best_per_group(groups, scores, int(count)))


def set_test_loop(cfg: Any, args: argparse.Namespace) -> None:
    words = [int(word) if word.isdigit() else word for word in args.stitches]
    stitches = best_of(*args.best_of) if args.best_of else words
    cfg.load_from = args.checkpoint
    cfg.test_cfg = dict(
        type="mmsn.ParetoTestLoop",
        stitches=stitches,
        latency=args.latency,
        chunk=args.chunk,
        fp16=args.amp,
    )


def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    set_test_loop(cfg, args)
    runner = build_runner(cfg)
    runner.test()
    if runner.rank == 0:
        from report import main as write_report

        folder = Path(runner.work_dir)
        write_report([str(folder / "pareto.json"), "--out", str(folder)])


if __name__ == "__main__":
    main()
