"""Where an optimizer step ends, for hooks that act between steps."""

from __future__ import annotations

from typing import Any


def optim_wrappers(optim_wrapper: Any) -> list[Any]:
    """mmengine's optimizer wrappers: several where an ``OptimWrapperDict`` holds them."""
    return list(optim_wrapper.values()) if hasattr(optim_wrapper, "values") else [optim_wrapper]


def is_accumulating(optim_wrapper: Any) -> bool:
    """Whether gradients are held that no optimizer step has used yet."""
    # After an iteration, ``should_update`` tells whether that iteration ended a step.
    return any(
        wrapper._accumulative_counts > 1 and not wrapper.should_update()
        for wrapper in optim_wrappers(optim_wrapper)
    )
