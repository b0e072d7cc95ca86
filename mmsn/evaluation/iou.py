"""Areas of mmseg's ``IoUMetric`` by one count per image, for many predictions of the same labels.

``IoUMetric`` masks, compares and makes three histograms for every prediction. A confusion matrix
holds all of them, and what it needs of the labels is computed once per image. The results are
those of ``IoUMetric.intersect_and_union``, in its types and order. Other metrics, and subclasses of
this one, are left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmseg.evaluation import IoUMetric
from torch import Tensor

_PROCESS, _AREAS = IoUMetric.process, IoUMetric.intersect_and_union
# Beyond it mmseg's histograms, which count in float32, no longer count every pixel.
_MOST_PIXELS = 1 << 24

Areas = tuple[Tensor, Tensor, Tensor, Tensor]


class LabelSide:
    """What is known of an image's (H, W) labels before any prediction.

    Args:
        labels: of any integer type.
        classes: how many there are.
        ignore_index: the label of pixels that do not count.
    """

    def __init__(self, labels: Tensor, classes: int, ignore_index: int) -> None:
        self.classes, self.shape = classes, labels.shape
        labels = labels.long()
        known = (labels >= 0) & (labels < classes) & (labels != ignore_index)
        # Two more rows: ignored pixels, and labels that are not a class. Predictions there count as
        # predicted, as in mmseg, but match nothing.
        rows = labels.where(known, (labels != ignore_index).long() + classes)
        self._rows = rows.flatten() * classes
        counts = torch.bincount(rows.flatten(), minlength=classes + 2)[:classes]
        self._area_label = counts.float().cpu()

    def areas(self, prediction: Tensor) -> Areas:
        """Intersection, union, predicted and labeled area, each (classes,), in pixels.

        ``prediction`` has the shape of the labels and holds classes from 0 on, as an argmax or a
        threshold gives them.
        """
        n = self.classes
        pairs = self._rows + prediction.flatten().long()
        # Rows are labels, columns predictions; row n holds the ignored pixels.
        counts = torch.bincount(pairs, minlength=(n + 2) * n).view(n + 2, n)
        intersection = counts[:n].diagonal().float().cpu()
        predicted = (counts.sum(dim=0) - counts[n]).float().cpu()
        union = predicted + self._area_label - intersection
        return intersection, union, predicted, self._area_label.clone()


class BatchLabels:
    """The labels of one batch, for all predictions of it and all metrics that compare them."""

    def __init__(self) -> None:
        self._sides: dict[tuple[int, int, int], LabelSide] = {}

    def process(self, metric: BaseMetric, data_batch: Any, samples: Sequence[dict]) -> None:
        """What ``metric.process`` does; quicker where it is mmseg's ``IoUMetric``."""
        if not counts_areas(metric):
            metric.process(data_batch, samples)
            return
        classes, ignored = len(metric.dataset_meta["classes"]), metric.ignore_index
        found = [self._areas(i, s, classes, ignored) for i, s in enumerate(samples)]
        # All or nothing: the metric must not receive a part of the batch twice.
        if any(areas is None for areas in found):
            metric.process(data_batch, samples)
        else:
            metric.results.extend(found)

    def _areas(self, index: int, sample: dict, classes: int, ignored: int) -> Areas | None:
        """None where mmseg's own counting is not that of pixels."""
        prediction = sample["pred_sem_seg"]["data"].squeeze()
        # Metrics may differ in what they ignore, so labels are kept per metric's settings.
        key = index, classes, ignored
        if key not in self._sides:
            labels = sample["gt_sem_seg"]["data"].squeeze().to(prediction.device)
            self._sides[key] = LabelSide(labels, classes, ignored)
        side = self._sides[key]
        if side.shape != prediction.shape or not 0 < prediction.numel() < _MOST_PIXELS:
            return None
        lowest, highest = prediction.aminmax()  # a head may have more channels than classes
        return side.areas(prediction) if lowest >= 0 and highest < classes else None


def counts_areas(metric: BaseMetric) -> bool:
    """Whether this is mmseg's ``IoUMetric`` itself, which only counts."""
    return (
        type(metric) is IoUMetric
        and getattr(metric.process, "__func__", None) is _PROCESS
        and metric.intersect_and_union is _AREAS
        and not metric.format_only
        and metric.output_dir is None
        and len(metric.dataset_meta["classes"]) > 1  # of one class, histc chooses its own range
    )
