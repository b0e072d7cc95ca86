"""Compare methods on the same anchors: tables with spread over seeds, and a picture per family.

    python tools/frontier.py docs/results/frontier --page docs/frontier.md --images docs/images

The folder holds reports named FAMILY_METHOD_SEED.json. The methods small and large are the anchors
trained alone; every other one is a curve.
"""

from __future__ import annotations

import argparse

from _run_args import run


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", help="folder of reports")
    parser.add_argument(
        "--page",
        default="frontier.md",
        help="Markdown file; one that exists keeps what is outside of the lines "
        "<!-- methods: begin --> and <!-- methods: end --> (default: %(default)s)",
    )
    parser.add_argument(
        "--images", default="images", help="folder of pictures (default: %(default)s)"
    )
    parser.add_argument("--metric", help="default: mIoU, else rmse, else the first metric")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    import mmsn  # noqa: F401  # first: it prepares what mmengine and mmseg import
    from mmsn.evaluation.methods_page import write_methods

    for path in write_methods(args.folder, args.page, args.images, args.metric):
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    run(main)
