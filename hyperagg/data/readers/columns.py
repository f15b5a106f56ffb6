"""What is asked of a file and what was found, and the errors that all formats have in common."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hyperagg.data.datasets.dataset import Labels
from hyperagg.data.readers.errors import DataError, quote

Label = str | tuple[str, ...]


@dataclass(frozen=True)
class Wanted:
    """What is asked of a file.

    Args:
        name: what errors call the file.
        text: the column with the texts; None stands for one called "text".
        label: the column with the labels; None stands for one called "label" or, where a cell can
            hold several, "labels".
        labelled: whether labels are read at all.
        label_separator: what stands between the labels of a cell; None for one label a cell.
    """

    name: str
    text: str | None = None
    label: str | None = None
    labelled: bool = True
    label_separator: str | None = None

    def error(self, what: str) -> DataError:
        return DataError(f"{self.name}: {what}")


@dataclass(frozen=True)
class Columns:
    """Texts and labels as found; missing ones are empty strings.

    Args:
        texts: one a row.
        labels: one a row, all strings or all tuples; or None when they were not asked for.
        place: how errors name the row with this index, such as "line 7".
    """

    texts: list[str]
    labels: Labels | None
    place: Callable[[int], str]


def pick_columns(
    columns: Sequence[str], wanted: Wanted, several: bool = False
) -> tuple[int, int | None]:
    """Where the texts and the labels are among `columns`; None where no labels are wanted.

    Args:
        columns: the names.
        wanted: what is asked of the file.
        several: whether a cell can hold several labels, so that "labels" will do as a name.

    Raises:
        DataError: a column is absent or there more than once, or both are one column.
    """
    text_at = pick_column(columns, "text", wanted.text, wanted)
    if not wanted.labelled:
        return text_at, None
    label = wanted.label
    if label is None and several and "label" not in columns and "labels" in columns:
        label = "labels"
    label_at = pick_column(columns, "label", label, wanted)
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


def one_or_several(label: Any, here: str, column: str, wanted: Wanted) -> Label:
    """A list as its labels, each of them once; all else as `label_string` has it."""
    if not isinstance(label, list):
        return label_string(label, here, column, wanted)
    labels: list[str] = []
    for number, one in enumerate(label, start=1):
        at = f"{here}, label {number}"
        labels.append(label_string(one, at, column, wanted))
        if is_blank(labels[-1]):
            raise wanted.error(
                f"{at}: {quote(column)} has null or an empty string: remove it, and write [] where "
                "a text has no label"
            )
    return tuple(dict.fromkeys(labels))


def one_kind(
    labels: Sequence[Label], several: bool, place: Callable[[int], str], wanted: Wanted
) -> Labels:
    """Labels of one kind: a string among lists is a list of one.

    Args:
        labels: one a row; the empty string where it is missing.
        several: whether this is known to be a column of lists; otherwise one list tells.
        place: how errors name the row with this index.
        wanted: what is asked of the file.

    Raises:
        DataError: a row among lists has null and not an empty list.
    """
    strings = [label for label in labels if isinstance(label, str)]
    if not several and len(strings) == len(labels):
        return strings
    missing = [i for i, one in enumerate(labels) if isinstance(one, str) and is_blank(one)]
    if missing:
        raise wanted.error(
            f"{place(missing[0])} has no label ({count(len(missing), 'row')} of "
            f"{len(labels):,}): others have lists, so write [] where a text has none"
        )
    return [(one,) if isinstance(one, str) else one for one in labels]


def is_blank(text: str) -> bool:
    return not text or text.isspace()


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
    raise wanted.error(
        f"{here}: {quote(column)} is {kind(label)}, which is no label: use a string or an integer"
    )


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
