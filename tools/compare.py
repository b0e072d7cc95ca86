"""Compare exported files with PyTorch in float32: metric on the test data, and latency.

    mmsn compare DIR/config.py DIR/model.safetensors model.onnx model-int8.onnx

All are timed in interleaved order in one run, on one image of random pixels.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from _run_args import Parser, add_image_size, add_model, positive, prepare, run


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    add_model(parser)
    parser.add_argument("files", nargs="+", help="what export wrote for one image size")
    add_image_size(parser, "the sliding window, or the training crop")
    parser.add_argument("--images", type=positive, help="stop after so many (default: all)")
    parser.add_argument(
        "--repeats", type=positive, default=20, help="timed passes (default: %(default)s)"
    )
    return parser.parse(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    prepare(args)
    from mmsn.deploy import compare, open_exported, open_stitch
    from mmsn.deploy.exporting import Logits, crop_size

    exported = {path: open_exported(path) for path in args.files}
    model = open_stitch(args.config, args.checkpoint)
    size = tuple(args.image_size) if args.image_size else crop_size(model.cfg)
    variants = {"PyTorch float32": Logits(model, size)} | exported
    results = compare(model.cfg, model, variants, size, args.images, args.repeats)
    first = results["PyTorch float32"]
    for name, result in results.items():
        path = Path(args.checkpoint) if result is first else Path(name)
        metrics = ", ".join(f"{key} {value:.2f}" for key, value in result.metrics.items())
        ratio = first.latency.p50_ms / result.latency.p50_ms
        print(
            f"{name}: {path.stat().st_size / 1e6:.4g} MB, {metrics}, median "
            f"{result.latency.p50_ms:.4g} ms, p90 {result.latency.p90_ms:.4g} ms, {ratio:.2f}x as "
            "fast"
        )


if __name__ == "__main__":
    run(main)
