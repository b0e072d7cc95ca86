"""Measure how much time the backbone saves when stitches share their beginnings.

    python tools/measure_sharing.py CONFIG --image-size 224 224

Every stitch runs on the same random images twice, alone and with its beginning shared, in turn;
weights are random, which changes neither cost nor equality.
"""

from __future__ import annotations

import argparse
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

    from mmsn.stitching.trie import Trie

    device = next(backbone.parameters()).device
    size = tuple(args.image_size or backbone.img_size)
    image = torch.randn(args.batch_size, 3, *size, device=device)
    trie = Trie(backbone.space, backbone.space.ids, backbone.out_indices, backbone.eval_levels)

    def sweep() -> tuple[float, dict[int, Any]]:
        outputs = {}
        _wait(device)
        start = time.perf_counter()
        for stitch in trie.order:
            with backbone.use_stitch(stitch):
                outputs[stitch] = [level for level in backbone(image) if level is not None]
        _wait(device)
        return time.perf_counter() - start, outputs

    print(
        f"{len(trie.order)} stitches, {args.batch_size} x {size[0]}x{size[1]}, "
        f"{torch.cuda.get_device_name() if device.type == 'cuda' else 'CPU'}, "
        f"{torch.get_num_threads()} threads; at most {trie.kept()} states kept",
        flush=True,
    )
    ratios = []
    with torch.inference_mode():
        with backbone.use_stitch(trie.order[0]):
            backbone(image)  # the first pass is slow
        for _ in range(args.rounds):
            apart, expected = sweep()
            with backbone.share_prefixes(trie.order):
                shared, outputs = sweep()
            difference = max(
                (_tensor(a) - _tensor(b)).abs().max().item()
                for i in trie.order
                for a, b in zip(expected[i], outputs[i], strict=True)
            )
            ratios.append(apart / shared)
            print(
                f"alone {apart:.2f} s, shared {shared:.2f} s, ratio {ratios[-1]:.2f}, "
                f"largest difference {difference:g}",
                flush=True,
            )
    print(f"median ratio {statistics.median(ratios):.2f}")


def _tensor(level: Any) -> Any:
    return level[0] if isinstance(level, tuple) else level


def _wait(device: Any) -> None:
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


if __name__ == "__main__":
    run(main)
