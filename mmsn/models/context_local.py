"""A value that one thread sets and no other sees.

One set of weights may serve several requests at a time, each with a stitch of its own.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_SUSPENDABLE = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
# Frames between a ``with`` statement and the code here: helpers that are generators themselves.
_HELPERS = (contextlib.__file__, str(Path(__file__).parents[1]))


class _Block(Generic[T]):
    """One ``with`` block that holds a value, above the blocks that were open when it began.

    A context variable belongs to a thread, but a generator suspended in a ``with`` block leaves its
    block open while others run. So blocks know which generator they are in (``frame``), and which
    open blocks belong to generators that were suspended when they began (``strangers``): those
    generators must not see this block when they resume.
    """

    def __init__(self, value: T, below: tuple[_Block[T], ...], frame: FrameType | None) -> None:
        self.value, self.frame = value, frame
        self.is_over = False  # in every thread and task, not only where it began
        suspendable = [block for block in below if block.frame is not None]
        running = _running_frames() if suspendable else set()
        self.strangers = tuple(block for block in suspendable if block.frame not in running)

    def is_hidden(self) -> bool:
        """Whether a generator is running that was suspended when this block began."""
        frames = {block.frame for block in self.strangers} - {None}
        return bool(frames) and not frames.isdisjoint(_running_frames())


class ContextLocal(Generic[T]):
    """A ``ContextVar`` that may be a module's attribute: copies and pickles of it start empty.

    Threads and asyncio tasks have values of their own; a task starts with its creator's. Generators
    that are suspended inside a ``with`` block have values of their own, too. Code outside sees the
    block of a suspended generator, because that may be what ``contextlib.contextmanager`` makes of
    a function.
    """

    def __init__(self) -> None:
        self._blocks: ContextVar[tuple[_Block[T], ...]] = ContextVar("mmsn", default=())

    def get(self) -> T | None:
        """The value that holds where this is called; None where none is set."""
        for block in reversed(self._blocks.get()):
            if not block.is_over and not block.is_hidden():
                return block.value
        return None

    @contextmanager
    def use(self, value: T) -> Iterator[T]:
        """Hold a value inside a ``with`` block; the one before comes back at its end."""
        before = self._blocks.get()
        block = _Block(value, before, _suspendable_caller())
        token = self._blocks.set((*before, block))
        try:
            yield value
        finally:
            now = self._blocks.get()
            block.frame = None
            try:
                self._blocks.reset(token)  # only to learn whether this is where the block began
            except ValueError:  # a generator that another thread has closed
                block.is_over = True
            else:
                # Not back to what was before: blocks of generators may end in any order.
                self._blocks.set(tuple(b for b in now if b is not block))

    def __deepcopy__(self, memo: dict[int, Any]) -> ContextLocal[T]:
        return ContextLocal()

    def __reduce__(self) -> tuple[type, tuple]:
        return ContextLocal, ()


def _running_frames() -> set[FrameType]:
    frames: set[FrameType] = set()
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        frames.add(frame)
        frame = frame.f_back
    return frames


def _suspendable_caller() -> FrameType | None:
    """The generator or coroutine in whose body the ``with`` statement stands, if there is one."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_HELPERS):
        frame = frame.f_back
    return frame if frame is not None and frame.f_code.co_flags & _SUSPENDABLE else None
