"""Measure how much time the backbone saves when stitches share their beginnings.

    python tools/measure_sharing.py CONFIG --image-size 224 224

Every stitch runs on the same random images twice, alone and with its beginning shared. Weights are
random, which changes neither cost nor equality.
"""

from __future__ import annotations

import argparse
import contextvars
import statistics
import time
from typing import Any

from _run_args import run


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config file with a StitchedViT backbone")
    parser.add_argument(
        "--image-size", type=int, nargs=2, metavar=("H", "W"), help="default: the config's"
    )
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    return parser.parse_args(argv)


def build_backbone(path: str) -> Any:
    import mmsn  # noqa: F401, I001  # first: it prepares what mmengine and mmseg import
    import torch
    from mmengine.config import Config

    from mmsn.registry import MODELS

    spec = Config.fromfile(path).model.backbone
    for anchor in spec.anchors:
        anchor.pretrained, anchor.checkpoint = False, None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return MODELS.build(spec).to(device).eval()


def main() -> None:
    args = parse_args()
    backbone = build_backbone(args.config)

    import torch
    from rich.progress import track

    from mmsn.stitching.trie import Trie

    device = next(backbone.parameters()).device
    size = tuple(args.image_size or backbone.img_size)
    image = torch.randn(args.batch_size, 3, *size, device=device)
    trie = Trie(backbone.space, backbone.space.ids, backbone.out_indices, backbone.eval_levels)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(
        f"{len(trie.order)} stitches, {args.batch_size} x {size[0]}x{size[1]}, {name}, "
        f"{torch.get_num_threads()} threads; at most {trie.kept()} states kept"
    )

    def timed_pass(stitch: int) -> tuple[float, list[Any]]:
        with torch.inference_mode(), backbone.use_stitch(stitch):
            _wait(device)
            start = time.perf_counter()
            levels = backbone(image)
            _wait(device)
        seconds = time.perf_counter() - start
        # a level may be the pair of its map and the class token
        return seconds, [x[0] if isinstance(x, tuple) else x for x in levels if x is not None]

    ratios = []
    for number in range(args.rounds + 1):  # the first one warms up
        alone = shared = difference = 0.0
        with backbone.share_prefixes(trie.order) as order:
            for stitch in track(order, f"round {number}", transient=True):
                # In turn, so that whatever else the machine does slows both alike. Sharing holds
                # for one context: in a new one the stitch runs alone.
                seconds, expected = contextvars.Context().run(timed_pass, stitch)
                alone += seconds
                seconds, levels = timed_pass(stitch)
                shared += seconds
                for a, b in zip(expected, levels, strict=True):
                    difference = max(difference, (a - b).abs().max().item())
        if number:
            ratios.append(alone / shared)
            print(
                f"alone {alone:.2f} s, shared {shared:.2f} s, ratio {ratios[-1]:.2f}, "
                f"largest difference {difference:g}"
            )
    print(f"median ratio {statistics.median(ratios):.2f}")


def _wait(device: Any) -> None:
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


if __name__ == "__main__":
    run(main)
