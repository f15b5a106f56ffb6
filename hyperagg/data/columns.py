"""What is asked of a file and what was found, and the errors that all formats have in common."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hyperagg.data.errors import DataError, quote

ONE_LABEL = "a text can have only one label so far"


@dataclass(frozen=True)
class Wanted:
    """What is asked of a file.

    Args:
        name: what errors call the file.
        text: the column with the texts; None stands for one called "text".
        label: the column with the labels; None stands for one called "label".
        labelled: whether labels are read at all.
    """

    name: str
    text: str | None = None
    label: str | None = None
    labelled: bool = True

    def error(self, what: str) -> DataError:
        return DataError(f"{self.name}: {what}")


@dataclass(frozen=True)
class Columns:
    """Texts and labels as found; missing ones are empty strings.

    Args:
        texts: one a row.
        labels: one a row, or None when they were not asked for.
        place: how errors name the row with this index, such as "line 7".
    """

    texts: list[str]
    labels: list[str] | None
    place: Callable[[int], str]


def pick_columns(columns: Sequence[str], wanted: Wanted) -> tuple[int, int | None]:
    """Where the texts and the labels are among `columns`; None where no labels are wanted.

    Raises:
        DataError: a column is absent or there more than once, or both are one column.
    """
    text_at = pick_column(columns, "text", wanted.text, wanted)
    if not wanted.labelled:
        return text_at, None
    label_at = pick_column(columns, "label", wanted.label, wanted)
    if text_at == label_at:
        raise wanted.error(
            f"{quote(columns[text_at])} is named both as the column of texts and as that of "
            f"labels; the columns are {listed(columns)}"
        )
    return text_at, label_at


def pick_column(columns: Sequence[str], role: str, asked: str | None, wanted: Wanted) -> int:
    name = role if asked is None else asked
    found = [index for index, column in enumerate(columns) if column == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise wanted.error(f"has {len(found)} columns called {quote(name)}: rename all but one")
    close = difflib.get_close_matches(name, columns, n=1)
    hint = f"; did you mean {quote(close[0])}?" if close and asked else ""
    if asked is None:
        hint = f"; say which one has the {role}s"
    raise wanted.error(f"has no column {quote(name)}; it has {listed(columns)}{hint}")


def label_string(label: Any, here: str, column: str, wanted: Wanted) -> str:
    """A label as a string; null and NaN are missing, which is the empty string."""
    if isinstance(label, str):
        if not well_formed(label):
            raise wanted.error(f"{here}: {quote(column)} has half of a surrogate pair: remove it")
        return label
    if label is None or (isinstance(label, float) and math.isnan(label)):
        return ""
    if isinstance(label, bool):
        return "true" if label else "false"
    if isinstance(label, int | float):
        try:
            return str(label)
        except ValueError as error:  # more than 4,300 digits
            raise wanted.error(f"{here}: {quote(column)} is too long a number") from error
    hint = ONE_LABEL if isinstance(label, list) else "use a string or an integer"
    raise wanted.error(f"{here}: {quote(column)} is {kind(label)}, which is no label: {hint}")


def well_formed(text: str) -> bool:
    """False for a string with half of a surrogate pair, which JSON can spell and no file hold."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def kind(value: object) -> str:
    """What JSON calls `value`."""
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


def listed(names: Sequence[str], limit: int = 12) -> str:
    """Names for an error message: quoted, and not all of them when they are many."""
    shown = ", ".join(quote(name, 40) for name in names[:limit])
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return (shown or "none") + more


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
