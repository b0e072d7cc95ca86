"""Tensors that depend on the token grid alone, made once per grid and shared by all blocks.

They are deliberately not buffers: nothing here enters a state dict, follows ``.to(...)`` or is
copied with its module. A tensor is made again for each device that needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any

import torch
from torch import Tensor

Grid = tuple[int, int]  # rows and columns of patch tokens

# Tensors kept at a time; whole images come in many sizes, and a table for each would add up.
CAPACITY = 8


class GridCache:
    """A small cache of tensors that several threads may read and fill."""

    def __init__(self) -> None:
        self._tensors: dict[Hashable, Tensor] = {}
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], Tensor]) -> Tensor:
        """The tensor of this key, which names everything that ``make`` depends on."""
        found = self._tensors.get(key)
        if found is not None:
            return found
        # An inference tensor could not be used in training later, and a graph would be kept alive.
        with torch.inference_mode(False), torch.no_grad():
            made = make()
        # torch.export and torch.compile trace with stand-ins, which no later call may receive.
        if not torch.compiler.is_compiling():
            with self._lock:
                while len(self._tensors) >= CAPACITY:
                    self._tensors.pop(next(iter(self._tensors)))
                # Another thread may have been faster: all receive the same tensor.
                made = self._tensors.setdefault(key, made)
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> GridCache:
        return GridCache()

    def __reduce__(self) -> tuple[type, tuple]:
        return GridCache, ()
