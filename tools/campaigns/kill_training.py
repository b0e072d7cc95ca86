"""Kill a training at random moments until it has finished, and compare it with an undisturbed one.

    python tools/campaigns/kill_training.py --kills 100

A tiny stitched network is trained on generated images, with a checkpoint after every iteration and
saves that take long, so that many kills (SIGKILL) hit one. Each new start resumes. In the end the
weights, the optimizer, and cost of the drawn stitches, learning rate and loss of every iteration
must be those of a training that was left alone, bit for bit. Processes are forked from this one,
so a start costs no import.

Left out on purpose: what draws at random (dropout, drop path, augmentation), because random states
are not part of a checkpoint.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))  # the folder of _run_args.py

from _run_args import Parser, positive, prepare, run

SIZE, ITERATIONS = 32, 8


def config_of(data: Path, work_dir: Path, hook: str, keep: int) -> Any:
    """A segmentor that trains eight iterations in less than a second."""
    from mmengine.config import Config

    anchors = [
        dict(model_name="deit3_small_patch16_224", embed_dim=dim, depth=depth, num_heads=2)
        for dim, depth in ((16, 2), (24, 4))
    ]
    pipeline = ["LoadImageFromFile", "LoadAnnotations", "PackSegInputs"]
    return Config(
        dict(
            default_scope="mmseg",
            work_dir=str(work_dir),
            resume=True,
            log_level="ERROR",
            model=dict(
                type="EncoderDecoder",
                data_preprocessor=dict(type="SegDataPreProcessor", size=(SIZE, SIZE)),
                backbone=dict(
                    type="mmsn.StitchedViT",
                    anchors=anchors,
                    img_size=SIZE,
                    out_indices=(1, 3),
                    rank=2,
                ),
                decode_head=dict(
                    type="FCNHead",
                    in_channels=24,
                    in_index=1,
                    channels=8,
                    num_convs=1,
                    concat_input=False,
                    num_classes=12,
                    dropout_ratio=0.0,
                    norm_cfg=dict(type="BN"),
                ),
            ),
            train_dataloader=dict(
                batch_size=2,
                num_workers=0,
                sampler=dict(type="InfiniteSampler", shuffle=True),
                dataset=dict(
                    type="mmsn.ShapesDataset",
                    data_root=str(data),
                    data_prefix=dict(
                        img_path="images/training", seg_map_path="annotations/training"
                    ),
                    pipeline=[dict(type=name) for name in pipeline],
                ),
            ),
            optim_wrapper=dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-3)),
            param_scheduler=[
                dict(type="PolyLR", power=0.9, by_epoch=False, begin=0, end=ITERATIONS)
            ],
            train_cfg=dict(type="IterBasedTrainLoop", max_iters=ITERATIONS, val_interval=1000),
            default_hooks=dict(
                logger=dict(type="LoggerHook", interval=1, log_metric_by_epoch=False),
                checkpoint=dict(
                    type=hook,
                    by_epoch=False,
                    interval=1,
                    max_keep_ckpts=keep,
                ),
                finite=dict(type="mmsn.FiniteHook"),
            ),
            custom_hooks=[
                dict(type="mmsn.StitchInitHook", num_images=6),
                dict(type="mmsn.FLOPsConstrainedSamplingHook"),
            ],
            log_processor=dict(by_epoch=False, window_size=1),
            randomness=dict(seed=0),
        )
    )


def train(config: Any, slow: float) -> None:
    """Train in this process; each write takes ``slow`` seconds, in pieces."""
    from mmengine.fileio import LocalBackend
    from mmengine.runner import Runner

    import mmsn.engine.hooks.checkpoint_hook as ours
    from mmsn.files import whole_file

    def crawl(path: Path, data: bytes) -> None:
        with open(path, "wb") as file:
            for piece in range(8):
                file.write(data[piece * len(data) // 8 : (piece + 1) * len(data) // 8])
                file.flush()
                time.sleep(slow / 8)

    def crawl_whole(path: Path, data: bytes) -> None:
        with whole_file(path) as part:
            crawl(part, data)

    ours.write_bytes = crawl_whole
    LocalBackend.put = lambda self, data, path: crawl(path, data)  # mmengine's own hook
    config.experiment_name = f"pid{os.getpid()}"
    Runner.from_cfg(config).train()


def start(config: Any, slow: float, output: Path) -> int:
    """Train in a process of its own; returns its id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        with open(output, "a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        train(config, slow)
        code = 0
    except BaseException as error:  # nothing of the parent's may run in the child
        print(f"failed: {type(error).__name__}: {error}", flush=True)
    finally:
        os._exit(code)


def finished(pid: int, seconds: float) -> int | None:
    """The exit code of a process that ends within this time, else None."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    return None


def records(work_dir: Path) -> dict[int, set[tuple[float, ...]]]:
    """What every start has logged: (GFLOPs, learning rate, loss) by iteration."""
    found: dict[int, set[tuple[float, ...]]] = {}
    for path in work_dir.glob("*/vis_data/scalars.json"):
        for line in path.read_text().splitlines():
            with contextlib.suppress(ValueError, KeyError):  # the line that a kill cut
                entry = json.loads(line)
                value = (entry["gflops"], entry["lr"], entry["loss"])
                found.setdefault(entry["step"], set()).add(value)
    return found


def differences(work_dir: Path, alone: Path) -> list[str]:
    """How a run differs from the undisturbed one."""
    import torch

    last = f"iter_{ITERATIONS}.pth"
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
    return found + [f"log of iteration {i}" for i in right if logged.get(i) != right[i]]


def campaign(kills: int, seed: int, slow: float, hook: str, folder: Path) -> dict[str, int]:
    """Kill so many times, over as many trainings as it takes.

    Returns:
        Counts: kills, trainings, kills in a save, trainings that could not go on, and trainings
        that ended with other numbers.
    """
    from mmsn.datasets import generate_shapes

    draw = random.Random(seed)
    data, alone = folder / "data", folder / "alone"
    generate_shapes(data, num_train=10, num_val=1, size=SIZE)
    begin = time.monotonic()
    if finished(start(config_of(data, alone, hook, 1), slow, folder / "alone.txt"), 600) != 0:
        raise SystemExit((folder / "alone.txt").read_text())
    whole = time.monotonic() - begin
    counts = dict(kills=0, trainings=0, in_a_save=0, lost=0, differ=0)
    while counts["kills"] < kills:
        work_dir = folder / f"training{counts['trainings']}"
        counts["trainings"] += 1
        config = config_of(data, work_dir, hook, draw.choice((1, 2)))
        code = None
        while code is None:
            pid = start(config, slow, folder / "output.txt")
            wait = draw.uniform(0, whole) if counts["kills"] < kills else 600
            code = finished(pid, wait)
            if code is None:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                counts["kills"] += 1
                counts["in_a_save"] += bool(list(work_dir.glob(".iter_*")))
        if code != 0:
            output = (folder / "output.txt").read_text().splitlines()
            print(f"{work_dir}: cannot go on after {counts['kills']} kills: {output[-1]}")
            counts["lost"] += 1
            continue
        wrong = differences(work_dir, alone)
        counts["differ"] += bool(wrong)
        if wrong:
            print(f"{work_dir}: {', '.join(wrong[:5])}")
        print(f"\r{counts}", end="", file=sys.stderr)
    return counts


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--kills", type=positive, default=100, help="how many (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    parser.add_argument(
        "--slow", type=float, default=0.3, help="seconds that a write takes (default: 0.3)"
    )
    parser.add_argument(
        "--hook",
        default="mmsn.AtomicCheckpointHook",
        help="what saves; with mmengine's CheckpointHook trainings get lost",
    )
    parser.add_argument("--folder", help="keep the files here (default: a temporary folder)")
    return parser.parse(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaign and print its counts as JSON."""
    args = parse_args(argv)
    prepare(args)
    import torch

    torch.set_num_threads(1)  # a process with threads must not be forked
    with contextlib.ExitStack() as stack:
        folder = args.folder or stack.enter_context(tempfile.TemporaryDirectory())
        counts = campaign(args.kills, args.seed, args.slow, args.hook, Path(folder))
    print(json.dumps(counts))
    return 1 if counts["lost"] or counts["differ"] else 0


if __name__ == "__main__":
    run(main)
