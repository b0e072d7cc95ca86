"""Checkpoints that survive a kill, and runs that resume from them."""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.runner import Runner

from mmsn import files
from mmsn.engine.resume import is_whole
from mmsn.errors import UserError
from tests.engine.reading import damage, log_of


class Killed(BaseException):
    """What stands for a kill here: nothing catches it."""


def names(folder, pattern="*.pth"):
    return sorted(path.name for path in Path(folder).glob(pattern))


@pytest.fixture
def run(run):
    """As elsewhere, without validation."""
    quick = {"train_cfg.val_interval": 100, "val_cfg.stitches": [0]}
    return lambda **changes: run(**quick | changes)


@pytest.fixture
def again(config):
    """Start a run once more in the folder of an earlier one."""

    def make(runner, **changes):
        mine = copy.deepcopy(config)
        mine.work_dir = runner.work_dir
        mine.experiment_name = f"again_{Path(runner.work_dir).parent.name}"
        mine.resume = True
        mine.default_hooks.checkpoint.max_keep_ckpts = 1
        mine.merge_from_dict({"train_cfg.max_iters": 8, "val_cfg.stitches": [0], **changes})
        return Runner.from_cfg(mine)

    return make


def test_only_the_newest_are_kept(run):
    runner = run(**{"train_cfg.max_iters": 6, "default_hooks.checkpoint.max_keep_ckpts": 2})
    runner.train()
    assert names(runner.work_dir) == ["iter_4.pth", "iter_6.pth"]
    last = Path(runner.work_dir, "last_checkpoint").read_text()
    assert last == str(Path(runner.work_dir, "iter_6.pth"))
    assert not list(Path(runner.work_dir).glob(".*"))


@pytest.mark.parametrize("moment", ["half", "before the rename", "last_checkpoint"])
def test_a_kill_in_a_save_leaves_the_checkpoint_before(run, again, monkeypatch, moment):
    """With one checkpoint kept, as the configs for a CPU have it."""
    runner = run(**{"default_hooks.checkpoint.max_keep_ckpts": 1})
    original = files.whole_file
    writes = []

    def kill(path, *options):
        writes.append(Path(path).name)
        if writes[-2:] == ["iter_4.pth", "last_checkpoint"] and moment == "last_checkpoint":
            raise Killed
        if writes[-1] == "iter_4.pth" and moment != "last_checkpoint":
            data = Path(runner.work_dir, "iter_2.pth").read_bytes()
            data = data[: len(data) // 2] if moment == "half" else data
            Path(runner.work_dir, ".iter_4.abcdefgh.pth").write_bytes(data)
            raise Killed
        return original(path, *options)

    monkeypatch.setattr(files, "whole_file", kill)
    with pytest.raises(Killed):
        runner.train()
    assert is_whole(Path(runner.work_dir, "iter_2.pth"))
    monkeypatch.setattr(files, "whole_file", original)
    resumed = again(runner)
    resumed.train()
    assert "resumed epoch: 0, iter: 2" in log_of(resumed)
    # what was half written is gone; the whole iter_4.pth was written over
    assert names(runner.work_dir) + names(runner.work_dir, ".*") == ["iter_8.pth"]


def test_a_full_disk_is_one_line_and_keeps_what_there_is(run, monkeypatch):
    runner = run(**{"default_hooks.checkpoint.max_keep_ckpts": 1})
    original = Path.write_bytes

    def fail(self, data):
        if self.name.startswith(".iter_4."):
            original(self, data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        return original(self, data)

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(UserError, match=r"iter_4\.pth' could not .*No space left on device.*make"):
        runner.train()
    assert names(runner.work_dir) == ["iter_2.pth"]
    assert not list(Path(runner.work_dir).glob(".*"))


def test_a_runner_falls_back_or_says_that_it_cannot(run, again):
    runner = run()
    runner.train()
    damage(Path(runner.work_dir, "iter_4.pth"), "truncated")
    resumed = again(runner)
    resumed.train()
    assert "iter_4.pth' is damaged" in log_of(resumed)
    assert "resumed epoch: 0, iter: 2" in log_of(resumed)
    for name in ("iter_2.pth", "iter_8.pth"):
        damage(Path(runner.work_dir, name), "truncated")
    with pytest.raises(UserError, match=r"nothing to resume from: .*iter_8\.pth"):
        again(runner).train()


def test_weights_alone_cannot_be_resumed(run, tmp_path):
    torch.save({"state_dict": run().model.state_dict()}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match=r"weights\.pth' has no message_hub, meta"):
        run(load_from=str(tmp_path / "weights.pth"), resume=True).train()


def test_saves_wait_for_the_end_of_an_optimizer_step(run):
    runner = run(
        **{
            "optim_wrapper.accumulative_counts": 3,
            "train_cfg.max_iters": 10,
        }
    )
    runner.train()
    # due at 2, 4, 6, 8 and 10; steps end at 3, 6, 9 and 10
    assert names(runner.work_dir) == ["iter_10.pth", "iter_3.pth", "iter_6.pth", "iter_9.pth"]
    assert log_of(runner).count("saved after the next whole optimizer step") == 1


def test_a_resumed_accumulation_equals_an_undisturbed_one(run, config):
    anchors = copy.deepcopy(config.model.backbone.anchors)
    for anchor in anchors:
        anchor.drop_path_rate = 0.0  # a random state is not part of a checkpoint
    changes = {
        "optim_wrapper.accumulative_counts": 3,
        "model.backbone.anchors": anchors,
        "model.decode_head.dropout_ratio": 0.0,
    }
    whole = run(**changes, **{"train_cfg.max_iters": 6})
    whole.train()
    middle = Path(whole.work_dir, "iter_3.pth")  # was due at 2, in the middle of a step
    resumed = run(**changes, **{"train_cfg.max_iters": 6}, load_from=str(middle), resume=True)
    resumed.train()
    expected = whole.model.state_dict()
    for name, value in resumed.model.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_the_best_checkpoint_is_replaced_after_the_new_one_is_saved(run, monkeypatch):
    runner = run(
        **{
            "default_hooks.checkpoint.save_best": "mIoU",
            "default_hooks.checkpoint.rule": "greater",
            "train_cfg.max_iters": 6,
            "train_cfg.val_interval": 2,
        }
    )
    scores = iter([0.1, 0.2, 0.3])
    monkeypatch.setattr(
        "mmsn.engine.loops.StitchEvaluators.evaluate", lambda self, size: {"mIoU": next(scores)}
    )
    seen = []
    original = files.whole_file

    def watch(path, *options):
        seen.append(names(runner.work_dir, "best_*"))
        return original(path, *options)

    monkeypatch.setattr(files, "whole_file", watch)
    runner.train()
    first = next(i for i, found in enumerate(seen) if found)
    assert all(seen[first:])
    assert names(runner.work_dir, "best_*") == ["best_mIoU_iter_6.pth"]


def test_a_remote_folder_keeps_its_own_backend():
    from mmsn.engine import AtomicCheckpointHook

    assert AtomicCheckpointHook(interval=1, out_dir="s3://bucket/x").backend_args is None
    assert AtomicCheckpointHook(interval=1).backend_args == dict(backend="mmsn_whole_file")
