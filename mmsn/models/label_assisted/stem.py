"""A fourth input channel for any backbone, without changing one of its parameters.

A convolution is linear, so one over image and label map is the sum of one over each. The backbone
keeps its own stem, under its own names; a second, zero-initialized convolution of the label map is
added to its output. With three channels, the backbone is what it was.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from mmsn.errors import UserError
from mmsn.models.tracing import MacCounter, on_meta


class LabelStems(nn.ModuleList):
    """The convolutions of the label map, one for each convolution that reads images.

    Hooks on the backbone's stems split a fourth channel off and add its convolution, so the label
    map takes the way of the image through padding and through the parts of a batch.

    Args:
        backbone: any, whose stems are the ``Conv2d`` with three input channels; several in a
            stitched one.

    Raises:
        UserError: there is none.
    """

    def __init__(self, backbone: nn.Module) -> None:
        stems = [m for m in backbone.modules() if isinstance(m, nn.Conv2d) and m.in_channels == 3]
        if not stems:
            raise UserError(
                f"{type(backbone).__name__} has no Conv2d that reads three channels, to which a "
                "label map could be added: choose another backbone"
            )
        super().__init__(_label_convolution(stem) for stem in stems)
        for stem, conv in zip(stems, self, strict=True):
            _Split(cast(nn.Conv2d, conv)).register(stem)

    def macs(self, stem: int, image_size: tuple[int, int]) -> int:
        """Multiply-accumulates of one stem's convolution of a (height, width) label map."""
        conv = cast(nn.Conv2d, self[stem])
        # Backbones pad to whole patches, which are as far apart as the stride says.
        sides = [
            -(-side // step) * step for side, step in zip(image_size, conv.stride, strict=True)
        ]
        with MacCounter() as counter:
            on_meta(conv)(torch.zeros(1, 1, *sides, device="meta"))
        return counter.macs


def _label_convolution(stem: nn.Conv2d) -> nn.Conv2d:
    conv = nn.Conv2d(
        1,
        stem.out_channels,
        cast(Any, stem.kernel_size),
        cast(Any, stem.stride),
        cast(Any, stem.padding),
        cast(Any, stem.dilation),
        bias=False,
        padding_mode=stem.padding_mode,
    )
    nn.init.zeros_(conv.weight)
    return conv


class _Split:
    """The hooks of one stem; an object, so that a copy of the model gets hooks of its own."""

    def __init__(self, conv: nn.Conv2d) -> None:
        self.conv = conv
        self.label: Tensor | None = None  # between the two hooks of one call

    def register(self, stem: nn.Module) -> None:
        stem.register_forward_pre_hook(self.before)
        stem.register_forward_hook(self.after)

    def before(self, stem: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor] | None:
        """Take a fourth channel away from the stem's input: (B, 4, H, W) to (B, 3, H, W)."""
        image = args[0]
        self.label = image[:, 3:] if image.shape[1] == 4 else None
        return None if self.label is None else (image[:, :3],)

    def after(self, stem: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        """Add the convolution of what was taken away to the (B, C, h, w) output."""
        label, self.label = self.label, None
        return None if label is None else torch.add(output, self.conv(label))
