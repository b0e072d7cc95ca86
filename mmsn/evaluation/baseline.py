"""What a prediction without a network reaches: the floor that every result must clear."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def most_frequent_class(
    labels: Iterable[np.ndarray], num_classes: int, ignore_index: int = 255
) -> dict[str, float]:
    """Metrics, in percent, of calling every pixel the most frequent class of these very labels.

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
        raise ValueError("there is no labelled pixel to count")
    share = 100 * counts.max() / counts.sum()
    return {"aAcc": float(share), "mIoU": float(share / np.count_nonzero(counts))}
