"""A record of what an adoption changes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Change:
    """One thing that was changed: where, to what, and why."""

    key: str
    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.key}: {self.what} ({self.why})"


@dataclass
class ChangeLog:
    """Changes in the order in which they were made, and notes on what was left as it was."""

    changes: list[Change] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, key: str, what: str, why: str) -> None:
        """Record a change."""
        self.changes.append(Change(key, what, why))

    def set(self, path: str, owner: Any, key: str, value: Any, why: str) -> None:
        """Set ``owner[key]``, where ``path`` leads to the owner; nothing, where it is that."""
        before = owner.get(key)
        if before != value:
            owner[key] = value
            self.add(f"{path}.{key}" if path else key, f"{before!r} -> {value!r}", why)
