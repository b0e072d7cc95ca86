"""Neck and head modules that read one feature level, run once for stitches that share the level.

Stitches with a common beginning give equal lower levels. Convolutions that read such a level alone,
as in the lateral convolutions of UperNet, the scale heads of Semantic FPN or ``MultiLevelNeck``,
give equal results, too. Evaluation keeps them from one stitch to the next.

Which modules these are is found from shapes, so this works for any head. What is left out: modules
of classes from outside torch and OpenMMLab, which may have a state; modules with hooks inside,
which have to be called; and operators in a head's own ``forward``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from mmsn.models.complexity import NeckAndHeads, stitched_backbone, unwrap
from mmsn.models.tracing import Origins, on_meta

# Packages whose modules compute the same from the same input in evaluation mode.
_STATELESS = ("torch.", "mmcv.", "mmengine.", "mmseg.")


@torch.no_grad()
def level_modules(model: nn.Module, levels: Collection[int]) -> tuple[nn.Module, ...]:
    """Modules of neck and heads whose only input is made from a single one of these levels.

    A module inside another one of them is not listed.
    """
    backbone = stitched_backbone(model)
    real = NeckAndHeads(unwrap(model))
    traced = on_meta(real)
    inputs = backbone.zero_levels(backbone.img_size, "meta")
    inputs = tree_map_only(Tensor, torch.clone, inputs)  # class tokens share their memory
    origins, found = Origins(inputs), dict[str, None]()

    def look(name: str, module: nn.Module, args: tuple, kwargs: dict) -> None:
        if any(name.startswith(f"{outer}.") for outer in found):
            return
        alone = len(args) == 1 and isinstance(args[0], Tensor) and not kwargs
        read = origins.of(args)
        if alone and len(read) == 1 and read <= set(levels) and _is_stateless(module):
            found[name] = None

    for name, module in traced.named_modules():
        module.register_forward_pre_hook(partial(look, name), with_kwargs=True)
    with origins:
        traced(*inputs)
    return tuple(real.get_submodule(name) for name in found)


def _is_stateless(module: nn.Module) -> bool:
    """Does it compute something, and the same whenever it is called?"""
    known = all(type(part).__module__.startswith(_STATELESS) for part in module.modules())
    return known and any(True for _ in module.parameters())


class LevelMemo:
    """Keeps what modules gave for the stitch before, and gives it again for an equal input.

    Inputs are compared by content, so results are right whatever ran before. Modules get and give
    copies: what follows may write into them.

    Args:
        modules: those of ``level_modules``.
        limit: bytes to keep at most; inputs and outputs beyond are not kept.
    """

    def __init__(self, modules: Sequence[nn.Module], limit: int = 2 << 30) -> None:
        self._modules, self._limit = modules, limit
        # (input, output) of each call of each module; a sliding window calls it once per crop.
        self._kept: dict[tuple[nn.Module, int], tuple[Tensor, Tensor]] = {}
        self._calls: dict[nn.Module, int] = {}
        self._bytes = 0

    @contextmanager
    def share(self) -> Iterator[None]:
        """Share results between the stitches that run inside a ``with`` block."""
        # Replaced, because a hook cannot keep a module from running.
        replaced = [module for module in self._modules if _is_free(module)]
        for module in replaced:
            module.forward = partial(self._forward, module, module.forward)
        try:
            yield
        finally:
            for module in replaced:
                del module.forward
            self._kept.clear()
            self._bytes = 0

    def begin(self) -> None:
        """The next stitch begins: its calls are matched with those of the one before."""
        self._calls.clear()

    def _forward(
        self, module: nn.Module, run: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        call = self._calls.get(module, 0)
        self._calls[module] = call + 1
        plain = len(args) == 1 and isinstance(args[0], Tensor) and not kwargs
        # Dropout alone may be in training mode, to draw several predictions.
        trains = any(part.training for part in module.modules())
        if not plain or trains or torch.is_grad_enabled():
            return run(*args, **kwargs)
        given: Tensor = args[0]
        kept = self._kept.get((module, call))
        if kept is not None and _equal(kept[0], given):
            return kept[1].clone()
        before = given.clone()  # the module may write into its input
        out = run(given)
        if kept is not None:
            del self._kept[module, call]
            self._bytes -= sum(tensor.nbytes for tensor in kept)
        if isinstance(out, Tensor) and self._bytes + before.nbytes + out.nbytes <= self._limit:
            self._kept[module, call] = before, out.clone()
            self._bytes += before.nbytes + out.nbytes
        return out


def _is_free(module: nn.Module) -> bool:
    """Whether its forward pass is that of its class, and no module inside it has hooks."""
    inside = (part for part in module.modules() if part is not module)
    hooks = any(part._forward_hooks or part._forward_pre_hooks for part in inside)
    return not hooks and "forward" not in vars(module)


def _equal(kept: Tensor, given: Tensor) -> bool:
    """Same values in the same layout; which kernel runs may depend on the layout."""
    same = (kept.shape, kept.dtype, kept.device) == (given.shape, given.dtype, given.device)
    # A copy of what is not dense has other strides; then nothing is shared.
    return same and kept.stride() == given.stride() and torch.equal(kept, given)
