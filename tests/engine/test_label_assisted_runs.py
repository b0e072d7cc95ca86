"""A teacher and its stitched student in whole runs: train, resume, evaluate, test plainly."""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.runner import load_checkpoint
from mmseg.registry import MODELS

from mmsn.models import stitched_backbone
from tests.engine.reading import hooks, log_of


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
    runner = run(model=model)
    runner.train()
    losses = ("path0.decode.loss_ce", "path1.decode.loss_ce", "loss_consistency")
    assert all(f"{name}: " in log_of(runner) for name in losses)
    assert runner.model.label_stems[1].weight.abs().sum() > 0
    return str(Path(runner.work_dir) / "iter_4.pth")


def test_students_train_resume_and_are_tested_as_plain_segmentors(run, plain, teacher_file):
    teacher = dict(module=plain, checkpoint=teacher_file)
    student = dict(_delete_=True, type="mmsn.LabelAssistedStudent", module=plain, teacher=teacher)

    def changes():  # mmengine takes the key _delete_ out of what it merges
        return dict(model=copy.deepcopy(student), custom_hooks=hooks(parts=2))

    whole = run(**changes())
    whole.train()
    assert "loss_distillation: " in log_of(whole)
    assert "Initialized 3 stitching layers by least squares" in log_of(whole)

    # the checkpoint of iteration 2 continues to the same network
    half = str(Path(whole.work_dir) / "iter_2.pth")
    rest = run(**changes(), load_from=half, resume=True)
    rest.train()
    expected = whole.model.state_dict()
    assert all(torch.equal(expected[k], v) for k, v in rest.model.state_dict().items())

    last = str(Path(whole.work_dir) / "iter_4.pth")
    tested = run(**{"load_from": last, "test_cfg.stitches": [0, 4]}).test()
    alone = run(**changes(), **{"load_from": last, "test_cfg.stitches": [0, 4]}).test()
    assert tested == alone
    bare = MODELS.build(plain)
    load_checkpoint(bare, last, strict=True)
    assert stitched_backbone(bare).uninitialized == ()
