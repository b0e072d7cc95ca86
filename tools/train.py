"""Train a segmentor: python tools/train.py CONFIG, or mim train mmsn CONFIG."""

from __future__ import annotations

import argparse
from typing import Any

from _run_args import build_runner, load_config, new_parser


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = new_parser("Train a segmentor.")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="PATH",
        help="continue the checkpoint PATH; without PATH, or with 'auto', the latest one in the "
        "work dir, if there is one",
    )
    parser.add_argument(
        "--amp", action="store_true", help="automatic mixed precision (needs an accelerator)"
    )
    return parser.parse_args(argv)


def set_resume(cfg: Any, resume: str | None) -> None:
    """``None`` keeps what the config says; 'auto' with an empty work dir starts from the start."""
    if resume is None:
        return
    if resume == "auto":
        from mmengine.runner import find_latest_checkpoint

        latest = find_latest_checkpoint(cfg.work_dir)
        cfg.resume = latest is not None
        # a load_from of the config counts only where there is nothing to continue
        cfg.load_from = latest or cfg.get("load_from")
    else:
        cfg.resume = True
        cfg.load_from = resume


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
    set_resume(cfg, args.resume)
    build_runner(cfg).train()


if __name__ == "__main__":
    main()
