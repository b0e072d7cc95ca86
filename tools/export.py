"""Write a segmentor as one file that runs without mmsn: ONNX, or PyTorch's torch.export.

    python tools/export.py CONFIG CHECKPOINT --stitch 25 --out model.onnx
    python tools/export.py DIR/config.py DIR/model.safetensors --out model.pt2

The file takes normalized images (B, 3, H, W) of one size, any number of them, and gives logits
(B, classes, H, W). It is compared with PyTorch before this ends.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config file of a supernet or an extraction")
    parser.add_argument("checkpoint", help="its weights: .pth or .safetensors")
    parser.add_argument("--stitch", type=int, metavar="ID", help="which, of a supernet")
    parser.add_argument("--out", required=True, metavar="FILE", help="a name in .onnx or .pt2")
    parser.add_argument(
        "--image-size",
        nargs=2,
        type=int,
        metavar=("H", "W"),
        help="of the images to come (default: the sliding window, or the training crop)",
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "float16", "bfloat16", "int8"),
        default="float32",
        help="of weights and work; int8 is dynamic quantization, for .onnx (default: float32)",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    import mmsn  # noqa: F401, I001  # first: it prepares what mmengine and mmseg import
    import torch

    from mmsn.deploy import export, load_stitch, open_exported
    from mmsn.deploy.exporting import check_request, crop_size

    try:
        check_request(Path(args.out), args.precision)
        config, model = load_stitch(args.config, args.checkpoint, args.stitch)
        size = tuple(args.image_size) if args.image_size else crop_size(config)
        path = export(model, args.out, size, args.precision)
    except (OSError, ValueError, LookupError, ImportError) as error:
        raise SystemExit(f"error: {error}") from None
    image = torch.randn(1, 3, *size)
    with torch.no_grad():
        meta = [dict(img_shape=image.shape[2:])]
        expected, got = model.encode_decode(image, meta), open_exported(path)(image)
    difference, largest = (got - expected).abs().max(), expected.abs().max()
    print(
        f"{path}: {path.stat().st_size / 1e6:.4g} MB for images of {size[0]}x{size[1]}; largest "
        f"difference from PyTorch in float32 {difference:.2g}, of logits up to {largest:.3g}"
    )


if __name__ == "__main__":
    main()
