"""Rows of benchmark_speed.py about evaluation as a whole, and about neck and head."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from _speed import Parts, process_seconds, table, wait
from _speed_model import Setting


def evaluation(args: argparse.Namespace) -> None:
    """From preprocessed images to IoU areas: mmseg stitch by stitch, and the loops of mmsn."""
    import torch
    from mmengine.structures import PixelData
    from mmseg.evaluation import IoUMetric
    from mmseg.models.segmentors import EncoderDecoder
    from mmseg.structures import SegDataSample

    from mmsn.engine.loops import StitchEvaluators, StitchLoop
    from mmsn.errors import UserError
    from mmsn.evaluation.iou import BatchLabels
    from mmsn.models import DepthEstimator, MultiTaskSegmentor
    from mmsn.models.image_logits import ImageLogits

    at = Setting(args)
    model, backbone, ids = at.model, at.backbone, at.ids()
    segments = isinstance(model, EncoderDecoder) and not isinstance(model, DepthEstimator)
    if not segments and not isinstance(model, MultiTaskSegmentor):
        raise UserError(
            f"evaluation measures IoU, but the model is a {type(model).__name__}: give the config "
            "of a segmentor"
        )
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
    loop.fp16 = False
    loop.evaluator = StitchEvaluators(SimpleNamespace(metrics=[metric()]), ids)
    loop.plan(ids)

    def alone(stitch: int) -> list[Any]:
        with torch.no_grad(), backbone.use_stitch(stitch):
            return [sample.to_dict() for sample in model.test_step(batch)]

    def one_by_one() -> None:
        for stitch in ids:
            theirs[stitch].process(batch, alone(stitch))

    def together() -> None:
        with torch.no_grad():
            for _ in loop.run_stitches("test", batch):
                pass

    head = model.decode_head
    both = {
        "preprocessing": (model.data_preprocessor, "forward"),
        "backbone": (backbone, "forward"),
        "head": (head, "forward"),
    }
    if getattr(model, "neck", None) is not None:
        both["neck"] = (model.neck, "forward")
    mmsegs = both | {
        "resize": (head, "predict_by_feat"),
        "resize and argmax": (model, "postprocess_result"),
        "IoU": (IoUMetric, "process"),
    }
    mmsns = both | {
        "resize and argmax": (ImageLogits, "labels"),
        "IoU": (BatchLabels, "process"),
    }
    parts = Parts(at.device), Parts(at.device)

    def measured(way: Callable[[], None], own: Parts, functions: dict[str, Any]) -> None:
        with own.measure({**functions, "rest": (own, "run")}):
            own.run(way)

    def warm_up() -> None:
        if args.quick:
            alone(ids[0])
        else:
            one_by_one()
            together()
            for stitch in ids:
                theirs[stitch].results.clear()
                loop.evaluator.by_id[stitch].metrics[0].results.clear()

    print(f"{at.header()}; labels {label_size[0]}x{label_size[1]}, {len(ids)} stitches")
    ways = {
        "mmseg, one by one": lambda: measured(one_by_one, parts[0], mmsegs),
        "loop of mmsn": lambda: measured(together, parts[1], mmsns),
    }
    times = at.compare(ways, warm_up)
    areas = [r for stitch in ids for r in theirs[stitch].results]
    ours = [r for stitch in ids for r in loop.evaluator.by_id[stitch].metrics[0].results]
    same = all(
        torch.equal(torch.stack(a), torch.stack(b)) for a, b in zip(areas, ours, strict=True)
    )
    print(f"areas of all stitches are {'equal' if same else 'DIFFERENT'}")

    print("\nms of process time per image and stitch, by part (wall time on a GPU)")
    passes = len(ids) * args.batch_size * args.rounds
    names = dict.fromkeys([*mmsegs, "rest"])
    ms = {name: [1e3 * own.seconds.get(name, 0.0) / passes for own in parts] for name in names}
    ms["sum"] = [sum(part[way] for part in ms.values()) for way in (0, 1)]
    rows = [[name, *(f"{value:.3f}" for value in values)] for name, values in ms.items()]
    print(table(["", *times], rows))


def heads(args: argparse.Namespace) -> None:
    """What neck and head compute from one level alone, and the time without and with sharing it."""
    import torch
    from torch.utils._pytree import tree_map_only

    from mmsn.models.complexity import NeckAndHeads
    from mmsn.models.head_sharing import LevelMemo, level_modules
    from mmsn.models.tracing import Origins, on_meta
    from mmsn.stitching.stitch import Tap

    at = Setting(args)
    backbone = at.backbone
    trie = backbone.trie(at.ids())
    stitches = len(trie.order)
    inputs = backbone.zero_levels(at.size, "meta")
    inputs = tree_map_only(torch.Tensor, torch.clone, inputs)  # class tokens share their memory
    with torch.no_grad(), Origins(inputs) as origins:
        on_meta(NeckAndHeads(at.model))(*inputs)
    total = sum(origins.macs.values())
    spared, rows = 0.0, []
    for level in range(len(backbone.out_indices)):
        ends = set()
        for stitch, route in trie.routes.items():
            taps = [n for n, s in enumerate(route) if isinstance(s, Tap) and s.level == level]
            ends |= {(trie.first[stitch], *map(str, route[: n + 1])) for n in taps}
        own = origins.macs[frozenset({level})]
        spared += own * (1 - len(ends) / stitches)
        rows.append([str(level), str(len(ends)), f"{own / 1e6:.1f}", f"{own / total:.1%}"])
    print(f"{at.header()}: {stitches} stitches; neck and head {total / 1e6:.1f} M MACs")
    print(table(["level", "different among stitches", "own M MACs", "of neck and head"], rows))
    macs = backbone.stitch_macs(at.size)
    mean = sum(macs[i] for i in trie.order) / stitches
    print(f"sharing it can spare {spared / total:.1%} of neck and head")
    print(f"a backbone costs {mean / 1e6:.1f} M MACs on average, alone")

    modules = level_modules(at.model, trie.shared_levels())
    print(f"modules that are shared: {len(modules)}")
    real = NeckAndHeads(at.model)

    def run(memo: LevelMemo, time_of: list[float] | None = None) -> list[Any]:
        """Neck and head of all stitches; their seconds go to ``time_of``."""
        outputs, passes = [], backbone.share_prefixes(trie)
        with memo.share():
            for stitch in trie.order:
                memo.begin()
                with backbone.use_stitch(stitch, passes):
                    levels = backbone(at.image)
                wait(at.device)
                start = process_seconds() if at.device.type == "cpu" else time.perf_counter()
                out = real(*levels)[0]
                wait(at.device)
                now = process_seconds() if at.device.type == "cpu" else time.perf_counter()
                if time_of is not None:
                    time_of.append(now - start)
                else:
                    outputs.append(out)
        return outputs

    seconds: dict[str, list[float]] = {"every stitch": [], "shared": []}
    memos = {"every stitch": LevelMemo(()), "shared": LevelMemo(modules)}
    with torch.inference_mode():
        # Each round runs the backbone, too, because only its levels have what stitches share.
        for _ in range(args.rounds):
            for way, memo in memos.items():
                run(memo, seconds[way])
        if not args.quick:
            both = zip(*(run(memo) for memo in memos.values()), strict=True)
            print(f"largest difference {max((a - b).abs().max().item() for a, b in both):g}")
    ms = {way: 1e3 * sum(found) / len(found) for way, found in seconds.items()}
    print("\nms of process time of neck and head per stitch and batch (wall time on a GPU)")
    print(table(["", "ms"], [[way, f"{value:.3f}"] for way, value in ms.items()]))
    print(f"every stitch / shared: {ms['every stitch'] / ms['shared']:.3f}")
