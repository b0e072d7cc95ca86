"""What is killed: trainings, recipes, the demo and benchmarks, all of them tiny.

Each subject runs in processes that are forked from one that has imported everything. Left out on
purpose: what draws at random (dropout, drop path, augmentation), because random states are no part
of a checkpoint.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import mmengine.runner.runner
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmsn import recipe
from mmsn.datasets import generate_shapes
from mmsn.evaluation import ParetoReport

SIZE, ITERATIONS, STEPS, IMAGES = 32, 8, 3, 4
TOOLS = Path(__file__).resolve().parents[1]
CALLS = 30  # seconds that a rank waits for another


@dataclass(frozen=True)
class Subject:
    """One kind of run.

    Attributes:
        run: does it in this process, from its folder and that of the data; a second call continues.
        differences: in what a finished folder differs from that of an undisturbed run.
        ranks: processes.
    """

    run: Callable[[Path, Path], None]
    differences: Callable[[Path, Path], list[str]]
    ranks: int = 1


def subjects(hook: str) -> dict[str, Subject]:
    """All of them by name; ``hook`` saves the checkpoints of trainings."""

    def train(ranks: int) -> Callable[[Path, Path], None]:
        return lambda folder, data: _train(folder, data, hook, ranks)

    def benchmark(ranks: int) -> Callable[[Path, Path], None]:
        return lambda folder, data: _benchmark(folder, data, ranks)

    return {
        "training": Subject(train(1), _training_differences),
        "training-2": Subject(train(2), _training_differences, 2),
        "benchmark": Subject(benchmark(1), _report_differences),
        "benchmark-2": Subject(benchmark(2), _report_differences, 2),
        "recipe": Subject(_recipe, _recipe_differences),
        "demo": Subject(_demo, _recipe_differences),
    }


def skip_reports() -> None:
    """Leave out, in this process, what takes half of the time of a run so short.

    That is formatting configs and asking git, as mmengine does at every save, and asking compilers
    for their versions.
    """

    def plain_text(config: Config) -> str:
        return "".join(f"{name} = {value!r}\n" for name, value in config.to_dict().items())

    Config.pretty_text = property(plain_text)  # type: ignore[assignment]
    mmengine.runner.runner.collect_env = dict
    mmengine.runner.runner.get_git_hash = str


def make_data(data: Path) -> None:
    """Images, and weights to benchmark."""
    generate_shapes(data, num_train=10, num_val=IMAGES, size=SIZE)
    torch.manual_seed(0)
    config = segmentor(data)
    config.work_dir = str(data / "weights")
    torch.save(Runner.from_cfg(config).model.state_dict(), data / "weights.pth")


def join(rank: int, ranks: int, store: Path) -> None:
    """Make this process one of several, before a Runner, which would look for GPUs."""
    names = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=ranks)
    os.environ.update({name: str(value) for name, value in names.items()})
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{store}",
        rank=rank,
        world_size=ranks,
        timeout=timedelta(seconds=CALLS),
    )


def segmentor(data: Path, anchors: tuple[int, ...] = (0, 1), ranks: int = 1) -> Config:
    """A config that trains and tests in less than a second; of these anchors."""
    all_anchors = [
        dict(model_name="deit3_small_patch16_224", embed_dim=dim, depth=depth, num_heads=2)
        for dim, depth in ((16, 2), (24, 4))
    ]
    chosen = [all_anchors[i] for i in anchors]
    pipeline = ["LoadImageFromFile", "LoadAnnotations", "PackSegInputs"]

    def loader(split: str, sampler: dict[str, Any]) -> dict[str, Any]:
        dataset = dict(
            type="mmsn.ShapesDataset",
            data_root=str(data),
            data_prefix=dict(img_path=f"images/{split}", seg_map_path=f"annotations/{split}"),
            pipeline=[dict(type=name) for name in pipeline],
        )
        return dict(batch_size=2, num_workers=0, sampler=sampler, dataset=dataset)

    config = Config(
        dict(
            custom_imports=dict(imports=["mmsn"]),
            default_scope="mmseg",
            log_level="ERROR",
            model=dict(
                type="EncoderDecoder",
                data_preprocessor=dict(type="SegDataPreProcessor", size=(SIZE, SIZE)),
                backbone=dict(
                    type="mmsn.StitchedViT",
                    anchors=chosen,
                    img_size=SIZE,
                    out_indices=(1, 3) if 1 in anchors else (0, 1),
                    rank=2,
                ),
                decode_head=dict(
                    type="FCNHead",
                    in_channels=chosen[-1]["embed_dim"],
                    in_index=1,
                    channels=8,
                    num_convs=1,
                    concat_input=False,
                    num_classes=12,
                    dropout_ratio=0.0,
                    norm_cfg=dict(type="BN"),
                ),
                test_cfg=dict(mode="whole"),
            ),
            train_dataloader=loader("training", dict(type="InfiniteSampler", shuffle=True)),
            test_dataloader=loader("validation", dict(type="DefaultSampler", shuffle=False)),
            test_evaluator=dict(type="IoUMetric", iou_metrics=["mIoU"]),
            optim_wrapper=dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-3)),
            param_scheduler=[
                dict(type="PolyLR", power=0.9, by_epoch=False, begin=0, end=ITERATIONS)
            ],
            train_cfg=dict(type="IterBasedTrainLoop", max_iters=ITERATIONS, val_interval=1000),
            test_cfg=dict(type="mmsn.ParetoTestLoop", chunk=1),
            default_hooks=dict(
                logger=dict(type="LoggerHook", interval=1, log_metric_by_epoch=False),
                checkpoint=dict(
                    type="mmsn.AtomicCheckpointHook", by_epoch=False, interval=1, max_keep_ckpts=1
                ),
                finite=dict(type="mmsn.FiniteHook"),
                ranks=dict(type="mmsn.RankCheckHook"),
            ),
            log_processor=dict(by_epoch=False, window_size=1),
            randomness=dict(seed=0),
        )
    )
    if len(anchors) > 1:
        config.custom_hooks = [
            dict(type="mmsn.StitchInitHook", num_images=6),
            dict(type="mmsn.FLOPsConstrainedSamplingHook"),
        ]
    if ranks > 1:
        config.launcher = "pytorch"
        config.env_cfg = dict(dist_cfg=dict(backend="gloo"))
        config.model_wrapper_cfg = dict(
            type="MMDistributedDataParallel",
            device_ids=None,
            broadcast_buffers=False,
            find_unused_parameters=True,
        )
    return config


def _train(folder: Path, data: Path, hook: str, ranks: int) -> None:
    config = segmentor(data, ranks=ranks)
    for name in ("test_dataloader", "test_evaluator", "test_cfg"):
        config.pop(name)
    config.work_dir, config.resume = str(folder), True
    # As many as the folder's name says: one or two, alike in every start of a training.
    keep = 1 + sum(map(ord, folder.name)) % 2
    config.default_hooks.checkpoint.update(type=hook, max_keep_ckpts=keep)
    config.experiment_name = f"pid{os.getpid()}"
    Runner.from_cfg(config).train()


def _benchmark(folder: Path, data: Path, ranks: int) -> None:
    config = segmentor(data, ranks=ranks)
    for name in ("train_dataloader", "optim_wrapper", "param_scheduler", "train_cfg"):
        config.pop(name)
    config.custom_hooks = []
    config.test_dataloader.batch_size = 1
    config.work_dir, config.load_from = str(folder), str(data / "weights.pth")
    config.experiment_name = f"pid{os.getpid()}"
    Runner.from_cfg(config).test()


def _recipe(folder: Path, data: Path) -> None:
    def step(name: str, anchors: tuple[int, ...]) -> recipe.Step:
        config = segmentor(data, anchors)
        config.train_cfg.max_iters = STEPS
        file = folder / f"{name}.py"
        folder.mkdir(parents=True, exist_ok=True)
        config.dump(file)
        return recipe.Step.from_file(file)

    recipe.stitch_from_anchors(
        [step("small", (0,)), step("large", (1,))], step("stitched", (0, 1)), folder
    )


def _demo(folder: Path, data: Path) -> None:
    """tools/demo.py as it is, with fewer images, iterations and channels."""
    sys.path.insert(0, str(TOOLS))
    import demo

    import mmsn.datasets

    from_file = recipe.Step.from_file.__func__  # type: ignore[attr-defined]

    def smaller(kind: Any, path: Path) -> recipe.Step:
        step = from_file(kind, path)
        config = step.config
        config.train_cfg.update(max_iters=STEPS, val_interval=2)
        config.default_hooks.checkpoint.interval = config.default_hooks.logger.interval = 1
        config.log_processor.window_size = 1
        config.test_cfg.chunk = 2
        for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
            if config.get(loader):
                config[loader].batch_size = 2
        pipeline = config.train_dataloader.dataset.pipeline
        config.train_dataloader.dataset.pipeline = [
            transform for transform in pipeline if transform["type"] != "RandomFlip"
        ]
        for anchor in config.model.backbone.anchors:
            anchor.update(depth=2, patch_size=16)
        config.model.backbone.update(out_indices=(0, 1), eval_levels=(1,))
        config.model.decode_head.update(in_index=1, channels=16)
        for hook in config.get("custom_hooks", []):
            if hook["type"] == "mmsn.StitchInitHook":
                hook["num_images"] = 4
        return step

    recipe.Step.from_file = classmethod(smaller)  # type: ignore[assignment, method-assign]
    mmsn.datasets.generate_shapes = lambda root: generate_shapes(root, 6, IMAGES, 96)
    demo.main(["--work-dir", str(folder)])


def records(work_dir: Path) -> dict[int, set[tuple[float, ...]]]:
    """What every start has logged: (GFLOPs, learning rate, loss) by iteration."""
    found: dict[int, set[tuple[float, ...]]] = {}
    for path in work_dir.glob("*/vis_data/scalars.json"):
        for line in path.read_text().splitlines():
            with contextlib.suppress(ValueError, KeyError):  # the line that a kill cut
                entry = json.loads(line)
                value = (entry.get("gflops", 0.0), entry["lr"], entry["loss"])
                found.setdefault(entry["step"], set()).add(value)
    return found


def _training_differences(work_dir: Path, alone: Path, iterations: int = ITERATIONS) -> list[str]:
    last = f"iter_{iterations}.pth"
    ours, theirs = (torch.load(d / last, weights_only=True) for d in (work_dir, alone))
    found = [
        f"weight {name}"
        for name, value in theirs["state_dict"].items()
        if not torch.equal(ours["state_dict"][name], value)
    ]
    state, expected = (c["optimizer"]["state"] for c in (ours, theirs))
    for index, values in expected.items():
        found += [
            f"optimizer {index}.{k}"
            for k, v in values.items()
            if not torch.equal(state[index][k], v)
        ]
    logged, right = records(work_dir), records(alone)
    assert set(right) >= set(range(1, iterations + 1)), right.keys()
    # A kill can come before an iteration that it did not undo is logged.
    return found + [f"log of iteration {i}" for i in logged if logged[i] != right[i]]


def _report_differences(work_dir: Path, alone: Path) -> list[str]:
    ours, theirs = (ParetoReport.load(d / "pareto.json") for d in (work_dir, alone))
    found = [] if (ours.images, ours.of_images) == (theirs.images, theirs.of_images) else ["images"]
    left = [p.name for p in work_dir.glob("partial*")] + [
        p.name for p in work_dir.glob("*.partial.json")
    ]
    found += [f"left over: {name}" for name in left]
    # As JSON, because NaN differs from itself.
    first, second = ({s.id: s.model_dump_json() for s in r.stitches} for r in (ours, theirs))
    found += [f"stitch {i}" for i in second if first.get(i) != second[i]]
    return found + [f"unknown stitch {i}" for i in first.keys() - second.keys()]


def _recipe_differences(work_dir: Path, alone: Path) -> list[str]:
    found = []
    steps = sorted(path.parent for path in alone.glob("*/step.sha256"))
    assert len(steps) == 3, steps
    for step in steps:
        mine = work_dir / step.name
        found += [f"{step.name}: {line}" for line in _training_differences(mine, step, STEPS)]
        found += [f"{step.name}: {line}" for line in _report_differences(mine, step)]
    found += _report_differences(work_dir, alone)
    images = sorted((alone / "data").rglob("*.png"))
    for image in images:
        other = work_dir / image.relative_to(alone)
        if not other.is_file() or other.read_bytes() != image.read_bytes():
            found.append(f"image {image.name}")
    if not (work_dir / "pareto.png").is_file():
        found.append("no pareto.png")
    return found
