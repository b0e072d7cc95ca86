"""Compare exported files with PyTorch in float32: metric on the test data, and latency.

    python tools/compare.py DIR/config.py DIR/model.safetensors model.onnx model-int8.onnx

All are timed in turns in one run, on one image of random pixels.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config file of an extraction")
    parser.add_argument("checkpoint", help="its weights: .pth or .safetensors")
    parser.add_argument("files", nargs="+", help="what tools/export.py wrote for one image size")
    parser.add_argument("--image-size", nargs=2, type=int, metavar=("H", "W"), help="that size")
    parser.add_argument("--images", type=int, help="stop after so many (default: all)")
    parser.add_argument("--repeats", type=int, default=20, help="timed passes (default: 20)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    import mmsn  # noqa: F401, I001  # first: it prepares what mmengine and mmseg import

    from mmsn.deploy import compare, load_stitch, open_exported
    from mmsn.deploy.exporting import Logits, crop_size

    try:
        config, model = load_stitch(args.config, args.checkpoint)
        size = tuple(args.image_size) if args.image_size else crop_size(config)
        variants = {"PyTorch float32": Logits(model, size)}
        variants |= {path: open_exported(path) for path in args.files}
        results = compare(config, model, variants, size, args.images, args.repeats)
    except (OSError, ValueError, LookupError, ImportError) as error:
        raise SystemExit(f"error: {error}") from None
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
    main()
