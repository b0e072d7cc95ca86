"""A budget as data: what a user may spend on one image, with its unit.

A number without a unit is refused rather than guessed: 100 may mean GFLOPs, milliseconds or a
stitch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

from mmsn.errors import UserError

Kind = Literal["id", "macs", "percent", "latency", "params"]

# by kind: the unit as it is written, and how many MACs, percent, ms or parameters one of it is
UNITS: dict[Kind, tuple[str, int]] = {
    "macs": ("G", 10**9),
    "percent": ("%", 1),
    "latency": ("ms", 1),
    "params": ("Mparams", 10**6),
}
FORMS = (
    "write '400G' (GFLOPs: 1e9 multiply-accumulates), '50%' (of the most expensive stitch's "
    "FLOPs), '25ms' or '200Mparams'"
)
# No sign, "inf" or "nan": ``float`` would read them, and none of them is a budget.
_TEXT = re.compile(
    r"([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]{1,2})?\s*(G|%|ms|Mparams)", re.IGNORECASE
)


class BudgetError(UserError):
    """A budget that cannot be read or met; the message is one line and ends in the fix."""


@dataclass(frozen=True)
class Budget:
    """At most ``amount`` of a unit, or the one stitch of this id.

    Args:
        kind: what is limited.
        amount: as the user wrote it: GFLOPs, percent, milliseconds, millions of parameters, or
            the id.
    """

    kind: Kind
    amount: float

    @property
    def limit(self) -> float:
        """The amount in multiply-accumulates, percent, milliseconds or parameters."""
        if self.kind in ("macs", "params"):  # counts are whole numbers, and 33.53 * 1e9 is not
            return round(self.amount * UNITS[self.kind][1])
        return self.amount

    def __str__(self) -> str:
        if self.kind == "id":
            return f"stitch {self.amount:g}"
        return f"{self.amount!r}".removesuffix(".0") + UNITS[self.kind][0]

    def check(self, costs: Collection[float]) -> str:
        """Is the budget one that these costs of all stitches, in units of ``limit``, allow?

        A budget above the most expensive stitch is allowed, because a server that moves to faster
        hardware should keep running: everything fits. So a model of one stitch, which has one
        cost, meets every budget from that cost on.

        Returns:
            What there is to say about it: that it is above the most expensive stitch, or nothing.

        Raises:
            BudgetError: below the cheapest stitch, with the range.
        """
        low, high = min(costs), max(costs)
        unit, scale = UNITS[self.kind]
        ends = _round(low / scale, math.ceil), _round(high / scale, math.floor)
        if len(costs) == 1:
            if self.limit < low:
                raise BudgetError(
                    f"budget {self} is below the only stitch, which costs {ends[0]}{unit}: give "
                    f"{ends[0]}{unit} or more"
                )
            return f"above the only stitch, {ends[0]}{unit}" if self.limit > high else ""
        if float(ends[0]) > float(ends[1]):  # costs are equal, and four digits are too few
            ends = f"{low / scale!r}", f"{high / scale!r}"
        if self.limit < low:
            raise BudgetError(
                f"budget {self} is below the cheapest stitch: give {ends[0]}{unit} to "
                f"{ends[1]}{unit}"
            )
        if self.limit > high:
            return f"above the most expensive stitch, {_round(high / scale, round)}{unit}"
        return ""


def parse_budget(value: str | int | Budget) -> Budget:
    """Read a budget: ``"400G"``, ``"50%"``, ``"25ms"``, ``"200Mparams"``, or a stitch's int id.

    Case does not matter, and a space may precede the unit. ``"200M"`` is refused,
    because it could be FLOPs or parameters.

    Raises:
        BudgetError: no unit, an unknown unit, or a number that is not positive and finite.
    """
    if isinstance(value, Budget):
        return value
    # A bool is an int in Python, but True is not stitch 1.
    if isinstance(value, int) and not isinstance(value, bool):
        return Budget("id", value)
    if not isinstance(value, str):
        raise BudgetError(f"budget {value!r} has no unit: {FORMS}; a stitch's id is an int")
    match = _TEXT.fullmatch(value.strip())
    if match is None:
        lacks = "has no unit" if _is_number(value) else "is not understood"
        raise BudgetError(f"budget {value!r} {lacks}: {FORMS}")
    unit = match[3].lower()
    kind = next(kind for kind, (known, _) in UNITS.items() if known.lower() == unit)
    budget = Budget(kind, float(match[1] + (match[2] or "")))
    # In this order: a long row of digits is infinite, and ``limit`` cannot round infinity.
    if budget.amount > 1e99 or budget.limit <= 0:
        raise BudgetError(f"budget {value!r} is not positive and finite: {FORMS}")
    return budget


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _round(value: float, toward: Callable[[float], int]) -> str:
    """Four digits, rounded inwards, so that what is printed is itself allowed."""
    digits = 3 - math.floor(math.log10(value))
    scaled = toward(value * 10.0**digits)
    return f"{scaled / 10.0**digits:.10g}"
