"""What every format of rows is parsed to.

Every generator of a format yields the rows that one block of the file completes, so that a row that
has arrived through a pipe is answered. A row that cannot be parsed has an empty text and a problem;
what becomes of it is decided in `hyperagg.data.readers.stream`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["BLANK_LINE", "INVALID", "ParsedRows", "name_lines"]

BLANK_LINE = "blank line"
INVALID = "invalid UTF-8"

Kind = Literal["lines", "fasttext", "separated", "json", "parquet"]


@dataclass
class ParsedRows:
    """Hold rows as they come out of a format.

    Args:
        texts: one per row; empty where there is none.
        kept: for each kept column one value per row; None where there is none.
        lines: the number of the line that each row begins on, counted from 1; empty for Parquet.
        last_lines: the index of a malformed row of several lines -> the number of its last line.
        problems: the index of a row -> what is wrong with it.
        labels: one value per row if labels are read: strings for separated values, tuples for
            fastText, and any value for JSON and Parquet.
        kind: the format.
        label_column: the name of the column of the labels, if they are read from one.
        multi_label: whether the type of that column is a list.
    """

    kind: Kind
    texts: list[str] = field(default_factory=list)
    kept: list[list[Any]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    last_lines: dict[int, int] = field(default_factory=dict)
    problems: dict[int, str] = field(default_factory=dict)
    labels: list[Any] = field(default_factory=list)
    label_column: str = ""
    multi_label: bool = False

    def place(self, index: int, row: int) -> str:
        """Return where a row is in its file; `row` is its number, counted from 0."""
        if not self.lines:
            return f"row {row + 1}"
        return name_lines(self.lines[index], self.last_lines.get(index, self.lines[index]))


def name_lines(first: int, last: int) -> str:
    """Return the name of one or several lines, such as "line 3" or "lines 3 to 9"."""
    return f"line {first}" if first == last else f"lines {first} to {last}"
