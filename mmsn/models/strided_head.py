"""A SETR head with a cheaper training loss, for trainings on a CPU.

At small backbones the loss costs a large part of a step: nearly half in a profile of DeiT-Ti at
192x256 with 39 classes on one thread, for resizing logits, cross-entropy and mmseg's training
accuracy. Prediction is left as it is.
"""

from __future__ import annotations

from typing import Any

from mmseg.models.decode_heads import SETRUPHead
from mmseg.models.utils import resize
from torch import Tensor, nn

from mmsn.errors import UserError
from mmsn.registry import MODELS


@MODELS.register_module()
class StridedSETRUPHead(SETRUPHead):
    """Compares logits with every ``label_stride``-th row and column of the labels.

    Modifications of ``SETRUPHead``: the loss, which also leaves out the training accuracy, and
    pixel samplers, which are refused.

    Args:
        label_stride: 1 is all pixels.
        args, kwargs: as ``SETRUPHead``.
    """

    def __init__(self, *args: Any, label_stride: int = 2, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if label_stride < 1 or self.sampler is not None:
            raise UserError(
                f"label_stride {label_stride} with sampler {self.sampler!r} is not allowed: give a "
                "stride of 1 or more, and sampler=None"
            )
        self.label_stride = label_stride

    def loss_by_feat(self, seg_logits: Tensor, batch_data_samples: list) -> dict[str, Tensor]:
        """Losses of (B, classes, h, w) logits, by name."""
        stride = self.label_stride
        labels = self._stack_batch_gt(batch_data_samples).squeeze(1)[:, ::stride, ::stride]
        logits = resize(
            seg_logits, size=labels.shape[1:], mode="bilinear", align_corners=self.align_corners
        )
        losses: dict[str, Tensor] = {}
        decode = self.loss_decode
        for loss in decode if isinstance(decode, nn.ModuleList) else [decode]:
            name, value = str(loss.loss_name), loss(logits, labels, ignore_index=self.ignore_index)
            losses[name] = losses.get(name, 0) + value  # losses of one name add up, as in mmseg
        return losses
