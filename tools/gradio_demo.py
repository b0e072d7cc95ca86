"""Serve a page with an image, a slider over the budget, and the curve.

pip install "mmsn[demo]"
python tools/gradio_demo.py CONFIG CHECKPOINT --report work_dirs/NAME/pareto.json
"""

from __future__ import annotations

import argparse


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config file")
    parser.add_argument("checkpoint", help="checkpoint file")
    parser.add_argument("--report", help="its pareto.json, for the curve and the best stitches")
    parser.add_argument("--device", help="default: cuda where there is one, else cpu")
    parser.add_argument("--port", type=int, default=7860, help="on this machine (%(default)s)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    import mmsn  # noqa: F401, I001  # first: it prepares what mmseg imports
    import torch

    try:
        from mmsn.deploy.gradio_page import build_page
        from mmsn.deploy.infer import open_model
    except ModuleNotFoundError as error:
        raise SystemExit(f"{error.name} is not installed: pip install 'mmsn[demo]'") from None
    from mmsn.evaluation import ParetoReport

    try:
        report = ParetoReport.load(args.report) if args.report else None
        device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
        page = build_page(open_model(args.config, args.checkpoint, device), report)
    except (LookupError, OSError, ValueError) as error:
        raise SystemExit(" ".join(str(error).split())) from None
    page.launch(server_name="127.0.0.1", server_port=args.port)


if __name__ == "__main__":
    main()
