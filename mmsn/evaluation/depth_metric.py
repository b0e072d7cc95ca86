"""The nine figures of monocular depth estimation (Eigen et al., NIPS 2014, and KITTI's SILog)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor

from mmsn.errors import UserError
from mmsn.registry import METRICS

DEPTH_METRICS = ("d1", "d2", "d3", "abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "silog")
EIGEN_ROWS, EIGEN_COLUMNS, EIGEN_SIZE = slice(45, 471), slice(41, 601), (480, 640)


def depth_errors(prediction: Tensor, truth: Tensor) -> tuple[float, ...]:
    """The values of ``DEPTH_METRICS`` over pixels ``(P,)`` of one image, all positive meters.

    With p and g a pixel's predicted and true depth and d = ln p - ln g:

    - d1, d2, d3: share of pixels with max(p/g, g/p) below 1.25, 1.25^2, 1.25^3
    - abs_rel: mean of abs(p - g) / g; sq_rel: mean of (p - g)^2 / g, meters
    - rmse: root of the mean of (p - g)^2, meters; rmse_log: root of the mean of d^2
    - log10: mean of abs(lg p - lg g)
    - silog: 100 times the standard deviation of d, which a common factor of all p does not change

    A NaN in the prediction makes all of them NaN; it does not just count as a miss.
    """
    p, g = prediction.double(), truth.double()
    if torch.isnan(p).any():
        return (math.nan,) * len(DEPTH_METRICS)
    ratio, difference = torch.maximum(p / g, g / p), p - g
    log = torch.log(p) - torch.log(g)
    values = [
        *((ratio < 1.25**k).double().mean() for k in (1, 2, 3)),
        (difference.abs() / g).mean(),
        (difference.square() / g).mean(),
        difference.square().mean().sqrt(),
        log.square().mean().sqrt(),
        log.abs().mean() / math.log(10),
        # Of these pixels, not an estimate for others: no correction.
        100 * log.std(correction=0),
    ]
    return tuple(torch.stack(values).tolist())


@METRICS.register_module()
class DepthMetric(BaseMetric):
    """Depth metrics; see `depth_errors` for what each one is.

    Each image's figures are computed alone and then averaged over the images, so that every image
    counts the same however many valid pixels it has. This is the convention of the field: an RMSE
    of NYUv2 is a mean of roots, and less than the root over all pixels.

    Valid pixels have ``min_depth < truth < max_depth``, which leaves out 0, NaN and inf.
    Predictions are clamped to ``[min_depth, max_depth]``. A prediction of NaN at a valid pixel
    makes the result NaN, with a warning. An image without a valid pixel is left out of the
    average, with a warning.

    mmseg's DepthMetric also averages per image, but it keeps every pixel of every image until the
    end (134 stitches of NYUv2's test set would take about 170 GB), does not clamp, turns one image
    without valid pixels into NaN for all, counts NaN as a miss in d1, cuts a crop made for 480x640
    out of any size, defines silog with half the variance correction and without the factor 100,
    and stops when it is given ``depth_metrics``.

    Args:
        min_depth: meters.
        max_depth: meters.
        eigen_crop: evaluate only rows 45 to 470 and columns 41 to 600 of maps of 480x640, as
            published figures do. Maps of another size are refused rather than cropped by
            proportion: figures from them would not compare, and a test pipeline that loads depth
            after the resize has the full size.
        kwargs: ``collect_device`` and ``prefix``, as BaseMetric.
    """

    def __init__(
        self,
        min_depth: float = 1e-3,
        max_depth: float = 10.0,
        eigen_crop: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not 0 < min_depth < max_depth:
            raise UserError(
                f"min_depth, max_depth are {min_depth}, {max_depth}; give 0 < min_depth < max_depth"
            )
        self.min_depth, self.max_depth, self.eigen_crop = min_depth, max_depth, eigen_crop

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Append one entry per image to ``results``: nine numbers, or none without a valid pixel.

        Raises UserError for maps of unequal or, with ``eigen_crop``, other than 480x640 pixels.
        """
        for sample in data_samples:
            where = sample.get("img_path", "an image")
            if "gt_depth_map" not in sample:
                raise UserError(
                    f"{where} has no depth map; add LoadDepthAnnotation to its pipeline"
                )
            maps = [sample[key]["data"] for key in ("pred_depth_map", "gt_depth_map")]
            prediction, truth = (m.reshape(m.shape[-2:]) for m in maps)
            if prediction.shape != truth.shape:
                raise UserError(
                    f"{where}: prediction {tuple(prediction.shape)} and depth map "
                    f"{tuple(truth.shape)} differ in size; put LoadDepthAnnotation after Resize"
                )
            # Also an image that is left out has an entry: collecting from ranks counts them.
            self.results.append(self._score(prediction, truth.to(prediction.device), where))

    def valid(self, truth: Tensor) -> Tensor:
        """(H, W) bool: which pixels of a depth map in meters count, whatever the crop.

        NaN and inf never do.
        """
        return (truth > self.min_depth) & (truth < self.max_depth)

    def _score(self, prediction: Tensor, truth: Tensor, where: str) -> tuple[float, ...]:
        if self.eigen_crop:
            if truth.shape != EIGEN_SIZE:
                raise UserError(
                    f"{where}: Eigen's crop is defined for maps of 480x640, not "
                    f"{truth.shape[0]}x{truth.shape[1]}; load depth after Resize, or set "
                    "eigen_crop=False"
                )
            prediction, truth = (m[EIGEN_ROWS, EIGEN_COLUMNS] for m in (prediction, truth))
        valid = self.valid(truth)
        if not valid.any():
            return ()
        # Clamping keeps NaN. In float64, because the variance of logarithms cancels.
        prediction = prediction.masked_select(valid).double()
        return depth_errors(
            prediction.clamp(self.min_depth, self.max_depth), truth.masked_select(valid)
        )

    def compute_metrics(self, results: Sequence[Sequence[float]]) -> dict[str, float]:
        """Average over the images; NaN for all where no image has a valid pixel."""
        scored = [entry for entry in results if len(entry)]
        if len(scored) < len(results):
            warnings.warn(
                f"{len(results) - len(scored)} of {len(results)} images have no valid depth and "
                "are left out",
                stacklevel=2,
            )
        broken = sum(math.isnan(entry[0]) for entry in scored)
        if broken:
            warnings.warn(
                f"the prediction for {broken} of {len(results)} images is not a number, and so "
                "are the metrics",
                stacklevel=2,
            )
        if not scored:
            return dict.fromkeys(DEPTH_METRICS, math.nan)
        # Over images, not pixels; an empty entry is an image without a valid pixel.
        means = torch.tensor(scored, dtype=torch.float64).mean(0).tolist()
        return dict(zip(DEPTH_METRICS, means, strict=True))
