"""Estimate hours and memory of trainings and benchmarks on GPUs: the tables of docs/scale.md.

    mmsn scale                  # hours, checked against those that SN-Netv2 published
    mmsn scale --devices 8         # hours on this many GPUs

Every count is made from shapes. Two constants are fitted to two published rows, and all other rows
are predicted from them. Left out: time to read images where storage is slow, and evaluation during
training.
"""

from __future__ import annotations

import argparse
import copy
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _run_args import Parser, positive, prepare, run
from _speed import table

CONFIGS = Path(__file__).resolve().parents[1] / "configs/setr"
PAIRS = {
    "S+L": CONFIGS / "snnetv2_deit3-s-l-r16_setr-naive_8xb2-160k_ade20k-512x512.py",
    "B+L": CONFIGS / "snnetv2_deit3-b-l-r4_setr-naive_8xb2-160k_ade20k-512x512.py",
}
# A100 hours of SN-Netv2's table of training costs, on ADE20K and COCO-Stuff-10K.
PUBLISHED = {"S": (75, 40), "B": (90, 48), "L": (174, 90), "S+L": (120, 60), "B+L": (140, 80)}
IMAGES = 160_000 * 16, 80_000 * 16  # of both trainings
BATCH = 2  # images per GPU
VALIDATION = 2000  # images of ADE20K
ANCHORS = {"S": ("S+L", 0), "B": ("B+L", 0), "L": ("S+L", 1)}


def train_macs(model: Any, size: tuple[int, int]) -> float:
    """Multiply-accumulates of one image's forward pass, on average over what is drawn."""
    from mmsn.models import segmentor_macs, training_macs
    from mmsn.stitching import budget_groups, default_step

    macs, space = training_macs(model, size), model.backbone.space
    if len(space) == 1:
        return float(next(iter(macs.values())))
    of_inference = segmentor_macs(model, size)
    groups = budget_groups(of_inference, default_step(of_inference, space.ladder))
    # Groups are drawn uniformly, then members of a group.
    return sum(sum(macs[i] for i in group) / len(group) for group in groups) / len(groups)


def networks() -> dict[str, Any]:
    """Supernets, and anchors alone with heads of their width, all without weights."""
    from mmsn.models import build, read_config

    configs = {pair: read_config(path) for pair, path in PAIRS.items()}
    found = {}
    for name, (pair, index) in ANCHORS.items():
        config = copy.deepcopy(configs[pair])
        supernet = build(configs[pair], "meta").backbone
        anchor, backbone = supernet.anchor(index), config.model.backbone
        backbone.anchors = [backbone.anchors[index]]
        ratio = supernet.anchor(1).depth // anchor.depth
        backbone.out_indices = tuple(block // ratio for block in backbone.out_indices)
        for head in (config.model.decode_head, *config.model.auxiliary_head):
            head.in_channels = anchor.dim
        found[name] = build(config, "meta")
    return found | {pair: build(config, "meta") for pair, config in configs.items()}


def step_macs(macs: float) -> float:
    """Forward and backward, of an image whose forward pass costs ``macs``."""
    from mmsn.models.complexity import STEP_PASSES

    return STEP_PASSES * macs


def hours(macs: float, images: int, macs_per_second: float, seconds_per_image: float) -> float:
    """GPU hours: what is computed, and what every image takes beside it."""
    return images * (step_macs(macs) / macs_per_second + seconds_per_image) / 3600


def fit(nets: dict[str, Any]) -> tuple[float, float]:
    """MACs per second and seconds per image of one GPU, from S and L alone on ADE20K."""
    small, large = (train_macs(nets[name], (512, 512)) for name in "SL")
    (t_small, _), (t_large, _) = PUBLISHED["S"], PUBLISHED["L"]
    rate = IMAGES[0] * step_macs(large - small) / ((t_large - t_small) * 3600)
    return rate, t_small * 3600 / IMAGES[0] - step_macs(small) / rate


def check(nets: dict[str, Any]) -> None:
    """Published hours against both models."""
    rate, fixed = fit(nets)
    macs = {name: train_macs(net, (512, 512)) for name, net in nets.items()}
    one = IMAGES[0] * step_macs(macs["L"]) / (PUBLISHED["L"][0] * 3600)
    print(f"one constant, from L on ADE20K: {one / 1e12:.2f} T MACs/s per GPU")
    both = f"{rate / 1e12:.2f} T MACs/s and {1e3 * fixed:.0f} ms per image"
    print(f"two constants, from S and L on ADE20K: {both}")
    rows = []
    for data, images in zip(("ADE20K", "COCO-Stuff-10K"), IMAGES, strict=True):
        for name, net_macs in macs.items():
            told = PUBLISHED[name][IMAGES.index(images)]
            guesses = hours(net_macs, images, one, 0), hours(net_macs, images, rate, fixed)
            columns = [f"{guess:.0f} ({guess / told - 1:+.0%})" for guess in guesses]
            rows.append([data, name, f"{net_macs / 1e9:.0f}", str(told), *columns])
    titles = ["data", "network", "G MACs a forward pass", "published, h", "one constant, h"]
    print(table([*titles, "two constants, h"], rows))


def trainings(nets: dict[str, Any], gpus: int) -> None:
    """ADE20K's 160k iterations on some GPUs, at two crops."""
    rate, fixed = fit(nets)
    rows = []
    for pair in PAIRS:
        for side in (512, 1024):
            size = (side, side)
            tokens = nets[pair].backbone.costs.anchors[0].tokens(size)
            joint = train_macs(nets[pair], size)
            alone = [train_macs(nets[name], size) for name in pair.split("+")]
            spans = [hours(macs, IMAGES[0], rate, fixed) / gpus for macs in (joint, sum(alone))]
            spans[1] += IMAGES[0] * fixed / 3600 / gpus  # two trainings read their images
            computing = step_macs(joint) / rate
            compute = computing / (computing + fixed)
            columns = [f"{x:.0f}" for x in (tokens, joint / 1e9, sum(alone) / 1e9, *spans)]
            shares = [f"{x:.0%}" for x in (1 - spans[0] / spans[1], compute)]
            rows.append([pair, str(side), *columns, *shares])
    titles = ["pair", "crop", "tokens", "supernet, G MACs", "both anchors, G MACs"]
    titles += [f"supernet, h on {gpus} GPUs", "anchors one by one, h", "spared"]
    print(table([*titles, "share of MACs in its time"], rows))


def memory(nets: dict[str, Any]) -> None:
    """What a training step of the largest anchor holds on each GPU, in float32."""
    rows = []
    for pair in PAIRS:
        model = nets[pair]
        params = sum(p.numel() for p in model.parameters())
        backbone = model.backbone
        large = len(backbone.anchors) - 1
        used = backbone.stitch_params(backbone.train_levels)[large]
        used += params - sum(p.numel() for p in backbone.parameters())
        per_token, per_pixel = block_bytes_per_token(pair), head_bytes(pair)
        values = per_token / 4 / backbone.anchor(large).dim
        print(
            f"{pair}: a block keeps {values:.1f} values per token and channel, heads and losses "
            f"{per_pixel:.0f} bytes per pixel"
        )
        for side in (512, 1024):
            tokens = backbone.costs.anchors[large].tokens((side, side))
            blocks = BATCH * tokens * per_token * backbone.anchor(large).depth
            heads = BATCH * per_pixel * side * side
            # Parameters, gradients of the drawn stitch, momentum of all, buckets of DDP.
            fixed = 4 * (params + used + params + params)
            parts = [f"{x / 1e9:.1f}" for x in (fixed, blocks, heads, fixed + blocks + heads)]
            rows.append([pair, str(side), f"{params / 1e6:.0f}", *parts])
    titles = ["pair", "crop", "M parameters", "weights, gradients, momentum, buckets, GB"]
    print()
    print(table([*titles, "blocks, GB", "heads and losses, GB", "sum, GB"], rows))


def _saved_bytes(function: Any, parameters: Any) -> int:
    """Bytes that autograd keeps when a function runs."""
    from _speed_training import kept

    with kept(parameters) as storages:
        function()
    return sum(storages.values())


def block_bytes_per_token(pair: str) -> float:
    """What one block of the large anchor keeps for the backward pass, measured with two sizes."""
    import torch

    from mmsn.models import read_config
    from mmsn.models.anchor import Anchor

    spec = dict(read_config(PAIRS[pair]).model.backbone.anchors[1])
    spec |= dict(pretrained=False, depth=1, drop_path_rate=0.0)
    anchor = Anchor(img_size=(64, 64), **spec).train()
    counts = []
    for tokens in (128, 256):
        x = torch.randn(1, tokens, anchor.dim, requires_grad=True)
        counts.append(_saved_bytes(lambda x=x: anchor.run(x, 0, 1, (1, 1)), anchor))
    return (counts[1] - counts[0]) / 128


def head_bytes(pair: str) -> float:
    """What heads and losses keep per pixel of an image, measured with two sizes."""
    import torch
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    from mmsn.models import build, read_config

    config = read_config(PAIRS[pair])
    width = config.model.decode_head.in_channels
    for anchor in config.model.backbone.anchors:  # only the heads run
        anchor.update(pretrained=False, depth=1, embed_dim=24, num_heads=2)
    config.model.backbone.out_indices = (0,)
    config.model.backbone.eval_levels = (0,)
    model = build(config).train()
    counts = []
    for side in (64, 128):
        levels = [torch.randn(2, width, side // 16, side // 16, requires_grad=True)] * 4
        labels = torch.zeros(1, side, side, dtype=torch.long)
        samples = [SegDataSample(gt_sem_seg=PixelData(data=labels)) for _ in range(2)]

        def heads(levels: list[Any] = levels, samples: list[Any] = samples) -> None:
            losses = model._decode_head_forward_train(levels, samples)
            losses |= model._auxiliary_head_forward_train(levels, samples)
            model.parse_losses(losses)

        counts.append(_saved_bytes(heads, model) / 2)
    return (counts[1] - counts[0]) / (128**2 - 64**2)


def benchmarks(nets: dict[str, Any], gpus: int) -> None:
    """All stitches on the validation images of ADE20K, MACs of the backbone alone."""
    from _speed_inference import executed_macs

    rate, _ = fit(nets)
    rows = []
    for pair in PAIRS:
        backbone = nets[pair].backbone
        trie = backbone.trie(backbone.space.ids)
        for side in (512, 1024):
            size = (side, side)
            alone = sum(backbone.stitch_macs(size).values())
            shared = executed_macs(backbone, trie, size)
            # A 3:4 image whose short side is the crop, in windows with a stride of two thirds.
            crops = 1 + math.ceil((side * 4 // 3 - side) / (side * 2 // 3))
            spans = [VALIDATION * crops * macs / rate / 3600 / gpus for macs in (alone, shared)]
            columns = [f"{macs / 1e12:.2f}" for macs in (alone, shared)]
            columns += [f"{alone / shared:.2f}", str(crops), *(f"{span:.2f}" for span in spans)]
            rows.append([pair, str(side), str(len(trie.order)), *columns])
    titles = ["pair", "crop", "stitches", "one by one, T MACs", "shared, T MACs", "ratio", "crops"]
    print(table([*titles, f"one by one, h on {gpus} GPUs", "shared, h"], rows))


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--devices", type=positive, default=8, help="(default: %(default)s)")
    return parser.parse(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    warnings.filterwarnings("ignore", category=UserWarning)  # mmseg's, about what is not used here
    prepare(args)
    nets = networks()
    print("Training hours that were published, A100 hours\n")
    check(nets)
    print(f"\nTraining on {args.devices} GPUs, 160k iterations of 16 images\n")
    trainings(nets, args.devices)
    print(f"\nMemory of a training step, {BATCH} images per GPU, float32\n")
    memory(nets)
    print(f"\nBenchmark of all stitches, {VALIDATION} images, backbone\n")
    benchmarks(nets, args.devices)


if __name__ == "__main__":
    run(main)
