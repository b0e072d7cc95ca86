"""A lower bound: a constant prediction, of classes and of depth."""

import numpy as np
import pytest

from mmsn.errors import UserError
from mmsn.evaluation.baseline import constant_depth, most_frequent_class
from mmsn.evaluation.depth_metric import DepthMetric


def test_the_most_frequent_class_agrees_with_the_metric_of_mmseg():
    from mmseg.evaluation import IoUMetric

    rng = np.random.default_rng(0)
    labels = [rng.choice([0, 1, 1, 3, 255], size=(20, 30)) for _ in range(4)]
    ours = most_frequent_class(labels, num_classes=5)
    metric = IoUMetric(iou_metrics=["mIoU"])
    metric.dataset_meta = dict(classes=list("abcde"))
    import torch

    for label in labels:
        sample = dict(
            pred_sem_seg=dict(data=torch.full((1, 20, 30), 1)),
            gt_sem_seg=dict(data=torch.from_numpy(label)[None]),
        )
        metric.process({}, [sample])
    theirs = metric.evaluate(len(labels))
    assert ours["mIoU"] == pytest.approx(theirs["mIoU"], abs=0.01)
    assert ours["aAcc"] == pytest.approx(theirs["aAcc"], abs=0.01)


def test_no_labeled_pixel_is_refused():
    with pytest.raises(UserError, match="no labeled pixel"):
        most_frequent_class([np.full((2, 2), 255)], 3)


def test_constant_depth_is_the_mean_of_what_is_valid():
    import torch

    maps = [torch.tensor([[1.0, 0.0], [2.0, np.nan]]), torch.tensor([[6.0, 11.0], [0.0, np.inf]])]
    found = constant_depth(lambda: iter(maps), DepthMetric(eigen_crop=False))
    # 3 m everywhere: errors of 2 and 1 in one image, and of 3 in the other
    assert found["rmse"] == pytest.approx((np.sqrt(2.5) + 3) / 2)
    with pytest.raises(UserError, match="no valid depth to average"):
        constant_depth(lambda: iter([maps[0] * 0]), DepthMetric(eigen_crop=False))
