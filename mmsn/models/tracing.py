"""What a module computes and holds, counted operator by operator.

Nothing is computed: the module is copied onto PyTorch's meta device, where tensors have shapes and
no values, and the operators that its forward pass calls are counted there. So a count takes
milliseconds, no memory, and touches no module that another thread may be running.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten


def _elements(scale: int) -> Callable[..., int]:
    return lambda out, *args, **kwargs: scale * out.numel()


def _norm(affine: int, plain: int, weight_at: int) -> Callable[..., int]:
    def macs(out: Any, *args: Any, **kwargs: Any) -> int:
        return args[0].numel() * (plain if args[weight_at] is None else affine)

    return macs


def _is_pooling(dims: Any) -> bool:
    """Pooling to one pixel becomes a mean over the last two dimensions."""
    return isinstance(dims, list) and dims == [-1, -2]


# Per element, as fvcore counts operators that are not matrix products; all others are free.
_BESIDES_PRODUCTS: dict[Any, Callable[..., int]] = {
    aten.native_layer_norm: _norm(5, 4, 2),
    aten.native_group_norm: _norm(5, 4, 1),
    aten.native_batch_norm: _norm(2, 1, 1),
    aten._native_batch_norm_legit_no_training: _norm(2, 1, 1),
    aten.cudnn_batch_norm: _norm(2, 1, 1),
    aten.upsample_nearest2d: _elements(1),
    aten.upsample_bilinear2d: _elements(4),
    aten.grid_sampler_2d: _elements(4),
    aten._adaptive_avg_pool2d: lambda out, image, *args, **kwargs: image.numel(),
    aten.mean: lambda out, image, dims=(), *args, **kwargs: image.numel() * _is_pooling(dims),
}


def _macs(function: Any, args: tuple, kwargs: dict, out: Any) -> int:
    """Multiply-accumulates of one call of an operator."""
    operator = function.overloadpacket
    if operator in flop_registry:  # there, a multiply-accumulate is two
        return flop_registry[operator](*args, **kwargs, out_val=out) // 2
    if operator in _BESIDES_PRODUCTS:
        return _BESIDES_PRODUCTS[operator](out, *args, **kwargs)
    return 0


class MacCounter(TorchDispatchMode):
    """Counts multiply-accumulates of the operators called inside a ``with`` block."""

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = function(*args, **kwargs)
        self.macs += _macs(function, args, kwargs, out)
        return out


class Origins(TorchDispatchMode):
    """Follows, inside a ``with`` block, which inputs every result was made from.

    ``macs`` counts multiply-accumulates by the positions of the inputs that they read.

    Args:
        inputs: tensors or trees of them; no two share memory.
    """

    def __init__(self, inputs: Sequence[Any]) -> None:
        super().__init__()
        self.macs: Counter[frozenset[int]] = Counter()
        # By storage, so that views and writes in place are followed. The weak reference keeps the
        # key from being used again after the storage is freed.
        self._found: dict[int, tuple[StorageWeakRef, frozenset[int]]] = {}
        for position, tree in enumerate(inputs):
            self._mark(tree, frozenset({position}))

    def of(self, tree: Any) -> frozenset[int]:
        """Positions of the inputs from which the tensors of a tree were made."""
        positions: frozenset[int] = frozenset()
        for tensor in tree_leaves(tree):
            if isinstance(tensor, Tensor):
                found = self._found.get(_storage(tensor).cdata)
                positions |= found[1] if found else frozenset()
        return positions

    def _mark(self, tree: Any, positions: frozenset[int]) -> None:
        for tensor in tree_leaves(tree):
            if isinstance(tensor, Tensor):
                reference = _storage(tensor)
                self._found[reference.cdata] = reference, positions

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        positions = self.of((args, kwargs))
        out = function(*args, **kwargs)
        self._mark(out, positions)
        self.macs[positions] += _macs(function, args, kwargs, out)
        return out


class LiveBytes(TorchDispatchMode):
    """Measures how many bytes of tensors made inside a ``with`` block are alive, at most.

    Memory that an operator's kernel allocates and frees itself is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        given = {_storage(x).cdata for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and _storage(tensor).cdata not in given:
                self.add(tensor)
        self.hold(0)
        return out

    def hold(self, size: int) -> None:
        """Count bytes that are held briefly, in addition to all live tensors."""
        self._live = {k: v for k, v in self._live.items() if not v[0].expired()}
        self.peak = max(self.peak, size + sum(alive for _, alive in self._live.values()))

    def add(self, tensor: Tensor) -> None:
        """Count a tensor that existed before the block."""
        reference = StorageWeakRef(tensor.untyped_storage())
        self._live[reference.cdata] = reference, tensor.untyped_storage().nbytes()


def _storage(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())


def on_meta(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode without values; the module itself is only read."""
    memo: dict[int, Any] = {}
    for tensor in chain(module.parameters(), module.buffers()):
        empty = torch.empty_like(tensor, device="meta")
        memo[id(tensor)] = nn.Parameter(empty) if isinstance(tensor, nn.Parameter) else empty
    return copy.deepcopy(module, memo).eval()
