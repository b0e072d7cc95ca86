"""Benchmark the whole Pareto curve of a checkpoint: every stitch, shared work, a report.

    mmsn benchmark CONFIG CHECKPOINT --work-dir DIR

Interrupted or killed, the same command continues; DIR/pareto.partial.json can be read meanwhile.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import Any

from _run_args import (
    Parser,
    add_model,
    add_run,
    add_stitch,
    build_runner,
    load_config,
    positive,
    run,
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    add_model(parser)
    add_run(parser)
    which = parser.add_mutually_exclusive_group()
    add_stitch(which, "benchmark only these stitches", default=["all"])
    which.add_argument(
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
    parser.add_argument(
        "--chunk", type=positive, default=50, help="images between savings (default: %(default)s)"
    )
    parser.add_argument("--amp", action="store_true", help="mixed precision")
    args = parser.parse(argv)
    if args.best_of and not (args.best_of[1].isascii() and args.best_of[1].isdigit()):
        parser.error(f"argument --best-of: K is {args.best_of[1]!r}; give a whole number from 1")
    return args


def best_of(report_path: str, count: int) -> list[int]:
    """Ids of the best stitches per budget group of an earlier report."""
    from mmsn.evaluation import ParetoReport, lower_is_better
    from mmsn.stitching import best_per_group, budget_groups, count_units, default_step

    report = ParetoReport.load(report_path)
    metric = report.default_metric()
    sign = -1 if lower_is_better(metric) else 1
    macs = {r.id: r.macs for r in report.stitches}
    units = count_units(segment for result in report.stitches for segment in result.segments)
    groups = budget_groups(macs, default_step(macs, units))
    scores = {r.id: sign * r.metrics[metric] for r in report.stitches}
    scores = {i: score for i, score in scores.items() if not math.isnan(score)}
    return list(best_per_group(groups, scores, count))


def set_test_loop(cfg: Any, args: argparse.Namespace) -> None:
    stitches = args.stitch
    if args.best_of:
        path, count = args.best_of
        stitches = best_of(path, int(count))
    cfg.load_from = args.checkpoint
    cfg.test_cfg = dict(
        type="mmsn.ParetoTestLoop",
        stitches=stitches,
        latency=args.latency,
        chunk=args.chunk,
        fp16=args.amp or (cfg.get("test_cfg") or {}).get("fp16", False),
    )


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    cfg = load_config(args)
    set_test_loop(cfg, args)
    runner = build_runner(cfg)
    runner.test()
    path = runner.test_loop.report_path
    if path is not None:
        from report import main as write_report

        return int(write_report([str(path), "--out", str(path.parent)]))
    return 0


if __name__ == "__main__":
    run(main, continues=True)
