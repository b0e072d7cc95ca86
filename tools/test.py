"""Test a checkpoint: by the config's own test loop, or the stitches or budgets that are named.

mmsn test CONFIG CHECKPOINT --stitch anchors 25
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from _run_args import (
    Parser,
    add_budget,
    add_model,
    add_run,
    add_stitch,
    build_runner,
    load_config,
    prepare,
    run,
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    add_model(parser)
    add_run(parser)
    add_stitch(parser, "evaluate these stitches")
    add_budget(parser, "evaluate the most expensive stitch within each budget")
    parser.add_argument("--out", help="folder for the predictions")
    parser.add_argument("--show", action="store_true", help="show predictions in a window")
    parser.add_argument("--show-dir", help="folder for painted predictions")
    parser.add_argument(
        "--wait-time", type=float, default=2, help="seconds to show each prediction (default: 2)"
    )
    parser.add_argument("--tta", action="store_true", help="test-time augmentation")
    return parser.parse(argv)


def set_visualization(cfg: Any, show: bool, show_dir: str | None, wait_time: float) -> None:
    hook = cfg.get("default_hooks", {}).get("visualization")
    if hook is None:
        raise _user_error(
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
        if not cfg.get(key):  # None: a base's pipeline that does not apply
            raise _user_error(f"--tta needs {key} in the config: add it")
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    cfg.tta_model.module = cfg.model
    cfg.model = cfg.tta_model


def set_output(cfg: Any, out: str) -> None:
    evaluators = cfg.test_evaluator
    evaluators = evaluators if isinstance(evaluators, list | tuple) else [evaluators]
    writers = [evaluator for evaluator in evaluators if evaluator.type != "mmsn.DepthMetric"]
    if not writers:
        raise _user_error(
            "--out writes label maps, but this config predicts depth alone: "
            "tools/depth_pictures.py shows that"
        )
    for evaluator in writers:
        evaluator.output_dir = out
        evaluator.keep_results = True


def _user_error(message: str) -> Exception:
    from mmsn.errors import UserError

    return UserError(message)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    prepare(args)
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
            type="mmsn.ParetoTestLoop",
            stitches=args.stitch or [],
            budgets=[str(budget) for budget in args.budget or []],  # a config holds plain data
        )
    build_runner(cfg).test()


if __name__ == "__main__":
    run(main)
