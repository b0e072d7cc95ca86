"""Run everything on built-in data: make a dataset, train two ViTs, stitch them, draw the curve.

    mmsn demo

Eight to nine minutes on one CPU core; a GPU is used where there is one. Interrupted, it continues
when it is called again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from _run_args import Parser, add_equal_compute, prepare, run

CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "shapes"


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument(
        "--work-dir", default="work_dirs/demo", help="folder for all results (default: %(default)s)"
    )
    add_equal_compute(parser)
    return parser.parse(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    prepare(args)
    from mmsn.datasets import generate_shapes
    from mmsn.recipe import Step, stitch_from_anchors

    data = Path(args.work_dir) / "data"
    print(f"making the dataset in {data}")
    generate_shapes(data)

    def step(name: str) -> Step:
        step = Step.from_file(CONFIGS / f"{name}_shapes-96x96.py")
        for split in ("train", "val", "test"):
            loader = step.config.get(f"{split}_dataloader")
            if loader:  # anchors are not validated
                loader.dataset.data_root = str(data)
        return step

    stitch_from_anchors(
        anchors=[step("vit-s_setr-light_1xb16-600"), step("vit-l_setr-light_1xb16-500")],
        stitched=step("snnetv2_vit-s-l-r8_setr-light_1xb16-600"),
        work_dir=args.work_dir,
        equal_compute=args.equal_compute,
    )


if __name__ == "__main__":
    run(main, continues=True)
