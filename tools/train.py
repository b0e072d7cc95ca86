"""Train a segmentor: python tools/train.py CONFIG, or mim train mmsn CONFIG."""

from __future__ import annotations

import argparse
from typing import Any

from _run_args import build_runner, load_config, new_parser, run


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = new_parser("Train a segmentor.")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue the latest checkpoint in the work dir, or the config's load_from",
    )
    parser.add_argument(
        "--amp", action="store_true", help="automatic mixed precision (needs an accelerator)"
    )
    return parser.parse_args(argv)


def set_amp(cfg: Any) -> None:
    wrapper = cfg.get("optim_wrapper", {}).get("type")
    if wrapper == "AmpOptimWrapper":
        return
    if wrapper != "OptimWrapper":
        raise SystemExit(
            f"--amp needs optim_wrapper.type 'OptimWrapper' or 'AmpOptimWrapper' in the config, "
            f"not {wrapper!r}"
        )
    cfg.optim_wrapper.type = "AmpOptimWrapper"
    cfg.optim_wrapper.loss_scale = "dynamic"


def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    if args.amp:
        set_amp(cfg)
    if args.resume:
        cfg.resume = True
    build_runner(cfg).train()


if __name__ == "__main__":
    run(main)
