"""Draw image, ground truth, predicted depth and error side by side, a file per test image.

python tools/depth_pictures.py CONFIG CHECKPOINT --stitch 0 25 1 --images 4
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from _run_args import load_config, new_parser, run


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = new_parser(__doc__ or "")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("checkpoint", help="checkpoint file")
    parser.add_argument(
        "--stitch",
        nargs="+",
        default=[],
        help="ids, or words: all, anchors, middle, sl, ls, lsl, sls; a row for each "
        "(default: anchors, unless there is a budget)",
    )
    parser.add_argument(
        "--budget",
        nargs="+",
        default=[],
        help="the dearest stitch within each: 100G (FLOPs, that is multiply-accumulates), 30%% (of "
        "the dearest stitch's) or 40Mparams",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--indices", nargs="+", type=int, help="of the test dataset, from 0 on")
    which.add_argument(
        "--images", type=int, default=4, help="so many, evenly spread over the test dataset (4)"
    )
    parser.add_argument("--out", help="folder (default: depth_pictures in the work_dir)")
    parser.add_argument("--device", default="cpu", help="for example cuda:0 (%(default)s)")
    return parser.parse_args(argv)


def choose_images(size: int, indices: list[int] | None, images: int) -> list[int]:
    """Indices of the images to draw."""
    if indices is None:
        if images < 1:
            raise SystemExit(f"error: --images {images}: give 1 or more")
        images = min(images, size)
        return [(2 * k + 1) * size // (2 * images) for k in range(images)]
    wrong = [index for index in indices if not 0 <= index < size]
    if wrong:
        raise SystemExit(f"error: --indices {wrong[0]}: the test dataset has 0 to {size - 1}")
    return indices


def depth_metric(cfg: Any) -> Any:
    """The ``mmsn.DepthMetric`` of a config."""
    from mmengine.evaluator import Evaluator

    from mmsn.evaluation import DepthMetric

    for metric in Evaluator(cfg.test_evaluator).metrics:
        if isinstance(metric, DepthMetric):
            return metric
    raise SystemExit(f"error: {cfg.filename} has no mmsn.DepthMetric in test_evaluator; add it")


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    cfg = load_config(args)
    from mmengine.registry import DATASETS, init_default_scope
    from mmseg.apis import init_model
    from rich.progress import track

    from mmsn.deploy import StitchMenu
    from mmsn.evaluation.depth_pictures import save_depth_pictures
    from mmsn.stitching import resolve

    if not Path(args.checkpoint).is_file():
        raise FileNotFoundError(f"{args.checkpoint} does not exist; give a checkpoint file")
    init_default_scope(cfg.get("default_scope", "mmseg"))
    metric = depth_metric(cfg)
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    indices = choose_images(len(dataset), args.indices, args.images)
    model = init_model(cfg, args.checkpoint, device=args.device)
    menu = StitchMenu(model)
    words = [int(word) if word.isdigit() else word for word in args.stitch]
    words = words or ([] if args.budget else ["anchors"])
    stitches = [*resolve(menu.backbone.space, menu.macs, words)]
    stitches += [menu.select(budget).stitch.id for budget in args.budget]
    folder = args.out or Path(cfg.work_dir) / "depth_pictures"
    for index in track(indices, "drawing"):
        (path,) = save_depth_pictures(model, dataset, [index], stitches, metric, folder)
        print(path)


if __name__ == "__main__":
    run(main)
