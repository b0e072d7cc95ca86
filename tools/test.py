"""Test a checkpoint: python tools/test.py CONFIG CHECKPOINT [--stitch all]."""

from __future__ import annotations

import argparse
from typing import Any

from _run_args import build_runner, load_config, new_parser


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = new_parser("Test a segmentor.")
    parser.add_argument("checkpoint", help="checkpoint file")
    parser.add_argument(
        "--stitch",
        nargs="+",
        metavar="ID",
        help="evaluate these stitches of a supernet, e.g. 0 25 1, or 'all'; without it the "
        "config's own test loop runs",
    )
    parser.add_argument(
        "--budget",
        nargs="+",
        help="evaluate the dearest stitch within each budget: 100G (FLOPs, that is "
        "multiply-accumulates of the whole segmentor for one crop), 30%% (of the dearest stitch's) "
        "or 40Mparams",
    )
    parser.add_argument("--out", help="folder for the predictions")
    parser.add_argument("--show", action="store_true", help="show predictions in a window")
    parser.add_argument("--show-dir", help="folder for painted predictions")
    parser.add_argument(
        "--wait-time", type=float, default=2, help="seconds to show each prediction (default: 2)"
    )
    parser.add_argument("--tta", action="store_true", help="test-time augmentation")
    args = parser.parse_args(argv)
    try:
        args.stitch = parse_stitches(args.stitch)
    except ValueError as error:
        parser.error(str(error))
    return args


def parse_stitches(words: list[str] | None) -> str | list[int] | None:
    """``['0', '25']`` to ``[0, 25]``; ``['all']`` to ``'all'``; ``None`` stays."""
    if words is None:
        return None
    if words == ["all"]:
        return "all"
    if not all(word.isascii() and word.isdigit() for word in words):
        raise ValueError(
            f"argument --stitch: got {' '.join(words)!r}; give ids (0 25 1) or the one word all"
        )
    return [int(word) for word in words]


def set_visualization(cfg: Any, show: bool, show_dir: str | None, wait_time: float) -> None:
    hook = cfg.get("default_hooks", {}).get("visualization")
    if hook is None:
        raise SystemExit(
            "--show and --show-dir need default_hooks.visualization in the config, e.g. "
            "dict(type='SegVisualizationHook')"
        )
    hook.draw = True
    if show:
        hook.show = True
        hook.wait_time = wait_time
    if show_dir:
        cfg.visualizer.save_dir = show_dir


def set_tta(cfg: Any) -> None:
    for key in ("tta_pipeline", "tta_model"):
        if key not in cfg:
            raise SystemExit(f"--tta needs {key} in the config")
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    cfg.tta_model.module = cfg.model
    cfg.model = cfg.tta_model


def set_output(cfg: Any, out: str) -> None:
    evaluators = cfg.test_evaluator
    for evaluator in evaluators if isinstance(evaluators, list | tuple) else [evaluators]:
        evaluator.output_dir = out
        evaluator.keep_results = True


def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    cfg.load_from = args.checkpoint
    if args.show or args.show_dir:
        set_visualization(cfg, args.show, args.show_dir, args.wait_time)
    if args.tta:
        set_tta(cfg)
    if args.out is not None:
        set_output(cfg, args.out)
    if args.stitch is not None or args.budget is not None:
        cfg.test_cfg = dict(
            type="mmsn.ParetoTestLoop", stitches=args.stitch or [], budgets=args.budget or []
        )
    from mmsn.deploy import BudgetError

    try:
        build_runner(cfg).test()
    except BudgetError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
