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
from collections.abc import Callable

import _speed_ddp
import _speed_evaluation
import _speed_inference
import _speed_start
import _speed_training
from _run_args import run


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("row", choices=sorted(ROWS), metavar="ROW", help="one of those above")
    parser.add_argument("config", nargs="?", help="config file with a StitchedViT backbone")
    parser.add_argument(
        "--image-size", type=int, nargs=2, metavar=("H", "W"), help="default: the config's"
    )
    parser.add_argument(
        "--label-size", type=int, nargs=2, metavar=("H", "W"), help="default: --image-size"
    )
    parser.add_argument("--batch-size", type=int, default=1, help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    parser.add_argument(
        "--stitches", type=int, nargs="+", metavar="ID", help="default: as the row wants"
    )
    parser.add_argument("--quick", action="store_true", help="one round, smaller images")
    parser.add_argument("--tokens", type=int, default=5000, help="least-squares (%(default)s)")
    parser.add_argument("--device", help="such as cpu or cuda:1; default: a GPU if there is one")
    args = parser.parse_args(argv)
    if args.row not in ("least-squares", "import") and args.config is None:
        parser.error(f"{args.row} needs a CONFIG")
    if args.quick:
        args.rounds = 1
    if args.rounds < 1:
        parser.error(f"--rounds {args.rounds} is not allowed: give 1 or more")
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


def main() -> None:
    args = parse_args()
    ROWS[args.row](args)


if __name__ == "__main__":
    run(main)
