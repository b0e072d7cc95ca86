"""Metrics of predictions without a network: a lower bound for every result."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch

from mmsn.errors import UserError
from mmsn.evaluation.depth_metric import DepthMetric


def most_frequent_class(
    labels: Iterable[np.ndarray], num_classes: int, ignore_index: int = 255
) -> dict[str, float]:
    """Metrics, in percent, of predicting the most frequent class of these labels for every pixel.

    Args:
        labels: (H, W) maps of class numbers.
        num_classes: number of classes; mIoU is the mean over those that occur.
        ignore_index: pixels with this number count nowhere.

    Returns:
        ``aAcc`` and ``mIoU``, defined as mmseg's ``IoUMetric`` defines them.
    """
    counts = np.zeros(num_classes, dtype=np.int64)
    for label in labels:
        counts += np.bincount(label[label != ignore_index].ravel(), minlength=num_classes)
    if not counts.sum():
        raise UserError("there is no labeled pixel to count")
    share = 100 * counts.max() / counts.sum()
    return {"aAcc": float(share), "mIoU": float(share / np.count_nonzero(counts))}


def constant_depth(
    maps: Callable[[], Iterable[torch.Tensor]], metric: DepthMetric
) -> dict[str, float]:
    """Depth metrics of predicting the mean depth of these images for every pixel.

    Args:
        maps: gives the (H, W) depth maps in meters; called twice, so that they need not all be in
            memory.
        metric: scores them, and says which depths are valid. It has to be a fresh one.
    """
    total, count = 0.0, 0
    for truth in maps():
        valid = truth[metric.valid(truth)]
        total, count = total + valid.double().sum().item(), count + valid.numel()
    if not count:
        raise UserError("there is no valid depth to average")
    for truth in maps():
        constant = torch.full_like(truth, total / count)
        samples = dict(pred_depth_map=dict(data=constant), gt_depth_map=dict(data=truth))
        metric.process({}, [samples])
    return metric.compute_metrics(metric.results)
