"""Write a segmentor as one file that runs without mmsn: ONNX, or PyTorch's torch.export.

    mmsn export CONFIG CHECKPOINT --stitch 25 --out model.onnx
    mmsn export DIR/config.py DIR/model.safetensors --out model.pt2

The file takes normalized images (B, 3, H, W) of one size, any number of them, and gives logits
(B, classes, H, W). It is compared with PyTorch before this ends. Beside an .onnx file, predict.py
is written, which needs NumPy, Pillow and ONNX Runtime alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from _run_args import Parser, add_image_size, add_model, add_stitch, prepare, run


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    add_model(parser)
    add_stitch(parser, "which stitch of a supernet", several=False)
    parser.add_argument("--out", required=True, metavar="FILE", help="a name in .onnx or .pt2")
    add_image_size(parser, "the sliding window, or the training crop")
    parser.add_argument(
        "--dynamic-size",
        action="store_true",
        help="images of any size from 64x64 on, where the head allows it",
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "float16", "bfloat16", "int8"),
        default="float32",
        help="of weights and computation; int8 is for .onnx (default: %(default)s)",
    )
    parser.add_argument(
        "--calibration",
        metavar="FOLDER",
        help="images that fix the scales of int8 activations, up to 64 of them; without it, each "
        "activation is scaled as it comes",
    )
    return parser.parse(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    prepare(args)
    import torch

    from mmsn.deploy import calibration_windows, export, open_exported, open_stitch
    from mmsn.deploy.exporting import check_request, crop_size
    from mmsn.errors import UserError

    check_request(Path(args.out), args.precision)
    if args.dynamic_size and args.image_size:
        raise UserError("--dynamic-size and --image-size exclude each other: give one")
    if args.calibration and args.precision != "int8":
        raise UserError(
            f"--calibration is for --precision int8, not {args.precision}: leave it out"
        )
    model = open_stitch(args.config, args.checkpoint, args.stitch)
    size = tuple(args.image_size) if args.image_size else crop_size(model.cfg)
    file_size = None if args.dynamic_size else size
    windows = None
    if args.calibration:
        windows = calibration_windows(model, args.calibration, file_size)
    path = export(model, args.out, file_size, args.precision, windows)
    image = torch.randn(1, 3, *size)
    with torch.no_grad():
        meta = [dict(img_shape=image.shape[2:])]
        expected, got = model.encode_decode(image, meta), open_exported(path)(image)
    difference, largest = (got - expected).abs().max(), expected.abs().max()
    sizes = "any size" if args.dynamic_size else f"{size[0]}x{size[1]}"
    print(
        f"{path}: {path.stat().st_size / 1e6:.4g} MB for images of {sizes}; largest "
        f"difference from PyTorch in float32 {difference:.2g}, of logits up to {largest:.3g}"
    )


if __name__ == "__main__":
    run(main)
