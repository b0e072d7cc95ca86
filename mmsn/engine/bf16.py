"""An optimizer wrapper that trains in bfloat16 on any device.

bfloat16 has float32's range, so gradients need no scaling, and weights, gradients and optimizer
state stay float32. mmengine's ``AmpOptimWrapper`` asserts an accelerator even where none is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from torch import nn

from mmsn.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class Bf16OptimWrapper(OptimWrapper):
    """Runs the forward pass under ``torch.autocast`` to bfloat16.

    Modifications of ``OptimWrapper``: the context of the forward pass; nothing else.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast on the device that the model is on."""
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, dtype=torch.bfloat16):
            yield
