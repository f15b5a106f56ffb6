"""The columns that a reader looks for and returns, and the errors that all formats share."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hyperagg.data.dataset import Labels
from hyperagg.data.readers.errors import DataError, quote
from hyperagg.data.readers.text_lines import ENCODINGS, has_bad_bytes

Label = str | tuple[str, ...]


@dataclass(frozen=True)
class ColumnSpec:
    """Describe which columns to read from a file.

    Args:
        name: the name of the file in error messages.
        text: the column of the texts; None for the column "text".
        label: the column of the labels; None for the column "label" or, where a cell can hold
            several labels, "labels".
        labeled: whether to read labels.
        label_separator: the separator of the labels in a cell; None if a cell holds one label.
        keep: further columns to read.
    """

    name: str
    text: str | None = None
    label: str | None = None
    labeled: bool = True
    label_separator: str | None = None
    keep: tuple[str, ...] = ()

    def error(self, message: str) -> DataError:
        """Return an error about this file."""
        return DataError(f"{self.name}: {message}")


@dataclass(frozen=True)
class Columns:
    """Hold the texts and labels of a file; a missing cell is the empty string.

    Args:
        texts: one per row.
        labels: one per row, either all strings or all tuples; None if they were not requested.
        row_name: maps the index of a row to its name in error messages, such as "a.csv: line 7".
        row_numbers: the number of each row, from 1 and counted over all files. As in `stream_rows`,
            every line and every record has one, those that are left out and blank ones included.
        last_number: the number of the last line or record.
        blank_lines: the number of lines without characters, which are not rows.
        files: the number of files that were read.
        left_out: the rows that could not be used, each with its name and the reason.
    """

    texts: list[str]
    labels: Labels | None
    row_name: Callable[[int], str]
    row_numbers: Sequence[int]
    last_number: int
    blank_lines: int = 0
    files: int = 1
    left_out: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return how much was read, such as "7 rows from 2 files, and 1 blank line"."""
        files = f" from {self.files:,} files" if self.files > 1 else ""
        blank = f", and {pluralize(self.blank_lines, 'blank line')}" if self.blank_lines else ""
        out = len(self.left_out)
        skipped = f", left out {out:,} of them (first: {self.left_out[0]})" if out else ""
        return f"{pluralize(len(self.texts) + out, 'row')}{files}{skipped}{blank}"


def find_columns(
    columns: Sequence[str], spec: ColumnSpec, multi_label: bool = False
) -> tuple[int, int | None]:
    """Return the indices of the text column and of the label column (None without labels).

    Args:
        columns: the names of all columns.
        spec: the columns to find.
        multi_label: whether a cell can hold several labels, so that "labels" is a default name.

    Raises:
        DataError: a column is missing or not unique, or both are the same column.
    """
    text_index = find_column(columns, "--text", spec.text, spec)
    if not spec.labeled:
        return text_index, None
    label = spec.label
    if label is None and multi_label and "label" not in columns and "labels" in columns:
        label = "labels"
    label_index = find_column(columns, "--label", label, spec)
    if text_index == label_index:
        raise spec.error(
            f"{quote(columns[text_index])} is given both as the text column and as the label "
            f"column; the columns are {join_quoted(columns)} (--text, --label)"
        )
    return text_index, label_index


def find_column(
    columns: Sequence[str], option: str, requested: str | None, spec: ColumnSpec
) -> int:
    """Return the index of a column.

    Args:
        columns: the names of all columns.
        option: the option of the commands that names the column, such as "--text"; "" if there is
            none.
        requested: the name of the column; None for that of the option.
        spec: the columns that are read.

    Raises:
        DataError: the column is missing or not unique.
    """
    role = option.removeprefix("--")
    name = role if requested is None else requested
    found = [index for index, column in enumerate(columns) if column == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise spec.error(f"has {len(found)} columns called {quote(name)}: rename all but one")
    close = difflib.get_close_matches(name, columns, n=1)
    hint = f"; did you mean {quote(close[0])}?" if close and requested and len(columns) > 1 else ""
    given = f" ({option})" if option and requested is not None else ""
    if requested is None:
        hint = f"; name the column of the {role}s ({option})"
    if any(map(has_bad_bytes, columns)):
        hint = f"; their names are not UTF-8: expected {ENCODINGS}"
    raise spec.error(
        f"does not have a column {quote(name)}{given}; its columns are {join_quoted(columns)}{hint}"
    )


def parse_label(label: Any, row: str, column: str, spec: ColumnSpec) -> Label:
    """Return a list as a tuple of distinct labels, and any other value as a string."""
    if not isinstance(label, list):
        return label_to_string(label, row, column, spec)
    labels: list[str] = []
    for number, one in enumerate(label, start=1):
        position = f"{row}, label {number}"
        labels.append(label_to_string(one, position, column, spec))
        if is_blank(labels[-1]):
            raise spec.error(
                f"{position}: {quote(column)} has null or an empty string: remove it, and write [] "
                "for a text without labels"
            )
    return tuple(dict.fromkeys(labels))


def split_labels(cell: str, separator: str) -> tuple[str, ...]:
    """Return the distinct labels of a cell without the white space around them."""
    parts = (part.strip() for part in cell.split(separator))
    return tuple(dict.fromkeys(part for part in parts if part))


def unify_labels(
    labels: Sequence[Label], multi_label: bool, row_name: Callable[[int], str], spec: ColumnSpec
) -> Labels:
    """Return labels of one type: if any row has a tuple, a string becomes a tuple of one.

    Args:
        labels: one per row; the empty string where it is missing.
        multi_label: whether the column is known to hold lists.
        row_name: maps the index of a row to its name in error messages.
        spec: the columns that are read.

    Raises:
        DataError: a row among lists has null instead of an empty list.
    """
    strings = [label for label in labels if isinstance(label, str)]
    if not multi_label and len(strings) == len(labels):
        return strings
    missing = [i for i, one in enumerate(labels) if isinstance(one, str) and is_blank(one)]
    if missing:
        raise spec.error(
            f"{row_name(missing[0])} has no label ({pluralize(len(missing), 'row')} of "
            f"{len(labels):,}), while other rows have lists: write [] for a text without labels"
        )
    return [(one,) if isinstance(one, str) else one for one in labels]


def is_blank(text: str) -> bool:
    """Return whether a string is empty or only white space."""
    return not text or text.isspace()


def label_to_string(label: Any, row: str, column: str, spec: ColumnSpec) -> str:
    """Return a label as a string without white space around it; null and NaN become the empty
    string, a missing label, and 1.0 becomes "1", since a column of integers with a gap is read as
    floats."""
    if isinstance(label, str):
        if not is_well_formed(label):
            raise spec.error(f"{row}: {quote(column)} has an unpaired surrogate: remove it")
        return label.strip()
    if label is None or (isinstance(label, float) and math.isnan(label)):
        return ""
    if isinstance(label, bool):
        return "true" if label else "false"
    if isinstance(label, int | float):
        try:
            whole = label == int(label) if abs(label) < 2**53 else False
            return str(int(label) if whole else label)
        except ValueError as error:  # more than 4,300 digits
            raise spec.error(f"{row}: {quote(column)} has too many digits") from error
    raise spec.error(
        f"{row}: {quote(column)} is {json_type(label)}, not a label: expected a string or an "
        "integer"
    )


def is_well_formed(text: str) -> bool:
    """Return False for an unpaired surrogate, which JSON can spell and UTF-8 cannot encode."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def json_type(value: object) -> str:
    """Return the name of a value's type in JSON, with its article."""
    if value is None:
        return "null"
    names: list[tuple[type, str]] = [
        (bool, "true or false"),
        (str, "a string"),
        (int, "a number"),
        (float, "a number"),
        (list, "a list"),
    ]
    return next((name for one, name in names if isinstance(value, one)), "an object")


def join_quoted(names: Sequence[str], limit: int = 12) -> str:
    """Return the names in quotes, separated by commas; beyond `limit` names only their number."""
    quoted = ", ".join(quote(name, 40) for name in names[:limit])
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return (quoted or "none") + more


def pluralize(number: int, noun: str) -> str:
    """Return a number with its noun, such as "1 row" or "2 rows"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
