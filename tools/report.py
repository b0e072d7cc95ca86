"""Draw one or several Pareto reports: PNG, SVG, a page that needs no network, and Markdown.

    mmsn report work_dirs/a/pareto.json work_dirs/b/pareto.json --out report

The published ADE20K curve is docs/results/published_ade20k_deit3-s-l.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from _run_args import Parser, prepare, run


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("reports", nargs="+", help="pareto.json files; several are overlaid")
    parser.add_argument("--out", default="report", help="folder to write (default: %(default)s)")
    parser.add_argument("--metric", help="default: mIoU, else rmse, else the first metric")
    parser.add_argument(
        "--axis",
        choices=("macs", "latency"),
        help="default: FLOPs, and where it was measured latency in pareto-latency.* as well",
    )
    parser.add_argument(
        "--alone",
        nargs=3,
        action="append",
        default=[],
        metavar=("NAME", "GFLOPS", "VALUE"),
        help="a network trained alone, drawn as a star; may be repeated",
    )
    parser.add_argument(
        "--interactive",
        action="store_true",
        help="a page whose picture zooms and pans, by plotly: 4.8 MB instead of about 100 kB",
    )
    args = parser.parse(argv)
    try:
        args.alone = {name: (float(gflops), float(value)) for name, gflops, value in args.alone}
    except ValueError as error:
        parser.error(f"argument --alone: {error}; give NAME and two numbers")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    prepare(args)
    from mmsn.errors import UserError
    from mmsn.evaluation import (
        ParetoReport,
        Reference,
        markdown_table,
        plot_pareto,
        text_table,
        write_page,
    )
    from mmsn.files import write_text

    reports = [ParetoReport.load(path) for path in args.reports]
    metric = args.metric or reports[0].default_metric()
    lacking = [r.title for r in reports if any(metric not in s.metrics for s in r.stitches)]
    if lacking:
        known = ", ".join(reports[0].stitches[0].metrics)
        raise UserError(f"metric {metric!r} is not in {', '.join(lacking)}: use one of {known}")
    timed = any(s.latency for report in reports for s in report.stitches)
    if args.axis == "latency" and not timed:
        raise UserError("no latency was measured: run mmsn benchmark with --latency")
    out = Path(args.out)
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {args.out} is a file: give a folder")
    out.mkdir(parents=True, exist_ok=True)
    axes = [args.axis] if args.axis else ["macs", "latency"] if timed else ["macs"]
    for axis in axes:
        name = "pareto-latency" if axis == "latency" else "pareto"
        for ending in ("png", "svg"):
            plot_pareto(reports, out / f"{name}.{ending}", metric, args.alone, axis=axis)
        write_page(reports, out / f"{name}.html", metric, axis, args.alone, args.interactive)
    reference = Reference.of(reports, metric)
    sections = [f"## {r.title}\n\n{markdown_table(r, reference)}" for r in reports]
    write_text(out / "pareto.md", "\n".join(sections))
    for what in ("image_size", "classes", "of_images"):
        if len({str(getattr(report, what)) for report in reports}) > 1:
            print(f"note: these runs differ in {what}, so their numbers do not compare")
    for report in reports:
        print(text_table(report, reference))
    print(f"wrote {', '.join(sorted(path.name for path in out.glob('pareto*.*')))} in {out}")
    return 0


if __name__ == "__main__":
    run(main)
