"""Cells with one kind of fault, counted over all parts of a table; a sentence names the first few."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

#: Cells that a sentence names.
MAX_SHOWN = 3


@dataclass(slots=True)
class FaultyCells:
    """Cells with one kind of fault.

    Attributes:
        n: How many there are.
        first: The first few, with their rows, counted from 1, and what else is to be said of them.
    """

    n: int = 0
    first: list[str] = field(default_factory=list)

    def take(self, cell: Any, row: int, said: str = "") -> None:
        """Counts one more."""
        self.n += 1
        if len(self.first) < MAX_SHOWN:
            self.first.append(f"`{_short(cell)}` (row {row}{f', {said}' if said else ''})")

    def told(self) -> str:
        """Returns the first few and how many more there are."""
        more = f" and {self.n - len(self.first):,} more" if self.n > len(self.first) else ""
        return f"{', '.join(self.first)}{more}"


def is_empty(cell: Any) -> bool:
    """Returns whether there is nothing in a cell; one with a list is not empty."""
    return cell is None or (isinstance(cell, float) and cell != cell) or str(cell) in ("", "<NA>", "NaT")


def _short(cell: Any) -> str:
    text = f"{len(cell)} bytes" if isinstance(cell, bytes) else str(cell)
    return text if len(text) <= 80 else f"{text[:40]}..."
