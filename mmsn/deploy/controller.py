"""Keeping a latency target while the load of the machine changes.

The controller reads no clock and runs no model: it receives the time of each pass and returns the
stitch to run next.

    controller = LatencyController(menu.frontier_ms(), target_ms=40)
    while ...:
        start = time.perf_counter()
        with model.backbone.use_stitch(controller.stitch):
            model.test_step(data)
        controller.observe(1e3 * (time.perf_counter() - start))
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from mmsn.errors import UserError

PATIENCE = 10  # observations


@dataclass
class _Climb:
    """When a position was reached, at which slowdown, and how long a step down would block it."""

    at: int
    slow_down: float
    wait: int
    not_before: int = 0

    def fall(self, now: int) -> None:
        # A step up that lasted longer than its wait was right; the step down has another cause.
        held = now - self.at > self.wait
        self.wait = PATIENCE if held else 2 * self.wait
        self.not_before = now + self.wait


class LatencyController:
    """Walks along a frontier so that the time of a pass stays within a target.

    The *slowdown* is a running mean of the measured time divided by the time in the table. A
    stitch is expected to take its table time multiplied by the slowdown. If the current stitch is
    expected to miss the target, the controller goes down to the most expensive one that is not, by
    at most ``max_steps``. If the next more expensive one is expected to stay below
    ``1 - hysteresis`` of the target, it goes up by one. Measured times may therefore vary by
    ``hysteresis / 2`` around a constant load without causing a switch back and forth.

    Load may slow an expensive stitch more than the one before it, so that a step up has to be
    undone. It is then retried after ``PATIENCE`` observations, after twice as many the next time,
    and so on, or immediately when the slowdown has fallen by ``hysteresis`` below its value at
    that step.

    Args:
        latencies: milliseconds by stitch on the idle machine, from fast to slow; see
            ``StitchMenu.frontier_ms``.
        target_ms: that no pass should exceed.
        hysteresis: between 0 and 1.
        smoothing: weight of the newest measurement, above 0 and at most 1.
        max_steps: how far down one observation may lead.

    Raises:
        UserError: values outside their ranges, or latencies that do not rise.
    """

    def __init__(
        self,
        latencies: Mapping[int, float],
        target_ms: float,
        hysteresis: float = 0.1,
        smoothing: float = 0.3,
        max_steps: int = 4,
    ) -> None:
        self.ids, self._ms = tuple(latencies), tuple(latencies.values())
        rising = all(a < b for a, b in pairwise(self._ms))
        if not self._ms or not rising or not 0 < self._ms[0] <= self._ms[-1] < math.inf:
            raise UserError(
                f"latencies {dict(latencies)} are not allowed: give milliseconds by stitch, from "
                "fast to slow, as menu.frontier_ms() does"
            )
        for text, allowed, rule in (
            (f"target_ms {target_ms}", 0 < target_ms < math.inf, "more than 0, and finite"),
            (f"hysteresis {hysteresis}", 0 < hysteresis < 1, "a number between 0 and 1"),
            (f"smoothing {smoothing}", 0 < smoothing <= 1, "more than 0 and at most 1"),
            (f"max_steps {max_steps}", max_steps >= 1, "1 or more"),
        ):
            if not allowed:
                raise UserError(f"{text} is not allowed: give {rule}")
        self.target_ms, self.hysteresis = target_ms, hysteresis
        self.smoothing, self.max_steps = smoothing, max_steps
        # Invariant: ``stitch`` changes in ``observe`` only: one up, or at most ``max_steps`` down.
        # The table is of an idle machine, so this is the load to begin with.
        self.slow_down = 1.0
        self._position = max((k for k in range(len(self._ms)) if self._fits(k)), default=0)
        self._observations = 0
        self._climbs: dict[int, _Climb] = {}  # the latest to each position

    @property
    def stitch(self) -> int:
        """The id to run next."""
        return self.ids[self._position]

    def observe(self, ms: float) -> int:
        """Record how long a pass of ``stitch`` took; returns the id to run next.

        Raises:
            UserError: a time that is not positive and finite.
        """
        if not 0 < ms < math.inf:
            raise UserError(f"a pass of {ms} ms is not allowed: give a positive, finite time")
        self._observations += 1
        # Relative to the table, so that the measurement of one stitch applies to all.
        ratio = ms / self._ms[self._position]
        self.slow_down += self.smoothing * (ratio - self.slow_down)
        if not self._fits(self._position):
            self._descend()
        elif self._may_climb(self._position + 1):
            self._position += 1
            # The wait is kept after a step up: it doubles with each step down from this position.
            last = self._climbs.get(self._position)
            wait = last.wait if last else PATIENCE
            self._climbs[self._position] = _Climb(self._observations, self.slow_down, wait)
        return self.stitch

    def _expected(self, position: int) -> float:
        return self.slow_down * self._ms[position]

    def _fits(self, position: int) -> bool:
        return self._expected(position) <= self.target_ms

    def _descend(self) -> None:
        lowest = max(0, self._position - self.max_steps)
        while self._position > lowest and not self._fits(self._position):
            # Every position on the way down counts, also those that are only passed through.
            climb = self._climbs.get(self._position)
            if climb is not None:
                climb.fall(self._observations)
            self._position -= 1

    def _may_climb(self, position: int) -> bool:
        if position == len(self._ms):
            return False
        roomy = self._expected(position) <= self.target_ms * (1 - self.hysteresis)
        climb = self._climbs.get(position)
        if climb is None or not roomy:
            return roomy
        # The load is lower than at the step that had to be undone: the wait has no reason any more.
        eased = self.slow_down <= climb.slow_down * (1 - self.hysteresis)
        return eased or self._observations >= climb.not_before
