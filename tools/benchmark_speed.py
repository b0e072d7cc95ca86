"""Measure one row of docs/performance.md.

    python tools/benchmark_speed.py evaluation CONFIG --image-size 192 256 --label-size 480 640

Rows:
  blocks         forward and training step of stitches against their bare blocks
  anchors        anchors against timm's own models
  sharing        the backbone, stitches one by one against shared beginnings
  evaluation     the whole evaluation of all stitches: mmseg, one by one, against the loops of mmsn
  heads          what neck and head compute per level, and how many stitches have a level in common
  least-squares  the streaming solver against a pseudo-inverse of all tokens
  flops          FLOPs of all stitches in closed form
  switch         switching to another stitch
  import         importing mmseg against importing mmseg and mmsn
  bf16           float32 against bfloat16
  memory         memory that a training step keeps for the backward pass

Weights are random and images are noise, which changes neither cost nor equality, except that the
labels of a trained network leave more classes to skip. All ways run in turn, after a round that
warms up; medians and quartiles over rounds, beside the time of the process alone. It runs on a GPU
where there is one, unless --device says otherwise; OMP_NUM_THREADS sets the threads of a CPU.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from _run_args import run
from _speed import Parts, Times, interleave, machine, ratio, table

TIMES = ["", "median, ms", "quartiles, ms", "process, ms"]


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
    parser.add_argument("--tokens", type=int, default=5000, help="least-squares (%(default)s)")
    parser.add_argument("--device", help="such as cpu or cuda:1; default: a GPU if there is one")
    args = parser.parse_args(argv)
    if args.row not in ("least-squares", "import") and args.config is None:
        parser.error(f"{args.row} needs a CONFIG")
    if args.rounds < 1:
        parser.error(f"--rounds {args.rounds} is not allowed: give 1 or more")
    return args


class Setting:
    """The model of a config with random weights, and random inputs."""

    def __init__(self, args: argparse.Namespace) -> None:
        import mmsn  # noqa: F401, I001  # first: it prepares what mmengine and mmseg import
        import torch
        from mmengine.config import Config
        from mmengine.registry import DefaultScope

        from mmsn.models import stitched_backbone
        from mmsn.registry import MODELS

        self.args = args
        self.device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
        spec = Config.fromfile(args.config).model
        for anchor in spec.backbone.anchors:
            anchor.pretrained, anchor.checkpoint = False, None
        with DefaultScope.overwrite_default_scope("mmseg"):
            model = MODELS.build(spec if "type" in spec else spec.backbone)
        # SyncBN runs on a GPU alone and is the same as BN in evaluation.
        from mmengine.model import revert_sync_batchnorm

        self.model = revert_sync_batchnorm(model).to(self.device).eval()
        self.backbone = stitched_backbone(self.model)
        self.size = tuple(args.image_size or self.backbone.img_size)
        self.image = torch.randn(args.batch_size, 3, *self.size, device=self.device)

    def ids(self, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """Those asked for; else the default, or all."""
        return tuple(self.args.stitches or default or self.backbone.space.ids)

    def header(self) -> str:
        size = f"{self.args.batch_size} x {self.size[0]}x{self.size[1]}"
        return f"{self.args.config}, {size}, {machine(self.device)}, {self.args.rounds} rounds"

    def compare(self, ways: dict[str, Callable[[], Any]]) -> dict[str, Times]:
        """Time the ways, print a table, and the ratio of the first to each of the others."""
        times = interleave(ways, self.args.rounds, self.device)
        report(times)
        return times


def report(times: dict[str, Times]) -> None:
    print(table(TIMES, [t.row(name) for name, t in times.items()]))
    first, *others = times
    for other in others:
        print(f"{first} / {other}: {ratio(times[first], times[other])}")


def blocks(args: argparse.Namespace) -> None:
    """A stitch against its blocks and stitching layers in a plain loop."""
    import torch

    from mmsn.errors import UserError
    from mmsn.stitching.space import Join, Run

    at = Setting(args)
    backbone, image = at.backbone, at.image
    print(at.header())
    for stitch in at.ids(backbone.space.ids[: len(backbone.anchors)]):
        which = backbone.space[stitch]
        route = backbone.space.route(which, backbone.out_indices, backbone.train_levels)
        layers = []
        for step in route:
            if isinstance(step, Run):
                anchor = backbone.anchor(step.anchor)
                if anchor.rel_pos is not None or getattr(anchor.vit, "rope", None) is not None:
                    raise UserError(
                        f"blocks of {anchor.model_name} read positions, so a plain loop over them "
                        "is no comparison: choose anchors without relative or rotary positions"
                    )
                layers += list(backbone.anchor(step.anchor).vit.blocks[step.start : step.stop])
            elif isinstance(step, Join):
                layers.append(backbone.layer(step.key))

        def bare(first: int = which.segments[0].anchor, layers: list[Any] = layers) -> Any:
            tokens = backbone.anchor(first).embed(image)[0]
            for layer in layers:
                tokens = layer(tokens)
            return tokens

        def whole(stitch: int = stitch) -> Any:
            with backbone.use_stitch(stitch):
                level = backbone(image)[-1]
            return level[0] if isinstance(level, tuple) else level

        def step(forward: Callable[[], Any]) -> None:
            forward().square().mean().backward()
            backbone.zero_grad()

        print(f"\nstitch {stitch}, forward")
        backbone.eval()
        with torch.inference_mode():
            at.compare({"stitch": whole, "bare blocks": bare})
        print(f"\nstitch {stitch}, training step without an optimizer")
        backbone.train()
        at.compare({"stitch": lambda: step(whole), "bare blocks": lambda: step(bare)})  # noqa: B023
    backbone.eval()


def anchors(args: argparse.Namespace) -> None:
    """Anchors against timm models with the same options and weights."""
    import timm
    import torch

    at = Setting(args)
    print(at.header())
    for index in range(len(at.backbone.anchors)):
        anchor = at.backbone.anchor(index)
        other = timm.create_model(anchor.model_name, **anchor.timm_options).to(at.device).eval()

        def ours(anchor: Any = anchor) -> Any:
            tokens, grid = anchor.embed(at.image)
            return anchor.run(tokens, 0, anchor.depth, grid)

        def theirs(vit: Any = other) -> Any:
            return vit.forward_intermediates(
                at.image, indices=[len(vit.blocks) - 1], norm=False, intermediates_only=True
            )

        print(f"\n{anchor.model_name}, forward")
        with torch.inference_mode():
            at.compare({"anchor": ours, "timm": theirs})


def sharing(args: argparse.Namespace) -> None:
    """All stitches of the backbone, alone and shared, with the largest difference."""
    import torch

    at = Setting(args)
    backbone, image = at.backbone, at.image
    trie = backbone.trie(at.ids())
    print(f"{at.header()}: {len(trie.order)} stitches, at most {trie.kept()} states kept")

    def alone() -> list[Any]:
        outputs = []
        for stitch in trie.order:
            with backbone.use_stitch(stitch):
                outputs.append(_maps(backbone(image)))
        return outputs

    def shared() -> list[Any]:
        outputs, passes = [], backbone.share_prefixes(trie)
        for stitch in trie.order:
            with backbone.use_stitch(stitch, passes):
                outputs.append(_maps(backbone(image)))
        return outputs

    with torch.inference_mode():
        at.compare({"alone": alone, "shared": shared})
        pairs = [p for a, b in zip(alone(), shared(), strict=True) for p in zip(a, b, strict=True)]
        print(f"largest difference {max((a - b).abs().max().item() for a, b in pairs):g}")


def _maps(levels: Any) -> list[Any]:
    """Without unread levels and class tokens."""
    return [x[0] if isinstance(x, tuple) else x for x in levels if x is not None]


def evaluation(args: argparse.Namespace) -> None:
    """From preprocessed images to IoU areas: mmseg stitch by stitch, and the loops of mmsn."""
    import torch
    from mmengine.structures import PixelData
    from mmseg.evaluation import IoUMetric
    from mmseg.structures import SegDataSample

    from mmsn.engine.loops import StitchEvaluators, StitchLoop
    from mmsn.evaluation.iou import BatchLabels
    from mmsn.models.image_logits import ImageLogits

    at = Setting(args)
    model, backbone, ids = at.model, at.backbone, at.ids()
    label_size = tuple(args.label_size or at.size)
    classes = model.decode_head.num_classes
    batch: dict[str, list[Any]] = dict(inputs=[], data_samples=[])
    for _ in range(args.batch_size):
        meta = dict(img_shape=at.size, pad_shape=at.size, ori_shape=label_size)
        labels = torch.randint(0, classes, (1, *label_size), dtype=torch.uint8)
        batch["inputs"].append(torch.randint(0, 256, (3, *at.size), dtype=torch.uint8))
        batch["data_samples"].append(
            SegDataSample(metainfo=meta, gt_sem_seg=PixelData(data=labels))
        )

    def metric() -> Any:
        made = IoUMetric()
        made.dataset_meta = dict(classes=[str(i) for i in range(classes)])
        return made

    theirs = {stitch: metric() for stitch in ids}

    class Loop(StitchLoop):
        def __init__(self) -> None:
            """Without a Runner."""

        def run(self) -> None:
            """Not called."""

    loop = Loop()
    loop._runner = SimpleNamespace(model=model, hooks=[])
    loop.fp16, loop._trie = False, backbone.trie(ids)
    loop.evaluator = StitchEvaluators(SimpleNamespace(metrics=[metric()]), ids)

    def one_by_one() -> None:
        for stitch in ids:
            with torch.no_grad(), backbone.use_stitch(stitch):
                samples = [sample.to_dict() for sample in model.test_step(batch)]
            theirs[stitch].process(batch, samples)

    def together() -> None:
        with torch.no_grad():
            loop.run_batch(batch, model.test_step)

    print(f"{at.header()}; labels {label_size[0]}x{label_size[1]}, {len(ids)} stitches")
    times = at.compare({"mmseg, one by one": one_by_one, "loop of mmsn": together})
    areas = [r for stitch in ids for r in theirs[stitch].results]
    ours = [r for stitch in ids for r in loop.evaluator.by_id[stitch].metrics[0].results]
    same = all(
        torch.equal(torch.stack(a), torch.stack(b)) for a, b in zip(areas, ours, strict=True)
    )
    print(f"areas of all stitches are {'equal' if same else 'DIFFERENT'}")

    print("\nms of process time per image and stitch, by part (wall time on a GPU)")
    passes, head = len(ids) * args.batch_size * args.rounds, model.decode_head
    both = {
        "preprocessing": (model.data_preprocessor, "forward"),
        "backbone": (backbone, "forward"),
        "head": (head, "forward"),
    }
    mmsegs = both | {"resize": (head, "predict_by_feat")}
    mmsegs |= {"resize and argmax": (model, "postprocess_result")}
    mmsns = both | {"resize and argmax": (ImageLogits, "labels")}
    rows: dict[str, list[str]] = {}
    for way, functions, areas_of in (
        (one_by_one, mmsegs, (IoUMetric, "process")),
        (together, mmsns, (BatchLabels, "process")),
    ):
        parts = Parts(at.device)
        with parts.measure({**functions, "IoU": areas_of, "rest": (parts, "run")}):
            for _ in range(args.rounds):
                parts.run(way)
        for part in (*mmsegs, "IoU", "rest"):
            ms = 1e3 * parts.seconds.get(part, 0.0) / passes
            rows.setdefault(part, [part]).append(f"{ms:.3f}")
    total = [sum(float(row[i]) for row in rows.values()) for i in (1, 2)]
    rows["sum"] = ["sum", *(f"{ms:.3f}" for ms in total)]
    print(table(["", *times], list(rows.values())))


def heads(args: argparse.Namespace) -> None:
    """The share of neck and head that depends on one level, and what sharing it could spare."""
    import re

    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from mmsn.models.complexity import _Head
    from mmsn.models.tracing import on_meta
    from mmsn.stitching.space import Tap

    at = Setting(args)
    head = on_meta(_Head(at.model))
    levels = at.backbone.zero_levels(at.size, "meta")
    with torch.no_grad(), FlopCounterMode(display=False, depth=8) as counter:
        head(*levels)
    counts = {name: sum(ops.values()) // 2 for name, ops in counter.get_flop_counts().items()}
    total = counts["Global"]
    trie = at.backbone.trie(at.ids())
    spared, rows = 0.0, []
    for level in range(len(at.backbone.out_indices)):
        ends = set()
        for stitch, route in trie.routes.items():
            taps = [n for n, s in enumerate(route) if isinstance(s, Tap) and s.level == level]
            ends |= {(trie.first[stitch], *map(str, route[: n + 1])) for n in taps}
        pattern = re.compile(rf"\.(lateral_convs|convs|scale_heads|fpn_convs)\.{level}$")
        # fpn_convs of UperNet mix levels from the top down
        own = sum(
            macs
            for name, macs in counts.items()
            if pattern.search(name) and "fpn_convs" not in name
        )
        different = len(ends) / len(trie.order)
        spared += own * (1 - different)
        rows.append([str(level), str(len(ends)), f"{own / 1e6:.1f}", f"{own / total:.1%}"])
    print(f"{at.header()}: {len(trie.order)} stitches; neck and head {total / 1e6:.1f} M MACs")
    print(table(["level", "different among stitches", "own M MACs", "of neck and head"], rows))
    macs = at.backbone.stitch_macs(at.size)
    rest = sum(macs[i] for i in trie.order) / len(trie.order)
    print(f"sharing it would spare {spared / total:.1%} of neck and head")
    print(f"a backbone costs {rest / 1e6:.1f} M MACs on average, alone")


def least_squares(args: argparse.Namespace) -> None:
    """Widths 384 to 1024, as between DeiT3-S and DeiT3-L."""
    import mmsn  # noqa: F401, I001
    import torch

    from mmsn.stitching.least_squares import GramAccumulator

    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    x = torch.randn(args.tokens, 384, device=device)
    y = x @ torch.randn(384, 1024, device=device) + torch.randn(args.tokens, 1024, device=device)

    def streaming() -> Any:
        sums = GramAccumulator(384, 1024)
        for a, b in zip(x.split(1024), y.split(1024), strict=True):
            sums.update(a, b)
        return sums.solve().weight

    def pinv() -> Any:
        z = torch.cat([x, x.new_ones(len(x), 1)], dim=1).double()
        return (torch.linalg.pinv(z) @ y.double())[:-1].T

    print(f"{args.tokens} tokens, 384 to 1024, {machine(device)}, {args.rounds} rounds")
    report(interleave({"pinv": pinv, "streaming": streaming}, args.rounds, device))
    print(f"largest difference {(pinv() - streaming()).abs().max().item():g}")
    kept = 8 * (384 + 1024 + 1) ** 2
    tokens = 8 * args.tokens * (384 + 1024 + 1)
    print(f"kept: {kept / 1e6:.1f} MB of sums, against {tokens / 1e6:.1f} MB of tokens for pinv")


def flops(args: argparse.Namespace) -> None:
    """All stitches in closed form."""
    at = Setting(args)
    print(f"{at.header()}: {len(at.backbone.space)} stitches")
    at.compare({"all stitches": lambda: at.backbone.stitch_macs(at.size)})


def switch(args: argparse.Namespace) -> None:
    """Setting another stitch, and holding one for a block."""
    at = Setting(args)
    ids = at.backbone.space.ids

    def hold() -> None:
        for stitch in ids:
            with at.backbone.use_stitch(stitch):
                pass

    print(f"{at.header()}: {len(ids)} switches")
    at.compare({"set_stitch": lambda: [*map(at.backbone.set_stitch, ids)], "use_stitch": hold})


def imports(args: argparse.Namespace) -> None:
    """New processes that import mmseg's models, without and with mmsn."""

    theirs = "import mmseg.models, mmseg.datasets, mmseg.evaluation, mmseg.engine"
    # mmseg alone may not import on this machine, so compat prepares it. Taken by its path, because
    # `import mmsn.compat` would import all of mmsn.
    plain = (
        "import importlib.util as u; s = u.find_spec('mmsn'); "
        "p = u.spec_from_file_location('compat', s.submodule_search_locations[0] + '/compat.py'); "
        "m = u.module_from_spec(p); import sys; sys.modules['compat'] = m; "
        f"p.loader.exec_module(m); m.prepare(); {theirs}"
    )

    def process(code: str) -> Callable[[], Any]:
        command = [sys.executable, "-W", "ignore", "-c", code]
        return lambda: subprocess.run(command, check=True, capture_output=True)

    print(f"{machine('cpu')}, {args.rounds} rounds")
    ways = {"mmsn and mmseg": process(f"import mmsn; {theirs}"), "mmseg": process(plain)}
    report(interleave(ways, args.rounds))


def bf16(args: argparse.Namespace) -> None:
    """Both anchors under autocast to bfloat16 and without."""
    import torch

    at = Setting(args)
    print(at.header())
    for stitch in at.ids(at.backbone.space.ids[: len(at.backbone.anchors)]):

        def forward(enabled: bool, stitch: int = stitch) -> None:
            kind = str(at.device).split(":")[0]
            with (
                torch.autocast(kind, torch.bfloat16, enabled=enabled),
                at.backbone.use_stitch(stitch),
            ):
                at.backbone(at.image)

        print(f"\nstitch {stitch}, forward")
        with torch.inference_mode():
            at.compare({"float32": lambda: forward(False), "bfloat16": lambda: forward(True)})


def memory(args: argparse.Namespace) -> None:
    """Bytes that autograd keeps between forward and backward, counted once per storage."""
    import torch

    at = Setting(args)
    at.backbone.train()
    parameters = {p.untyped_storage().data_ptr() for p in at.backbone.parameters()}
    rows = []
    for stitch in at.ids(at.backbone.space.ids[: len(at.backbone.anchors)]):
        kept: dict[int, int] = {}

        def keep(tensor: Any, kept: dict[int, int] = kept) -> Any:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in parameters:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        cuda = str(at.device).startswith("cuda")
        if cuda:
            torch.cuda.reset_peak_memory_stats(at.device)
        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            at.backbone.use_stitch(stitch),
        ):
            level = at.backbone(at.image)[-1]
        (level[0] if isinstance(level, tuple) else level).square().mean().backward()
        gradients = sum(p.grad.nbytes for p in at.backbone.parameters() if p.grad is not None)
        at.backbone.zero_grad()
        peak = f"{torch.cuda.max_memory_allocated(at.device) / 1e6:.0f}" if cuda else "-"
        row = [str(stitch), f"{sum(kept.values()) / 1e6:.3f}", f"{gradients / 1e6:.3f}", peak]
        rows.append(row)
    print(at.header())
    print(table(["stitch", "activations, MB", "gradients, MB", "peak on the GPU, MB"], rows))


ROWS: dict[str, Callable[[argparse.Namespace], None]] = {
    "anchors": anchors,
    "bf16": bf16,
    "blocks": blocks,
    "evaluation": evaluation,
    "flops": flops,
    "heads": heads,
    "import": imports,
    "least-squares": least_squares,
    "memory": memory,
    "sharing": sharing,
    "switch": switch,
}


def main() -> None:
    args = parse_args()
    ROWS[args.row](args)


if __name__ == "__main__":
    run(main)
