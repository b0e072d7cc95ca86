"""Labels that do not fit the head are named before they reach it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmsn.datasets import generate_shapes
from mmsn.engine.hooks.label_hook import check_labels
from mmsn.errors import UserError

META = {"seg_map_path": "maps/a.png", "reduce_zero_label": False}


@pytest.mark.parametrize(
    ("values", "ignored", "reduced", "words"),
    [
        ([0, 3, 12], 255, False, ["label 12 in 'maps/a.png' is outside 0 to 11", "0 stands for"]),
        ([0, 3, 12], 255, True, ["label 12", "num_classes"]),
        ([0, 40, 77], 255, False, ["label 40, 77", "num_classes"]),
        ([0, 255], 0, False, ["label 255", "ignore_index is 0"]),
        ([0, 255], None, False, ["label 255", "ignore_index is None"]),
        ([-1, 2], 255, False, ["label -1"]),
        (list(range(20, 40)), 255, False, ["label 20, 21, 22, 23, 24, ... in"]),
    ],
)
def test_a_label_outside_the_classes_is_named(values, ignored, reduced, words):
    with pytest.raises(UserError) as caught:
        check_labels(torch.tensor([[values]]), 12, ignored, META | {"reduce_zero_label": reduced})
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text
    assert ("reduce_zero_label=True" in text) == ("0 stands for" in words[-1])


@pytest.mark.parametrize(("values", "ignored"), [([0, 11, 255], 255), ([0, 11], None), ([5, 7], 7)])
def test_labels_inside_the_classes_pass(values, ignored):
    check_labels(torch.tensor([[values]], dtype=torch.uint8), 12, ignored, META)


@pytest.fixture
def train(run, tmp_path):
    """Train on a copy of the shapes whose label maps are changed."""

    def make(change):
        root = tmp_path / "data"
        generate_shapes(root, num_train=4, num_val=1, size=32)
        for path in (root / "annotations" / "training").iterdir():
            Image.fromarray(change(np.asarray(Image.open(path)).copy())).save(path)
        return run(
            custom_hooks=[dict(type="mmsn.LabelHook")],
            **{
                "train_dataloader.dataset.data_root": str(root),
                "train_cfg.val_interval": 100,
                "train_cfg.max_iters": 2,
                "val_cfg.stitches": [0],
            },
        )

    return make


def test_a_run_stops_before_the_model_sees_a_wrong_label(train):
    runner = train(lambda labels: np.full_like(labels, 12))
    seen = []
    runner.model.register_forward_pre_hook(lambda *_: seen.append(1))
    with pytest.raises(UserError, match=r"label 12 in .*\.png' is outside 0 to 11 and is not 255"):
        runner.train()
    assert not seen


def test_a_crop_without_labels_and_a_batch_with_few_are_named_once(train):
    runner = train(lambda labels: np.full_like(labels, 255))
    runner.train()
    log = next(Path(runner.log_dir).glob("*.log")).read_text()
    assert log.count("has no labels, every pixel is 255") == 1
    assert log.count("100% of the first batch's pixels are ignored") == 1
    assert "check that 255 stands for unlabeled" in log
