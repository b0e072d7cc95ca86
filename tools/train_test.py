"""Train a config to its end, or continue it, then evaluate the stitches that its test_cfg names.

    python tools/train_test.py configs/frontier/deit-ti-6-12_ours.py --seed 0 \
        --work-dir work_dirs/frontier/deit-ti-6-12_ours_0

What is finished is not done again: run the same command after an interruption. The report is
WORK_DIR/pareto.json.
"""

from __future__ import annotations

import argparse

from _run_args import Parser, add_model, add_run, load_config, run


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    add_model(parser, checkpoint=False)
    add_run(parser)
    parser.add_argument("--seed", type=int, help="of everything random (default: the config's)")
    return parser.parse(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    config = load_config(args)
    from pathlib import Path

    from mmsn.recipe import Step, train_and_test

    if args.seed is not None:
        config.randomness = dict(seed=args.seed)
        for hook in config.get("custom_hooks", ()):
            if hook["type"] in ("mmsn.StitchInitHook", "mmsn.FLOPsConstrainedSamplingHook"):
                hook["seed"] = args.seed
    train_and_test(Step(Path(args.config).stem, config), Path(config.work_dir))


if __name__ == "__main__":
    run(main, continues=True)
