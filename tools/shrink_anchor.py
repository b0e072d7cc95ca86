"""Make a smaller anchor out of a larger one: fewer blocks, a smaller width, or both.

    python tools/shrink_anchor.py MODEL --depth 6 --distill-steps 1500 --images FOLDER --out FILE

MODEL is a timm name. FILE (.safetensors) loads as an anchor with the options that are printed at
the end. An interrupted command continues when it is repeated. Without --distill-steps the child
is only cut, and images are not needed.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _distilling import train, write_weights
from _run_args import Parser, add_device, add_image_size, natural, positive, prepare, run

if TYPE_CHECKING:
    from mmsn.shrink import UnitError


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("model", help="timm name of the parent, a plain VisionTransformer")
    parser.add_argument("--out", required=True, metavar="FILE", help=".safetensors to write")
    parent = parser.add_argument_group("parent")
    parent.add_argument("--checkpoint", metavar="FILE", help="its weights (default: timm's)")
    parent.add_argument(
        "--prefix", default="", help="of the checkpoint's keys, e.g. backbone.anchors.0."
    )
    parent.add_argument(
        "--timm-options",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="with which timm builds the parent, e.g. patch_size=14",
    )
    parent.add_argument(
        "--parent-size",
        nargs=2,
        type=positive,
        metavar=("H", "W"),
        help="image size for which position embeddings are stored (default: the model's own)",
    )
    child = parser.add_argument_group("child")
    child.add_argument("--depth", type=positive, help="blocks; must divide the parent's")
    child.add_argument(
        "--blocks",
        help="the parent's blocks it starts from: first, every (the first of each unit) or "
        "numbers such as 0,2,5 (default: every if it is distilled, first if it is only cut)",
    )
    child.add_argument("--width", type=positive, help="channels of a token")
    child.add_argument(
        "--heads", type=positive, help="of attention (default: width / the parent's head width)"
    )
    child.add_argument(
        "--start",
        default="parent",
        metavar="WORD",
        help="first weights: parent, narrowed along principal directions (default); random; or a "
        "file, for example a child made before the parent was fine-tuned",
    )
    distill = parser.add_argument_group("distillation")
    distill.add_argument("--distill-steps", type=int, default=0, metavar="N")
    distill.add_argument(
        "--images",
        nargs="+",
        default=[],
        metavar="SOURCE",
        help="folders, searched through, or text files with one path per line",
    )
    add_image_size(distill, "the parent's")
    distill.add_argument(
        "--held-out", type=positive, default=128, metavar="N", help="images to measure"
    )
    distill.add_argument("--batch-size", type=positive, default=16)
    distill.add_argument("--lr", type=float, default=1e-3)
    distill.add_argument("--weight-decay", type=float, default=0.0)
    distill.add_argument(
        "--linear-maps",
        action="store_true",
        help="compare tokens of equal width through trained linear maps, too",
    )
    distill.add_argument("--seed", type=natural, default=0)
    add_device(distill)
    distill.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    distill.add_argument("--workers", type=natural, default=0, help="processes that read images")
    distill.add_argument(
        "--calibration",
        type=positive,
        default=128,
        metavar="N",
        help="images for scales and first maps",
    )
    distill.add_argument("--save-every", type=positive, default=200, metavar="STEPS")
    return parser.parse(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    prepare(args)
    import json

    from mmsn import shrink
    from mmsn.errors import UserError

    out = Path(args.out)
    if out.suffix != ".safetensors":
        raise UserError(f"--out {args.out!r} must end in .safetensors")
    settings = shrink.DistillSettings(
        steps=args.distill_steps,
        batch_size=args.batch_size,
        lr=args.lr,
        weight_decay=args.weight_decay,
        seed=args.seed,
        bf16=args.bf16,
        linear_maps=args.linear_maps,
    )
    if settings.steps and not args.images:
        raise UserError(f"--distill-steps {settings.steps} needs --images")
    options = _timm_options(args.timm_options)
    img_size = args.parent_size or shrink.native_size(args.model, **options)
    parent = shrink.load_parent(args.model, args.checkpoint, args.prefix, img_size, **options)
    blocks = _blocks(args.blocks or ("every" if settings.steps else "first"))
    parent = parent.to(args.device)
    plan = shrink.plan_child(parent, args.depth, blocks, args.width, args.heads)
    options = shrink.child_options(plan, options)

    size = tuple(args.image_size or img_size)
    files = shrink.find_images(args.images)
    images = held_out = calibration = None
    if files:
        kept, measured = shrink.held_out_split(files, args.held_out, args.seed)
        mean, std = shrink.normalization_of(parent.vit.pretrained_cfg)
        images = shrink.UnlabeledImages(kept, size, mean, std, args.seed)
        held_out = shrink.UnlabeledImages(measured, size, mean, std)
        calibration = images.batch(range(args.calibration))
    child, _ = shrink.start_child(parent, plan, img_size, options, args.start, calibration)

    record: dict[str, Any] = dict(
        parent=dict(
            model_name=args.model,
            checkpoint=args.checkpoint,
            prefix=args.prefix,
            fingerprint=shrink.fingerprint(parent),
        ),
        anchor=dict(model_name=args.model, img_size=list(img_size), **options),
        blocks=list(plan.blocks),
        start=args.start,
        distillation=asdict(settings),
        images=dict(sources=args.images, training=0, held_out=0, size=list(size)),
        units=[],
    )
    state_file = out.with_name(out.name + ".state")
    if images is not None and held_out is not None and calibration is not None:
        record["images"].update(training=len(images), held_out=len(held_out))
        distillation = shrink.Distillation(
            parent,
            child,
            plan,
            settings,
            calibration,
            identity=dict(start=args.start, images=record["images"]),
            device=args.device,
        )
        if state_file.is_file():
            distillation.resume(state_file)
            print(f"{state_file}: continues after step {distillation.step} of {settings.steps}")
        train(distillation, images, state_file, args, "unexplained")
        units = shrink.measure(parent, child, plan, held_out, distillation.maps.maps)
        record["units"] = [asdict(unit) for unit in units]
        print(_table(units, len(held_out)))
    state = child.vit.state_dict()
    write_weights(out, state, shrink=json.dumps(record))
    state_file.unlink(missing_ok=True)
    count = sum(value.numel() for value in state.values())
    print(f"{out}: {count / 1e6:.4g} M parameters, from blocks {record['blocks']} of {args.model}")
    print("as an anchor:", dict(record["anchor"], checkpoint=str(out)))


def _table(units: list[UnitError], images: int) -> str:
    from io import StringIO

    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"unexplained variance, {images} held-out images")
    for name in ("parent's blocks", "as distilled", "least squares"):
        table.add_column(name, justify="right")
    for unit in units:
        table.add_row(
            f"{unit.start} to {unit.stop - 1}", f"{unit.mapped:.4f}", f"{unit.linear:.4f}"
        )
    text = StringIO()
    Console(file=text, width=100).print(table)
    return text.getvalue()


def _timm_options(words: list[str]) -> dict[str, Any]:
    from mmsn.errors import UserError

    options = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"--timm-options {word}: give KEY=VALUE, without spaces")
        try:
            options[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[key] = value  # a plain word
    return options


def _blocks(text: str) -> str | list[int]:
    """``0,2,5`` as numbers; any other word is left to the library."""
    words = text.split(",")
    return [int(word) for word in words] if all(word.strip().isdigit() for word in words) else text


if __name__ == "__main__":
    run(main, continues=True)
