"""The scale-invariant logarithmic loss for depth."""

from __future__ import annotations

import logging

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmsn.errors import UserError
from mmsn.registry import MODELS


@MODELS.register_module()
class SILogLoss(nn.Module):
    """``sqrt(Var(g) + mean_weight * mean(g)^2)`` of ``g = log(prediction) - log(target)``.

    Computed over all valid pixels of a batch at once, as in SN-Netv2's recipe (after Eigen et al.,
    2014), and in float32 even under mixed precision. A batch without a valid pixel has zero loss
    and zero gradients, and logs a warning.

    mmseg's ``SiLogLoss`` is a different function and not a base class of this one: it averages over
    images, weights the mean by 0.5, treats infinite targets as valid, and its gradient is NaN for a
    perfect prediction and for an image without a valid pixel.

    The published code trains its first 100 iterations on the mean term alone, because its heads
    output ``relu(x) + 0.001``, whose logarithm has gradients up to 1000. ``DepthRegression`` bounds
    that gradient by 1, so there is no warm-up here, and no counter that resuming could lose.

    Args:
        mean_weight: of the squared mean; 0 ignores the scale, 1 gives the RMSE of logarithms.
        min_depth: meters; targets below are invalid.
        max_depth: meters; targets above are invalid, as is NaN.
        loss_weight: factor on the result.
    """

    loss_name = "loss_silog"

    def __init__(
        self,
        mean_weight: float = 0.15,
        min_depth: float = 1e-3,
        max_depth: float = 10.0,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if not 0 < min_depth < max_depth:
            raise UserError(
                f"depth range {min_depth} to {max_depth} is not allowed: give 0 < min < max, in "
                "meters"
            )
        self.mean_weight, self.loss_weight = mean_weight, loss_weight
        self.min_depth, self.max_depth = min_depth, max_depth

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Two (B, 1, H, W) maps in meters to a scalar; predictions are clamped to ``min_depth``.

        Raises:
            UserError: maps of different shapes.
        """
        if prediction.shape != target.shape:
            raise UserError(
                f"prediction of shape {tuple(prediction.shape)} and target of shape "
                f"{tuple(target.shape)} differ: resize the prediction first"
            )
        valid = (target >= self.min_depth) & (target <= self.max_depth)  # False for NaN
        predicted, true = prediction[valid].float(), target[valid].float()
        if not len(true):
            print_log(
                f"No pixel of the batch has a depth of {self.min_depth} to {self.max_depth} m: "
                "its depth loss is 0",
                logger="current",
                level=logging.WARNING,
            )
            return predicted.sum()  # 0, and part of the graph, as DistributedDataParallel needs
        error = predicted.clamp(min=self.min_depth).log() - true.log()
        square = error.var(correction=0) + self.mean_weight * error.mean() ** 2
        # The gradient of the square root is infinite at 0; clamping makes it 0 below a loss of
        # 1e-6.
        return self.loss_weight * torch.sqrt(square.clamp(min=1e-12))
