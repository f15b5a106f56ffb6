"""Counts of rows: read, answered, and what was wrong with some of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hyperagg.data.readers.columns import pluralize
from hyperagg.data.readers.parsed_rows import INVALID

__all__ = ["RowCounts"]


@dataclass
class RowCounts:
    """Count the rows of an output.

    Args:
        read: the number of rows read.
        answered: the number of rows written.
        notes: for each remark about rows how many have it, and the first of them.
    """

    read: int = 0
    answered: int = 0
    notes: dict[str, tuple[int, str]] = field(default_factory=dict)

    def note(self, remark: str, place: str) -> None:
        """Count a remark about a row; `place` names the row."""
        number, first = self.notes.get(remark, (0, place))
        self.notes[remark] = number + 1, first

    def add(self, other: RowCounts) -> None:
        """Add the counts of another output."""
        self.read += other.read
        self.answered += other.answered
        for remark, (number, place) in other.notes.items():
            own, first = self.notes.get(remark, (0, place))
            self.notes[remark] = own + number, first

    def summary(self, lines: int | None = None) -> str:
        """Return one line for people.

        Args:
            lines: the number of lines read, if the remarks are about lines (default: about rows).
        """
        parts = [f"read {pluralize(self.read, 'row')}", f"answered {self.answered:,}"]
        for remark, (number, place) in self.notes.items():
            # A damaged file has few such rows.
            is_other = remark == INVALID and number * 10 > (self.read if lines is None else lines)
            hint = "; the encoding may not be UTF-8" if is_other else ""
            parts.append(f"{remark}: {number:,} (first: {place}{hint})")
        return ", ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        notes = {remark: list(one) for remark, one in self.notes.items()}
        return {"read": self.read, "answered": self.answered, "notes": notes}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> RowCounts:
        """Return counts from the values of `to_json`."""
        notes = {remark: (one[0], one[1]) for remark, one in content["notes"].items()}
        return cls(content["read"], content["answered"], notes)
