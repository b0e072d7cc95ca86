"""Convert a published SN-Netv2 segmentation checkpoint into one for this package.

    python tools/convert_snnetv2.py OFFICIAL.pth CONVERTED.pth --config configs/published/NAME.py

Every key is reported: mapped, derived or dropped, and why. An unknown key stops the conversion.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="the published .pth file")
    parser.add_argument("target", help="the .pth file to write")
    parser.add_argument(
        "--config", help="build this config's model and check that it takes every key"
    )
    parser.add_argument("--quiet", action="store_true", help="print only how many keys of each")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    import mmsn  # noqa: F401, I001  # first: it prepares what mmengine and mmseg import
    import torch
    from mmengine.config import Config
    from mmengine.model.utils import revert_sync_batchnorm
    from mmengine.registry import MODELS, init_default_scope

    from mmsn.checkpoint import convert_snnetv2, read_state_dict

    try:
        converted, reports = convert_snnetv2(read_state_dict(args.source))
        if args.config:
            config = Config.fromfile(args.config)
            init_default_scope(config.default_scope)
            model = revert_sync_batchnorm(MODELS.build(config.model))
            model.load_state_dict(converted, strict=True)
    except (OSError, ValueError, RuntimeError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    if not args.quiet:
        for report in reports:
            arrow = f" -> {report.target}" if report.target else ""
            why = f" ({report.reason})" if report.reason else ""
            print(f"{report.action}: {report.source}{arrow}{why}")
    torch.save({"state_dict": converted, "meta": {}}, args.target)
    counts = Counter(report.action for report in reports)
    print(f"{args.target}: " + ", ".join(f"{n} {action}" for action, n in counts.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
