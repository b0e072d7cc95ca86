"""A value that one thread sets and no other sees.

One set of weights may serve several requests at a time, each with a stitch of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class ContextLocal(Generic[T]):
    """A ``ContextVar`` that may be a module's attribute: copies and pickles of it start empty."""

    def __init__(self) -> None:
        self._var: ContextVar[T | None] = ContextVar("mmsn", default=None)

    def get(self) -> T | None:
        """The value of this thread, or of this asyncio task; None where none is set."""
        return self._var.get()

    @contextmanager
    def use(self, value: T) -> Iterator[T]:
        """Hold a value inside a ``with`` block; the one before comes back at its end."""
        token = self._var.set(value)
        try:
            yield value
        finally:
            self._var.reset(token)

    def __deepcopy__(self, memo: dict[int, Any]) -> ContextLocal[T]:
        return ContextLocal()

    def __reduce__(self) -> tuple[type, tuple]:
        return ContextLocal, ()
