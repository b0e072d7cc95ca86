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

    Over all valid pixels of a batch at once, as SN-Netv2's recipe takes it (after Eigen et al.,
    2014). Computed in float32 also under mixed precision. A batch without a valid pixel gives
    zero, with zero gradients, and a warning.

    mmseg's ``SiLogLoss`` is another function: it averages over images, weighs the mean by 0.5,
    takes an infinite target for valid, and its gradient is NaN for a perfect prediction and for an
    image without a valid pixel. So this is no subclass of it.

    The published code trains its first 100 iterations on the mean term alone, because its heads
    give ``relu(x) + 0.001``, whose logarithm has gradients up to 1000. ``DepthRegression`` bounds
    that gradient by 1, so there is no warm-up here, and no counter that resuming could lose.

    Args:
        mean_weight: of the squared mean; 0 ignores the scale, 1 gives the RMSE of logarithms.
        min_depth: meters; a target below is invalid.
        max_depth: meters; a target above is invalid, as is NaN.
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
        """Two (B, 1, H, W) maps of meters to a scalar; predictions below ``min_depth`` count as it.

        Raises:
            UserError: maps of different shapes.
        """
        if prediction.shape != target.shape:
            raise UserError(
                f"prediction of shape {tuple(prediction.shape)} and target of shape "
                f"{tuple(target.shape)} differ: resize the prediction first"
            )
        valid = (target >= self.min_depth) & (target <= self.max_depth)  # NaN is neither
        predicted, true = prediction[valid].float(), target[valid].float()
        if not len(true):
            print_log(
                f"No pixel of the batch has a depth of {self.min_depth} to {self.max_depth} m: "
                "its depth loss is 0",
                logger="current",
                level=logging.WARNING,
            )
            return predicted.sum()
        error = predicted.clamp(min=self.min_depth).log() - true.log()
        square = error.var(correction=0) + self.mean_weight * error.mean() ** 2
        # The square root has no gradient at 0; a loss below a millionth needs none.
        return self.loss_weight * torch.sqrt(square.clamp(min=1e-12))
