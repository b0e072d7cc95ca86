"""Serve a page with an image, a slider over the budget, and the curve.

pip install "mmsn[demo]"
mmsn gradio-demo CONFIG CHECKPOINT --report work_dirs/NAME/pareto.json
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from _run_args import Parser, add_device, add_model, add_report, prepare, run


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    add_model(parser)
    add_report(parser, "for the curve and the best stitches")
    add_device(parser)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; 0.0.0.0 lets other machines in (default: %(default)s)",
    )
    parser.add_argument("--port", type=int, default=7860, help="(default: %(default)s)")
    return parser.parse(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    prepare(args)
    from mmsn.errors import UserError

    try:
        import gradio  # noqa: F401  # only to know whether it is installed
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed: pip install 'mmsn[demo]'") from None
    from mmsn.deploy.gradio_page import build_page
    from mmsn.evaluation import ParetoReport
    from mmsn.models import open_segmentor

    report = ParetoReport.load(args.report) if args.report else None
    page = build_page(open_segmentor(args.config, args.checkpoint, args.device), report)
    page.launch(server_name=args.host, server_port=args.port)


if __name__ == "__main__":
    run(main)
