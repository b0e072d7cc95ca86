"""A teacher and its stitched student in whole runs: train, resume, evaluate, test plainly."""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.runner import load_checkpoint
from mmseg.registry import MODELS

from mmsn.engine.hooks.cost_hook import TRAINING_COST
from mmsn.models import step_macs, stitched_backbone, training_macs
from mmsn.models.complexity import STEP_PASSES
from mmsn.stitching import draw_parts
from tests.engine.conftest import SIZE
from tests.engine.reading import hooks, log_of

SIZES = (SIZE, SIZE)


def cost_of(runner):
    return runner.message_hub.get_info(TRAINING_COST)


@pytest.fixture
def plain(config):
    """The segmentor's config; without random depth, so that runs are equal bit for bit."""
    model = config.model.copy()
    model.backbone.anchors[0].pop("drop_path_rate")
    model.decode_head.dropout_ratio = 0
    return model


@pytest.fixture
def teacher_file(run, plain):
    """A teacher, trained for four iterations; its file."""
    model = dict(_delete_=True, type="mmsn.LabelAssistedTeacher", module=plain)
    runner = run(model=model, custom_hooks=[dict(type="mmsn.TrainingCostHook")])
    runner.train()
    # Two passes through the stitch that is set, with labels; pairs of images, four times.
    (stitch,) = stitched_backbone(runner.model).training_stitches
    of_step = step_macs(runner.model, SIZES)[stitch.id]
    assert of_step > 2 * STEP_PASSES * training_macs(runner.model, SIZES)[stitch.id]
    assert cost_of(runner) == dict(train_macs=4 * 2 * of_step, images_seen=8)
    losses = ("path0.decode.loss_ce", "path1.decode.loss_ce", "loss_consistency")
    assert all(f"{name}: " in log_of(runner) for name in losses)
    assert runner.model.label_stems[1].weight.abs().sum() > 0
    return str(Path(runner.work_dir) / "iter_4.pth")


def test_students_train_resume_and_are_tested_as_plain_segmentors(run, plain, teacher_file):
    teacher = dict(module=plain, checkpoint=teacher_file)
    student = dict(_delete_=True, type="mmsn.LabelAssistedStudent", module=plain, teacher=teacher)

    def changes():  # mmengine takes the key _delete_ out of what it merges
        costs = dict(type="mmsn.TrainingCostHook", before_macs=7, before_images=5)
        return dict(model=copy.deepcopy(student), custom_hooks=[*hooks(parts=2), costs])

    whole = run(**changes())
    whole.train()
    assert "loss_distillation: " in log_of(whole)
    # Two stitches an iteration, one image each.
    draws = next(hook.groups for hook in whole.hooks if hasattr(hook, "groups"))
    macs = step_macs(whole.model, SIZES)
    drawn = [i for iteration in range(4) for i in draw_parts(draws, 0, iteration, 2)]
    assert cost_of(whole) == dict(train_macs=7 + sum(macs[i] for i in drawn), images_seen=13)
    assert "Initialized 3 stitching layers by least squares" in log_of(whole)

    # the checkpoint of iteration 2 continues to the same network
    half = str(Path(whole.work_dir) / "iter_2.pth")
    rest = run(**changes(), load_from=half, resume=True)
    rest.train()
    expected = whole.model.state_dict()
    assert all(torch.equal(expected[k], v) for k, v in rest.model.state_dict().items())
    assert cost_of(rest) == cost_of(whole)

    last = str(Path(whole.work_dir) / "iter_4.pth")
    tested = run(**{"load_from": last, "test_cfg.stitches": [0, 4]}).test()
    alone = run(**changes(), **{"load_from": last, "test_cfg.stitches": [0, 4]}).test()
    assert tested == alone
    bare = MODELS.build(plain)
    load_checkpoint(bare, last, strict=True)
    assert stitched_backbone(bare).uninitialized == ()
