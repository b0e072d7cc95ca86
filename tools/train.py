"""Train a segmentor.

mmsn train CONFIG
mim train mmsn CONFIG
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from _run_args import Parser, add_model, add_run, build_runner, load_config, run


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    add_model(parser, checkpoint=False)
    add_run(parser)
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue from the latest checkpoint in the work dir, or from the config's load_from",
    )
    parser.add_argument(
        "--amp", action="store_true", help="automatic mixed precision (needs an accelerator)"
    )
    return parser.parse(argv)


def set_amp(cfg: Any) -> None:
    wrapper = cfg.get("optim_wrapper", {}).get("type")
    if wrapper == "AmpOptimWrapper":
        return
    if wrapper != "OptimWrapper":
        from mmsn.errors import UserError

        raise UserError(
            f"--amp needs optim_wrapper.type 'OptimWrapper' or 'AmpOptimWrapper' in the config, "
            f"not {wrapper!r}"
        )
    cfg.optim_wrapper.type = "AmpOptimWrapper"
    cfg.optim_wrapper.loss_scale = "dynamic"


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    cfg = load_config(args)
    if args.amp:
        set_amp(cfg)
    if args.resume:
        cfg.resume = True
    build_runner(cfg, training=True).train()


if __name__ == "__main__":
    run(main)
