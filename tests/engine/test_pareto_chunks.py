"""The chunks of a benchmark: it survives being killed, and never mixes different things."""

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.models.segmentors.base import BaseSegmentor
from PIL import Image

from mmsn.engine.chunks import ChunkStore, FolderLock
from mmsn.errors import UserError
from mmsn.evaluation import ParetoReport
from tests.engine.processes import CONTEXT
from tests.engine.reading import log_of, metrics_of


def _test(path, delay, log):
    """Test a config in a process of its own, each batch delayed by so many seconds."""
    with open(log, "w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    torch.set_num_threads(1)
    step = BaseSegmentor.test_step
    BaseSegmentor.test_step = lambda self, data: (time.sleep(delay), step(self, data))[1]
    Runner.from_cfg(Config.fromfile(path)).test()


@pytest.mark.slow
def test_a_killed_run_continues_and_ends_with_the_same_numbers(config, checkpoint, tmp_path):
    config.load_from = checkpoint
    config.test_dataloader.batch_size = 1
    config.test_cfg.chunk = 1
    for name in ("undisturbed", "killed"):
        config.work_dir = str(tmp_path / name)
        config.dump(tmp_path / f"{name}.py")

    def start(name, delay):
        files = str(tmp_path / f"{name}.py"), delay, str(tmp_path / f"{name}.log")
        process = CONTEXT.Process(target=_test, args=files)
        process.start()
        return process

    process = start("killed", 0.5)
    partial = tmp_path / "killed" / "pareto.partial.json"
    # No deadline: on a busy machine the imports alone take longer than a minute.
    while not partial.is_file() and process.is_alive():
        time.sleep(0.02)
    process.kill()
    process.join()
    report = ParetoReport.load(partial)
    assert 1 <= report.images < report.of_images == 3
    assert not (tmp_path / "killed" / "pareto.json").exists()

    processes = [start("killed", 0), start("undisturbed", 0)]
    for process in processes:
        process.join()
    outputs = [(tmp_path / f"{name}.log").read_text() for name in ("killed", "undisturbed")]
    assert [process.exitcode for process in processes] == [0, 0], outputs
    assert "Continuing after" in outputs[0]
    assert "Continuing after" not in outputs[1]
    results = [metrics_of(tmp_path / name / "pareto.json") for name in ("killed", "undisturbed")]
    assert results[0] == results[1]
    assert len(results[0]) == 4
    assert not partial.exists()
    assert not list((tmp_path / "killed" / "partial").glob("*"))


def interrupted(run, checkpoint, **changes):
    """A run that stops in its third batch, after two chunks."""
    runner = run(
        load_from=checkpoint,
        **{"test_dataloader.batch_size": 1, "test_cfg.chunk": 1, **changes},
    )
    model, calls = runner.model, []
    step = model.test_step

    def stop(data):
        calls.append(1)
        if len(calls) > 2 * 4:
            raise KeyboardInterrupt
        return step(data)

    model.test_step = stop
    with pytest.raises(KeyboardInterrupt):
        runner.test()
    return runner


def resumed(run, first, checkpoint, stitches=4, **changes):
    """How many of the images a second run in the same folder evaluates, and that run."""
    standard = {"test_dataloader.batch_size": 1, "test_cfg.chunk": 1, "load_from": checkpoint}
    second = run(work_dir=first.work_dir, **standard | changes)
    seen = []
    step = second.model.test_step
    second.model.test_step = lambda data: seen.append(1) or step(data)
    second.test()
    return len(seen) / stitches, second


def test_chunks_of_the_same_are_used(run, checkpoint):
    assert resumed(run, interrupted(run, checkpoint), checkpoint)[0] == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"test_cfg.stitches": ["anchors"]},
        {"test_cfg.chunk": 2},
        {"test_cfg.fp16": True},
        {"test_evaluator.iou_metrics": ["mIoU", "mDice"]},
        {"model.test_cfg": dict(mode="slide", crop_size=(16, 16), stride=(12, 12))},
        {"test_dataloader.dataset.data_prefix.seg_map_path": "labels"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_chunks_of_another_config_are_not_used(run, checkpoint, shapes, changes):
    labels = shapes / "labels"
    if not labels.exists():
        shutil.copytree(shapes / "annotations/validation", labels)
    stitches = 2 if "test_cfg.stitches" in changes else 4
    first = interrupted(run, checkpoint)
    assert resumed(run, first, checkpoint, stitches, **changes)[0] == 3


def test_chunks_of_other_weights_are_not_used(run, checkpoint, tmp_path):
    first = interrupted(run, checkpoint)
    state = torch.load(checkpoint, weights_only=True)
    state["state_dict"]["decode_head.conv_seg.bias"] += 0.1
    torch.save(state, tmp_path / "other.pth")
    assert resumed(run, first, str(tmp_path / "other.pth"))[0] == 3
    first = interrupted(run, None)  # with the weights that the model has
    assert resumed(run, first, None, **{"randomness.seed": 1})[0] == 3


@pytest.mark.parametrize(("chunk", "numbers"), [(2, [0, 1]), (3, [0, 1]), (4, [0])])
def test_a_chunk_has_as_many_images_as_asked_for_in_whole_batches(
    run, checkpoint, monkeypatch, chunk, numbers
):
    saved, save = [], ChunkStore.save
    monkeypatch.setattr(
        ChunkStore,
        "save",
        lambda self, number, results: saved.append(number) or save(self, number, results),
    )
    run(load_from=checkpoint, **{"test_cfg.chunk": chunk, "test_cfg.stitches": [0]}).test()
    assert saved == numbers  # of three images, two in a batch


def test_a_folder_in_use_is_refused_before_anything_is_evaluated(run, checkpoint):
    pytest.importorskip("fcntl")
    runner = run(load_from=checkpoint)
    with (
        FolderLock(Path(runner.work_dir)),
        pytest.raises(UserError, match="in use by another benchmark"),
    ):
        runner.test()
    assert not list(Path(runner.work_dir).glob("p*"))  # neither chunks nor a report


def test_chunks_of_changed_labels_are_not_used(run, checkpoint, shapes, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(shapes, root)
    data = {"test_dataloader.dataset.data_root": str(root)}
    first = interrupted(run, checkpoint, **data)
    label = sorted((root / "annotations/validation").iterdir())[0]
    Image.fromarray(255 - np.array(Image.open(label))).save(label)
    images, second = resumed(run, first, checkpoint, **data)
    assert images == 3
    assert log_of(second).count("holds an unfinished benchmark of another checkpoint") == 1
    assert not (Path(second.work_dir) / "partial").exists()


@pytest.mark.parametrize("content", [b"", b"no chunk", "cut"])
def test_a_damaged_chunk_is_evaluated_again(run, checkpoint, content):
    first = interrupted(run, checkpoint)
    path = next(Path(first.work_dir).rglob("rank0-chunk00001.pt"))
    path.write_bytes(path.read_bytes()[:-100] if content == "cut" else content)
    images, second = resumed(run, first, checkpoint)
    assert images == 2
    undisturbed = run(load_from=checkpoint, **{"test_dataloader.batch_size": 1})
    undisturbed.test()
    found, expected = (metrics_of(Path(r.work_dir) / "pareto.json") for r in (second, undisturbed))
    assert found == expected
