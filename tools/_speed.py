"""Timing several ways of doing one thing, in turn, so that other work slows all of them equally."""

from __future__ import annotations

import functools
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Times:
    """Seconds of each round, by wall clock and process clock."""

    wall: list[float] = field(default_factory=list)
    process: list[float] = field(default_factory=list)

    def row(self, name: str) -> list[str]:
        """Name, median and quartiles in ms, and process time, for a table."""
        low, high = quartiles(self.wall)
        return [
            name,
            f"{1e3 * statistics.median(self.wall):.2f}",
            f"{1e3 * low:.2f} to {1e3 * high:.2f}",
            f"{1e3 * statistics.median(self.process):.2f}",
        ]


def quartiles(values: list[float]) -> tuple[float, float]:
    """The first and the third; of a single value that value twice."""
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def interleave(
    ways: Mapping[str, Callable[[], Any]],
    rounds: int,
    device: Any = "cpu",
    warm_up: Callable[[], Any] | None = None,
) -> dict[str, Times]:
    """Run all ways in turn, after ``warm_up``, by default a round that does not count."""
    times = {name: Times() for name in ways}
    for way in (warm_up,) if warm_up else ways.values():
        way()
    for _ in range(rounds):
        for name, way in ways.items():
            wait(device)
            start, used = time.perf_counter(), process_seconds()
            way()
            wait(device)
            times[name].wall.append(time.perf_counter() - start)
            times[name].process.append(process_seconds() - used)
    return times


def process_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def ratio(first: Times, second: Times) -> str:
    """Ratio of the first to the second time: the median over rounds and its quartiles.

    Also by process time, which other processes disturb less; a GPU's work is not in it.
    """
    ratios = [a / b for a, b in zip(first.wall, second.wall, strict=True)]
    used = [a / b for a, b in zip(first.process, second.process, strict=True)]
    low, high = quartiles(ratios)
    return (
        f"{statistics.median(ratios):.3f} ({low:.3f} to {high:.3f}) wall, "
        f"{statistics.median(used):.3f} process"
    )


def wait(device: Any) -> None:
    """Wait until a GPU has finished."""
    if str(device).startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)


def table(titles: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, as docs/performance.md has it."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine(device: Any) -> str:
    """The device, threads and version behind a figure."""
    import torch

    if str(device).startswith("cuda"):
        name = torch.cuda.get_device_name(device)
    else:
        name = f"CPU ({torch.backends.cpu.get_cpu_capability()})"
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"


class Parts:
    """Time that calls of some functions take, each without those of the others inside it."""

    def __init__(self, device: Any) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}
        self._inner: list[float] = []  # of every call that is under way: what its inner ones took

    @contextmanager
    def measure(self, functions: Mapping[str, tuple[Any, str]]) -> Iterator[None]:
        """Inside the block, time ``owner.name`` for every ``part: (owner, name)``."""
        replaced = []
        for part, (owner, name) in functions.items():
            own = name in vars(owner)
            original = getattr(owner, name)
            setattr(owner, name, self._timed(part, original))
            replaced.append((owner, name, original, own))
        try:
            yield
        finally:
            for owner, name, original, own in replaced:
                if own:
                    setattr(owner, name, original)
                else:
                    delattr(owner, name)

    def run(self, function: Callable[[], Any]) -> None:
        """Call a function; measured as a part of its own, its time is what no other part holds."""
        function()

    def _timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)  # a function in a class stays one that takes self
        def call(*args: Any, **kwargs: Any) -> Any:
            wait(self.device)
            self._inner.append(0.0)
            start = time.process_time() if str(self.device) == "cpu" else time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                wait(self.device)
                now = time.process_time() if str(self.device) == "cpu" else time.perf_counter()
                took = now - start
                own = took - self._inner.pop()
                self.seconds[part] = self.seconds.get(part, 0.0) + own
                if self._inner:
                    self._inner[-1] += took

        return call
