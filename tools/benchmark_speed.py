"""Measure one row of docs/performance.md.

    python tools/benchmark_speed.py evaluation CONFIG --image-size 192 256 --label-size 480 640

Rows:
  blocks         forward and training step of stitches against their bare blocks
  anchors        anchors against timm's own models
  sharing        the backbone, stitches one by one against shared beginnings
  evaluation     the whole evaluation of all stitches: mmseg, one by one, against the loops of mmsn
  heads          what neck and head compute per level, and their time with and without sharing it
  training       several stitches in one training step against a pass for each
  memory         what a training step holds, by stitch and batch
  checkpointing  recomputing blocks in the backward pass against keeping activations
  frozen         a training step with frozen anchors against one that trains everything
  unused         the optimizer's step without and with gradients of parts that a stitch leaves out
  ddp            two processes: finding unused parameters, or reducing those of the drawn stitch
  least-squares  the streaming solver against a pseudo-inverse of all tokens
  flops          FLOPs of all stitches in closed form
  costs          from a shell to the first answer of ``mmsn costs``
  switch         switching to another stitch
  import         importing mmseg against importing mmseg and mmsn
  bf16           float32 against bfloat16

Weights are random and images are noise, which changes neither cost nor equality, except that the
labels of a trained network leave more classes to skip. All ways run in turn, after a round that
warms up; medians and quartiles over rounds, beside the time of the process and its children. It
runs on a GPU where there is one, unless --device says otherwise; OMP_NUM_THREADS sets the threads
of a CPU. --quick takes one round, for ``evaluation`` only one stitch to warm up, and half the sides
of the config's images unless --image-size is given; what it prints says so.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import _speed_ddp
import _speed_evaluation
import _speed_inference
import _speed_start
import _speed_training
from _run_args import Parser, add_device, add_image_size, add_stitch, positive, prepare, run


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("row", choices=sorted(ROWS), metavar="ROW", help="one of those above")
    parser.add_argument("config", nargs="?", help="config file with a StitchedViT backbone")
    add_image_size(parser, "the config's")
    parser.add_argument(
        "--label-size",
        type=positive,
        nargs=2,
        metavar=("H", "W"),
        help="of the labels (default: --image-size)",
    )
    parser.add_argument(
        "--batch-size", type=positive, default=1, help="images per pass (default: %(default)s)"
    )
    parser.add_argument(
        "--rounds", type=positive, default=5, help="of measurement (default: %(default)s)"
    )
    add_stitch(parser, "which to run (default: the row's own choice)")
    parser.add_argument("--quick", action="store_true", help="one round, smaller images")
    parser.add_argument(
        "--tokens", type=positive, default=5000, help="for least-squares (default: %(default)s)"
    )
    add_device(parser)
    args = parser.parse(argv)
    if args.row not in ("least-squares", "import") and args.config is None:
        parser.error(f"{args.row} needs a CONFIG")
    if args.quick:
        args.rounds = 1
    return args


ROWS: dict[str, Callable[[argparse.Namespace], None]] = {
    "anchors": _speed_inference.anchors,
    "bf16": _speed_inference.bf16,
    "blocks": _speed_inference.blocks,
    "checkpointing": _speed_training.checkpointing,
    "costs": _speed_start.costs,
    "ddp": _speed_ddp.ddp,
    "evaluation": _speed_evaluation.evaluation,
    "flops": _speed_start.flops,
    "frozen": _speed_training.frozen,
    "heads": _speed_evaluation.heads,
    "import": _speed_start.imports,
    "least-squares": _speed_training.least_squares,
    "memory": _speed_training.memory,
    "sharing": _speed_inference.sharing,
    "switch": _speed_start.switch,
    "training": _speed_training.training,
    "unused": _speed_training.unused,
}


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    prepare(args)
    ROWS[args.row](args)


if __name__ == "__main__":
    run(main)
