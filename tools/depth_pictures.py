"""Draw image, ground truth, predicted depth and error side by side, a file per test image.

mmsn depth-pictures CONFIG CHECKPOINT --stitch 0 25 1 --images 4
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _run_args import (
    Parser,
    add_budget,
    add_device,
    add_model,
    add_run,
    add_stitch,
    load_config,
    positive,
    prepare,
    run,
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    add_model(parser)
    add_run(parser)
    add_stitch(parser, "a row for each stitch (default: anchors, unless there is a budget)")
    add_budget(parser, "a row for the most expensive stitch within each budget")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--indices", nargs="+", type=int, help="of the test dataset, from 0 on")
    which.add_argument(
        "--images",
        type=positive,
        default=4,
        help="number of images, evenly spread over the test dataset (default: %(default)s)",
    )
    parser.add_argument("--out", help="folder (default: depth_pictures in the work_dir)")
    add_device(parser)
    return parser.parse(argv)


def choose_images(size: int, indices: list[int] | None, images: int) -> list[int]:
    """Indices of the images to draw."""
    from mmsn.errors import UserError

    if indices is None:
        images = min(images, size)
        return [(2 * k + 1) * size // (2 * images) for k in range(images)]
    wrong = [index for index in indices if not 0 <= index < size]
    if wrong:
        raise UserError(f"--indices {wrong[0]}: give indices of the test dataset, 0 to {size - 1}")
    return indices


def depth_metric(cfg: Any) -> Any:
    """The ``mmsn.DepthMetric`` of a config."""
    from mmengine.evaluator import Evaluator

    from mmsn.errors import UserError
    from mmsn.evaluation import DepthMetric

    for metric in Evaluator(cfg.test_evaluator).metrics:
        if isinstance(metric, DepthMetric):
            return metric
    raise UserError(f"{cfg.filename} has no mmsn.DepthMetric in test_evaluator; add it")


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    prepare(args)
    cfg = load_config(args)
    from mmengine.registry import DATASETS, init_default_scope
    from rich.progress import track

    from mmsn.deploy import StitchMenu
    from mmsn.evaluation.depth_pictures import save_depth_pictures
    from mmsn.models import build, open_segmentor

    menu = StitchMenu(build(cfg, "meta"))
    stitches = list(menu.resolve(args.stitch or ([] if args.budget else ["anchors"])))
    stitches += [menu.select(budget).stitch.id for budget in args.budget or []]
    init_default_scope(cfg.get("default_scope", "mmseg"))
    metric = depth_metric(cfg)
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    indices = choose_images(len(dataset), args.indices, args.images)
    model = open_segmentor(cfg, args.checkpoint, args.device)
    folder = args.out or Path(cfg.work_dir) / "depth_pictures"
    for index in track(indices, "drawing"):
        (path,) = save_depth_pictures(model, dataset, [index], stitches, metric, folder)
        print(path)


if __name__ == "__main__":
    run(main)
