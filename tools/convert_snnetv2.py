"""Convert a published SN-Netv2 segmentation checkpoint into one for this package.

    mmsn convert-snnetv2 OFFICIAL.pth CONVERTED.pth --config configs/published/NAME.py

Every key is reported: mapped, derived or dropped, and why. An unknown key stops the conversion.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from _run_args import Parser, prepare, run


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("source", help="the published .pth file")
    parser.add_argument("target", help="the .pth or .safetensors file to write")
    parser.add_argument(
        "--config", help="check that every key fits this config's model, and save its classes"
    )
    parser.add_argument(
        "--quiet", action="store_true", help="print only the number of keys per action"
    )
    return parser.parse(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    prepare(args)
    from mmsn.checkpoint import convert_snnetv2
    from mmsn.models.opening import build, check_weights, dataset_meta, read_config
    from mmsn.state_dict import read_state_dict, write_checkpoint

    converted, reports = convert_snnetv2(read_state_dict(args.source))
    meta = {}
    if args.config:
        config = read_config(args.config)
        check_weights(build(config, "meta"), converted, auxiliary=True)
        meta = dataset_meta(config)
    if not args.quiet:
        for report in reports:
            arrow = f" -> {report.target}" if report.target else ""
            why = f" ({report.reason})" if report.reason else ""
            print(f"{report.action}: {report.source}{arrow}{why}")
    write_checkpoint(Path(args.target), converted, meta)
    counts = Counter(report.action for report in reports)
    print(f"{args.target}: " + ", ".join(f"{n} {action}" for action, n in counts.items()))


if __name__ == "__main__":
    run(main)
