"""Train a config to its end, or continue it, then evaluate the stitches that its test_cfg names.

    mmsn train-test configs/frontier/deit-ti-6-12_ours.py --seed 0 \
        --work-dir work_dirs/frontier/deit-ti-6-12_ours_0

What is finished is not done again: run the same command after an interruption. The report is
WORK_DIR/pareto.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _run_args import Parser, add_model, add_run, load_config, natural, prepare, run

SEEDED_HOOKS = ("mmsn.StitchInitHook", "mmsn.FLOPsConstrainedSamplingHook")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    add_model(parser, checkpoint=False)
    add_run(parser)
    parser.add_argument("--seed", type=natural, help="of everything random (default: the config's)")
    return parser.parse(argv)


def set_seed(cfg: Any, seed: int) -> None:
    """Seed the Runner, and the hooks that draw from seeds of their own."""
    cfg.randomness = dict(cfg.get("randomness", {}), seed=seed)
    for hook in cfg.get("custom_hooks", ()):
        if hook["type"] in SEEDED_HOOKS:
            hook["seed"] = seed


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    prepare(args)
    from mmsn.recipe import Step, train_and_test

    cfg = load_config(args)
    if args.seed is not None:
        set_seed(cfg, args.seed)
    train_and_test(Step(Path(args.config).stem, cfg), Path(cfg.work_dir))


if __name__ == "__main__":
    run(main, continues=True)
