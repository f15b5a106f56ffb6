"""The tables that the estimators take, as one list of cells per column."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hyperagg.data.readers.table import Table
from hyperagg.multimodal.columns.base import RowName, is_missing

__all__ = ["Cells", "as_list", "read_cells"]

# An array whose last dimension is at most this is one image or clip, with channels last. Others are
# images (rows, height, width) or clips (rows, samples).
MAX_CHANNELS = 4

# How the cells of a file are read.
_READERS: dict[str, Callable[[Table, str], Sequence[Any]]] = {
    "text": Table.texts,
    "number": Table.numbers,
    "category": Table.categories,
    "image": Table.paths,
    "audio": Table.paths,
}


@dataclass(frozen=True)
class Cells:
    """The cells of some columns of a table.

    Args:
        columns: by name, one cell per row.
        num_rows: number of rows.
        row_name: returns how errors name a row.
        single: whether a single row was given, so that a single answer is expected.
    """

    columns: Mapping[str, Sequence[Any]]
    num_rows: int
    row_name: RowName
    single: bool = False

    def cell_name(self, column: str) -> RowName:
        """Return how errors name the cells of a column."""
        return lambda row: f"{self.row_name(row)}, column {column!r}"


def read_cells(X: Any, kinds: Mapping[str, str], required: Iterable[str] = ()) -> Cells:
    """Read the columns of a table that a model knows.

    Args:
        X: a mapping of columns; a table of pandas, polars or Arrow; a `Table` of a file; or a
            single row, a mapping of plain values.
        kinds: by name, the kind of each column of the model. Other columns of X are ignored.
        required: the columns that X must have.

    Raises:
        ValueError: X has none of the columns, lacks a required one, has no rows, or its columns
            differ in length.
        TypeError: X is not a table.
    """
    names = _column_names(X)
    for name in required:
        if isinstance(X, Table):
            X.find(name)  # its error names the file, and a similar column
        if name not in names:
            raise ValueError(f"X: column {name!r} is missing; the columns are {_listed(names)}")
    known = [name for name in kinds if name in names]
    if not known:
        raise ValueError(f"X: expected at least one of the columns {_listed(kinds)}")
    if isinstance(X, Table):
        columns = {name: _READERS[kinds[name]](X, name) for name in known}
        return Cells(columns, len(X), lambda row: f"{X.name}: {X.row_name(row)}")
    given = {name: X[name] for name in known}
    if isinstance(X, Mapping) and _is_row(given, kinds):
        return Cells({name: [cell] for name, cell in given.items()}, 1, "row {}".format, True)
    columns = {name: _as_sequence(column, f"X: column {name!r}") for name, column in given.items()}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name!r} has {length}" for name, length in lengths.items())
        raise ValueError(f"X: expected columns of equal length; {listed}")
    num_rows = next(iter(lengths.values()))
    if not num_rows:
        raise ValueError("X: has no rows; expected at least one")
    return Cells(columns, num_rows, "row {}".format)


def as_list(values: Any, name: str) -> list[Any]:
    """Convert a list, an array or a column of pandas, polars or Arrow to a list of Python values.

    Raises:
        TypeError: it is not one-dimensional.
    """
    shape = getattr(values, "shape", None)
    if isinstance(shape, tuple) and len(shape) > 1:
        raise TypeError(f"{name}: shape {shape}: expected one column, with one value per row")
    sequence = _as_sequence(values, name)
    if isinstance(sequence, np.ndarray):
        return sequence.tolist()
    return [value.item() if isinstance(value, np.generic) else value for value in sequence]


def _column_names(X: Any) -> list[Any]:
    if isinstance(X, Mapping):
        return list(X)
    names = X.columns if isinstance(X, Table) else getattr(X, "column_names", None)
    if names is None:
        names = getattr(X, "columns", None)
    if names is None or isinstance(X, str | np.ndarray | Sequence):
        raise TypeError(
            f"X: {type(X).__name__}: expected a mapping of columns, or a table of pandas, polars "
            "or Arrow"
        )
    return list(names)


def _as_sequence(column: Any, name: str) -> Sequence[Any]:
    for method in ("to_list", "to_pylist"):  # of pandas and polars, and of Arrow
        if hasattr(column, method):
            return getattr(column, method)()
    if isinstance(column, np.ndarray) and column.ndim:
        return column  # type: ignore[return-value]
    if isinstance(column, str | bytes | Mapping) or not isinstance(column, Iterable):
        raise TypeError(f"{name}: {type(column).__name__}: expected one value per row")
    return column if isinstance(column, Sequence) else list(column)


def _is_row(given: Mapping[str, Any], kinds: Mapping[str, str]) -> bool:
    """Whether a mapping holds plain values rather than columns."""
    plain = {name: _is_plain(value, kinds[name]) for name, value in given.items()}
    decided = {name: known for name, known in plain.items() if known is not None}
    if len(set(decided.values())) > 1:
        values, columns = ([n for n, p in decided.items() if p is own] for own in (True, False))
        raise ValueError(
            f"X: expected either columns or the values of one row; {_listed(values)} is a value, "
            f"{_listed(columns)} a column"
        )
    return next(iter(decided.values()), True)


def _is_plain(value: Any, kind: str) -> bool | None:
    """Whether it is a cell and not a column; None if it is missing, which does not tell."""
    if is_missing(value):
        return None
    if isinstance(value, np.ndarray):
        # An array of one image or clip, even one whose number of channels its column refuses, is
        # a cell; a column of arrays has one dimension more.
        is_array = value.dtype != object
        channels = value.shape[-1] if value.ndim else 0
        if kind == "image" and is_array:
            return value.ndim == 2 or (value.ndim == 3 and channels <= MAX_CHANNELS)
        if kind == "audio" and is_array:
            return value.ndim <= 1 or (value.ndim == 2 and channels <= MAX_CHANNELS)
        return value.ndim == 0
    return isinstance(value, str | bytes | Path) or not isinstance(value, Iterable)


def _listed(names: Iterable[Any]) -> str:
    return ", ".join(map(repr, names))
