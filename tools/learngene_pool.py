"""Distill one large anchor into a pool of smaller ones, and the matrices that join them.

    python tools/learngene_pool.py deit_base_patch16_224 --instances 6x192 6x768 \\
        --steps 500000 --images IMAGENET/train --out pool

Instances are given as DEPTHxWIDTH, smallest to largest. Each becomes a .safetensors file, an anchor
with its classifier; matrices.safetensors is for mmsn.MatrixInitHook. An instance of the ancestor's
own shape is the ancestor, without distillation. An interrupted command continues when it is
repeated. At the end, a table compares stitching layers that start from the matrices with those of
least squares.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _distilling import train, write_weights
from _run_args import Parser, add_device, add_image_size, natural, positive, prepare, run


def shape(text: str) -> tuple[int, int]:
    """``6x192`` as (6, 192)."""
    depth, cross, width = text.partition("x")
    if not (cross and depth.isdigit() and width.isdigit()):
        raise argparse.ArgumentTypeError(f"got {text!r}; give DEPTHxWIDTH, for example 6x192")
    return int(depth), int(width)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("model", help="timm name of the ancestor, a plain VisionTransformer")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the pool")
    parser.add_argument("--instances", nargs="+", type=shape, required=True, metavar="DEPTHxWIDTH")
    parser.add_argument("--images", nargs="+", required=True, metavar="SOURCE", help="folders")
    parser.add_argument("--steps", type=positive, required=True, help="of each instance")
    parser.add_argument("--checkpoint", metavar="FILE", help="ancestor's weights (default: timm's)")
    parser.add_argument("--num-classes", type=positive, default=1000, help="of the ancestor")
    parser.add_argument(
        "--positions",
        type=positive,
        default=3,
        help="where features are compared: 3 is the end of each third, 1 the last block alone",
    )
    parser.add_argument(
        "--alpha",
        type=float,
        default=0.1,
        help="share of the loss with labels, which are the names of folders; 0 needs none",
    )
    add_image_size(parser, "the ancestor's")
    parser.add_argument("--held-out", type=positive, default=128, help="images for the table")
    parser.add_argument("--batch-size", type=positive, default=256)
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--seed", type=natural, default=0)
    add_device(parser)
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    parser.add_argument("--workers", type=natural, default=0, help="processes that read images")
    parser.add_argument("--save-every", type=positive, default=200, metavar="STEPS")
    return parser.parse(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    prepare(args)
    from mmsn import shrink
    from mmsn.models.anchor_classifier import AnchorClassifier
    from mmsn.shrink import learngene, transposed
    from mmsn.shrink.images import LabeledImages

    settings = learngene.PoolSettings(
        steps=args.steps,
        batch_size=args.batch_size,
        lr=args.lr,
        weight_decay=args.weight_decay,
        seed=args.seed,
        bf16=args.bf16,
        alpha=args.alpha,
    )
    size = tuple(args.image_size or shrink.native_size(args.model))
    ancestor = shrink.load_parent(args.model, args.checkpoint, img_size=size)
    classifier = AnchorClassifier(ancestor, args.num_classes)
    classifier.init_weights(ancestor)
    files = shrink.find_images(args.images)
    kept, measured = shrink.held_out_split(files, args.held_out, args.seed)
    mean, std = shrink.normalization_of(ancestor.vit.pretrained_cfg)
    reading = (size, mean, std, args.seed)
    images = shrink.UnlabeledImages(kept, *reading)
    if settings.alpha:
        images = LabeledImages(kept, args.num_classes, *reading)

    out, pool, anchors = Path(args.out), [], []
    for number, (depth, width) in enumerate(args.instances):
        file = out / f"instance_{number}_{depth}x{width}.safetensors"
        if (depth, width) == (ancestor.depth, ancestor.dim):
            weights, none = learngene.ancestor_as_instance(ancestor, classifier)
            options = learngene.Instance(depth, width, 1).options(ancestor, {})
            anchors.append(dict(model_name=args.model, **options, checkpoint=str(file)))
            pool.append(none)
            write_weights(file, weights)
            continue
        distillation = learngene.InstanceDistillation(
            ancestor,
            classifier,
            learngene.Instance(depth, width, min(args.positions, depth, ancestor.depth)),
            settings,
            size,
            {},
            identity=dict(images=dict(sources=args.images, training=len(kept), size=list(size))),
            device=args.device,
        )
        state = file.with_name(f"{file.name}.state")
        if state.is_file():
            distillation.resume(state)
        if distillation.step < settings.steps:
            print(f"{file.name}: step {distillation.step} of {settings.steps}", flush=True)
            train(distillation, images, state, args)
            distillation.save(state)
        anchors.append(dict(model_name=args.model, **distillation.options, checkpoint=str(file)))
        pool.append(distillation.matrices)
        write_weights(file, distillation.state())
    matrices = transposed.named(pool)
    write_weights(out / "matrices.safetensors", matrices)
    for state in out.glob("instance_*.state"):  # all is written, so nothing is left to continue
        state.unlink()
    if len(anchors) > 1:
        # Drawn, because the first files would be those of the first source alone.
        count = min(2 * len(measured), len(kept) - 1)
        _, fitted = shrink.held_out_split(kept, count, args.seed)
        sets = [shrink.UnlabeledImages(files, size, mean, std) for files in (fitted, measured)]
        print(_table(anchors, matrices, size, *sets))
    print("as anchors:", anchors)


def _table(
    anchors: list[dict[str, Any]],
    matrices: dict[str, Any],
    size: tuple[int, int],
    fitted: Any,
    held_out: Any,
) -> str:
    from torch.utils.data import DataLoader

    from mmsn.engine import solve_stitching_layers
    from mmsn.models import StitchedViT
    from mmsn.shrink import transposed

    last = anchors[-1]["depth"] - 1
    backbone = StitchedViT(anchors, img_size=size, out_indices=(last,), rank=0).eval()
    backbone.init_weights()
    transposed.start_from_matrices(backbone, transposed.averaged(matrices, len(anchors)))
    before = transposed.affine_errors(backbone, DataLoader(held_out, 16))
    solve_stitching_layers(backbone, DataLoader(fitted, 16))
    after = transposed.affine_errors(backbone, DataLoader(held_out, 16))
    lines = [f"unexplained share of the target, {len(held_out)} held-out images"]
    lines.append("layer              matrices  least squares")
    lines += [
        f"{key.source} to {key.target} after {key.unit:<3} {before[key]:12.4f} {after[key]:14.4f}"
        for key in before
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
