"""Draw one or several Pareto reports: PNG, SVG, a page that needs no network, and Markdown.

    python tools/report.py work_dirs/a/pareto.json work_dirs/b/pareto.json --out report

The published ADE20K curve is docs/results/published_ade20k_deit3-s-l.json.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("reports", nargs="+", help="pareto.json files; several are overlaid")
    parser.add_argument("--out", default="report", help="folder to write (%(default)s)")
    parser.add_argument("--metric", help="by default mIoU, else rmse, else the first metric")
    parser.add_argument(
        "--axis",
        choices=("macs", "latency"),
        help="by default FLOPs, and where it was measured latency in pareto-latency.* as well",
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
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    import mmsn  # noqa: F401  # first: it prepares what mmengine and mmseg import
    from mmsn.evaluation import (
        ParetoReport,
        Reference,
        markdown_table,
        plot_pareto,
        text_table,
        write_page,
    )

    try:
        reports = [ParetoReport.load(path) for path in args.reports]
        metric = args.metric or reports[0].default_metric()
        alone = {name: (float(gflops), float(value)) for name, gflops, value in args.alone}
        lacking = [r.title for r in reports if any(metric not in s.metrics for s in r.stitches)]
        if lacking:
            raise ValueError(f"metric {metric!r} is not in {', '.join(lacking)}")
        timed = any(s.latency for report in reports for s in report.stitches)
        if args.axis == "latency" and not timed:
            raise ValueError("no latency was measured: run tools/benchmark.py with --latency")
        out = Path(args.out)
        out.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    axes = [args.axis] if args.axis else ["macs", "latency"] if timed else ["macs"]
    for axis in axes:
        name = "pareto-latency" if axis == "latency" else "pareto"
        for ending in ("png", "svg"):
            plot_pareto(reports, out / f"{name}.{ending}", metric, alone, axis=axis)
        write_page(reports, out / f"{name}.html", metric, axis, alone, args.interactive)
    reference = Reference.of(reports, metric)
    sections = [f"## {r.title}\n\n{markdown_table(r, reference)}" for r in reports]
    (out / "pareto.md").write_text("\n".join(sections))
    for what in ("image_size", "classes", "of_images"):
        if len({str(getattr(report, what)) for report in reports}) > 1:
            print(f"note: these runs differ in {what}, so their numbers do not compare")
    for report in reports:
        print(text_table(report, reference))
    print(f"wrote {', '.join(sorted(path.name for path in out.glob('pareto*.*')))} in {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
