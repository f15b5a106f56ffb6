"""A table of one's own, cell by cell, for models that read more than texts."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hyperagg.data.readers.columns import Wanted, kind, label_string, pick_column
from hyperagg.data.readers.errors import DataError, quote
from hyperagg.data.readers.files import decode, display_name, find_format, read_bytes
from hyperagg.data.readers.formats import read_rows

__all__ = ["Table", "read_table"]


@dataclass(frozen=True)
class Table:
    """The cells of a file, as they stand there.

    Args:
        name: what errors call the file.
        columns: their names, in order.
        cells: by column, one a row: strings of CSV, whatever JSON or Parquet has of the others.
        place: how errors name the row with this index, such as "row 7 (line 8)".
        folder: what paths in it are relative to.
    """

    name: str
    columns: list[str]
    cells: dict[str, list[Any]] = field(repr=False)
    place: Callable[[int], str]
    folder: Path

    def __len__(self) -> int:
        return len(self.cells[self.columns[0]])

    def find(self, column: str) -> list[Any]:
        """The cells of a column.

        Raises:
            ValueError: there is none of that name; a near one is named.
        """
        wanted = Wanted(self.name)
        return self.cells[self.columns[pick_column(self.columns, column, column, wanted)]]

    def texts(self, column: str) -> list[str | None]:
        """Strings; None where a cell is empty."""
        return [self._string(value, column, i) for i, value in enumerate(self.find(column))]

    def numbers(self, column: str) -> list[float | None]:
        """Numbers; None where a cell is empty.

        Raises:
            ValueError: a cell holds something else; the row and the value are named.
        """
        return [self._number(value, column, i) for i, value in enumerate(self.find(column))]

    def categories(self, column: str) -> list[str | None]:
        """Names, of numbers their digits; None where a cell is empty."""
        wanted = Wanted(self.name)
        found = (
            label_string(value, self.place(i), column, wanted).strip()
            for i, value in enumerate(self.find(column))
        )
        return [value or None for value in found]

    def paths(self, column: str) -> list[Path | None]:
        """Paths of files, relative ones from the folder of the table; None where a cell is
        empty."""
        return [
            None if text is None else self.folder / Path(text.strip()).expanduser()
            for text in self.texts(column)
        ]

    def error(self, row: int, what: str) -> DataError:
        """Of one row."""
        return DataError(f"{self.name}: {self.place(row)}: {what}")

    def _string(self, value: Any, column: str, row: int) -> str | None:
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        if isinstance(value, str):
            return value
        raise self.error(
            row, f"{quote(column)} is {kind(value)} ({quote(value, 30)}), not a string"
        )

    def _number(self, value: Any, column: str, row: int) -> float | None:
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        if isinstance(value, float) and math.isnan(value):
            return None
        number = None
        if isinstance(value, str | int | float):
            try:
                number = float(value)
            except (ValueError, OverflowError):
                number = None
        if number is None or not math.isfinite(number):
            raise self.error(
                row,
                f"{quote(column)} is {quote(value, 30)}, which is no finite number: correct it, "
                "leave the cell empty, or read the column as a category",
            )
        return number


def read_table(path: str | os.PathLike[str], format: str | None = None) -> Table:
    """Reads CSV or TSV with a header, JSON lines, or Parquet, whole.

    Args:
        path: a file, or "-" for standard input, whose paths are relative to where we are.
        format: csv, tsv, jsonl or parquet; by default told by the name, or by the content.

    Raises:
        ValueError: one line that names the file, the row and what would do.
    """
    wanted = Wanted(display_name(path))
    content = read_bytes(path)
    format = format or find_format(Path(path).suffix.lower(), content, wanted)
    if format == "parquet":
        columns, cells, place = _parquet(content, wanted)
    elif format in _PARSERS:
        columns, cells, place = _PARSERS[format](decode(content, wanted), wanted)
    else:
        raise wanted.error(f"is read as {format}, which has no columns: use CSV or another table")
    if not columns or not cells[columns[0]]:
        raise wanted.error("has no rows: it needs a header, and a row for each example")
    folder = Path() if str(path) == "-" else Path(path).parent
    return Table(wanted.name, columns, cells, place, folder)


Parsed = tuple[list[str], dict[str, list[Any]], Callable[[int], str]]


def _csv(content: str, wanted: Wanted, delimiter: str = ",") -> Parsed:
    header, rows, place = read_rows(content, wanted, delimiter)
    _check_names(header, wanted)
    return header, {name: [row[c] for row in rows] for c, name in enumerate(header)}, place


def _json_lines(content: str, wanted: Wanted) -> Parsed:
    records, lines = [], []
    for number, line in enumerate(content.split("\n"), start=1):
        if not line or line.isspace():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise wanted.error(
                f"line {number} is not JSON ({error}): write one object a line"
            ) from error
        if not isinstance(record, dict):
            raise wanted.error(f"line {number} is no JSON object but {kind(record)}")
        records.append(record)
        lines.append(number)
    columns = list(dict.fromkeys(name for record in records for name in record))
    cells = {name: [record.get(name) for record in records] for name in columns}
    return columns, cells, lambda index: f"line {lines[index]}"


def _parquet(content: bytes, wanted: Wanted) -> Parsed:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pa.BufferReader(content))
        cells = {name: table[name].to_pylist() for name in dict.fromkeys(table.column_names)}
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise wanted.error(
            f"is no Parquet file or a damaged one ({reason}): write or copy it again"
        ) from error
    return list(table.column_names), cells, lambda index: f"row {index + 1}"


_PARSERS: dict[str, Callable[[str, Wanted], Parsed]] = {
    "csv": _csv,
    "tsv": lambda content, wanted: _csv(content, wanted, "\t"),
    "jsonl": _json_lines,
}


def _check_names(names: list[str], wanted: Wanted) -> None:
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise wanted.error(
            f"has {names.count(twice[0])} columns called {quote(twice[0])}: rename all but one"
        )
