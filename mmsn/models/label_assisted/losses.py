"""Channel-wise distillation, by which both teachers and students are compared."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from mmsn.errors import UserError


def channel_wise_distillation(logits: Tensor, target: Tensor, temperature: float = 4.0) -> Tensor:
    """Divergence of two maps of where each class is (arXiv:2011.13256), as LAD uses it.

    Each channel becomes a distribution over positions. The loss is the Kullback-Leibler divergence
    from the target's, averaged over images and channels, times the squared temperature.

    Args:
        logits: (B, K, h, w).
        target: (B, K, h', w'), resized to (h, w) where they differ; receives no gradient.
        temperature: by which both are divided.

    Raises:
        UserError: another number of channels.
    """
    if logits.shape[:2] != target.shape[:2]:
        raise UserError(
            f"logits of {tuple(logits.shape[:2])} images and classes cannot be compared with "
            f"{tuple(target.shape[:2])} of the teacher: give both the same num_classes"
        )
    target = target.detach()
    if logits.shape[2:] != target.shape[2:]:
        target = F.interpolate(target, logits.shape[2:], mode="bilinear", align_corners=False)
    # Half precision would round the sum over positions.
    own = (logits.float() / temperature).flatten(2).log_softmax(-1)
    wanted = (target.float() / temperature).flatten(2).log_softmax(-1)
    total = F.kl_div(own, wanted, reduction="sum", log_target=True)
    return total * temperature**2 / (logits.shape[0] * logits.shape[1])
