"""Compare methods on the same anchors: tables with spread over seeds, and a picture per family.

    mmsn frontier docs/results/frontier --page docs/frontier.md --images docs/images

The folder holds reports named FAMILY_METHOD_SEED.json. The methods small and large are the anchors
trained alone, and such as small-half the same trained in another way; every other one is a curve.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from _run_args import Parser, prepare, run


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("folder", help="folder of reports")
    parser.add_argument(
        "--page",
        default="frontier.md",
        help="Markdown file to write; in one that exists, only what is between the lines "
        "<!-- methods: begin --> and <!-- methods: end --> changes (default: %(default)s)",
    )
    parser.add_argument(
        "--images", default="images", help="folder of pictures (default: %(default)s)"
    )
    parser.add_argument("--metric", help="default: mIoU, else rmse, else the first metric")
    return parser.parse(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    prepare(args)
    from mmsn.evaluation.methods_page import write_methods

    for path in write_methods(args.folder, args.page, args.images, args.metric):
        print(f"wrote {path}")


if __name__ == "__main__":
    run(main)
