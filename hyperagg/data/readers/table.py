"""Read tables cell by cell, for models of more than texts."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from hyperagg.data.readers.columns import (
    ColumnSpec,
    find_column,
    is_blank,
    json_type,
    label_to_string,
    pluralize,
)
from hyperagg.data.readers.errors import DataError, quote
from hyperagg.data.readers.json_rows import array_values
from hyperagg.data.readers.parquet_rows import damage_reported
from hyperagg.data.readers.separated_rows import LineFeed, separated_cells
from hyperagg.data.readers.sources import EXTENSIONS, display_name, format_extension, open_stream
from hyperagg.data.readers.stream import EMPTY, find_problem, recognize_format, remedy
from hyperagg.data.readers.text_lines import PARQUET_MAGIC, TextBlocks

__all__ = ["Table", "read_table"]


@dataclass(frozen=True)
class Table:
    """Hold the cells of a file as they are.

    Args:
        name: the name of the file in error messages.
        columns: the names of the columns, in order.
        cells: for each column one cell per row: strings for CSV, any value for JSON and Parquet.
        row_name: maps the index of a row to its name in error messages, such as "row 7 (line 8)".
        folder: the folder that relative paths in the table start from.
    """

    name: str
    columns: list[str]
    cells: dict[str, list[Any]] = field(repr=False)
    row_name: Callable[[int], str]
    folder: Path

    def __len__(self) -> int:
        return len(self.cells[self.columns[0]])

    def take(self, rows: Sequence[int]) -> Table:
        """Return a table of these rows, which keep their names."""
        return replace(
            self,
            cells={name: [cells[i] for i in rows] for name, cells in self.cells.items()},
            row_name=lambda i: self.row_name(rows[i]),
        )

    def find(self, column: str, option: str = "") -> list[Any]:
        """Return the cells of a column.

        Args:
            column: the name of the column.
            option: the option of the command line that names it, for the message.

        Raises:
            ValueError: the column does not exist; the message names a similar one.
        """
        spec = ColumnSpec(self.name)
        return self.cells[self.columns[find_column(self.columns, option, column, spec)]]

    def texts(self, column: str) -> list[str | None]:
        """Return the strings of a column; None where a cell is empty."""
        return [self._string(value, column, i) for i, value in enumerate(self.find(column))]

    def numbers(self, column: str) -> list[float | None]:
        """Return the numbers of a column; None where a cell is empty.

        Raises:
            ValueError: a cell is not a finite number; the message names the row and the value.
        """
        return [self._number(value, column, i) for i, value in enumerate(self.find(column))]

    def categories(self, column: str) -> list[str | None]:
        """Return the categories of a column as strings; None where a cell is empty."""
        spec = ColumnSpec(self.name)
        found = (
            label_to_string(value, self.row_name(i), column, spec).strip()
            for i, value in enumerate(self.find(column))
        )
        return [value or None for value in found]

    def paths(self, column: str) -> list[Path | None]:
        """Return the paths of a column, joined to `folder`; None where a cell is empty."""
        # Path.expanduser raises if "~name" is not the home of a user.
        return [
            None if text is None else self.folder / os.path.expanduser(text.strip())  # noqa: PTH111
            for text in self.texts(column)
        ]

    def error(self, row: int, message: str) -> DataError:
        """Return an error about one row."""
        return DataError(f"{self.name}: {self.row_name(row)}: {message}")

    def _string(self, value: Any, column: str, row: int) -> str | None:
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        if isinstance(value, str):
            return value
        raise self.error(
            row, f"{quote(column)} is {json_type(value)} ({quote(value, 30)}): expected a string"
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
                f"{quote(column)} is {quote(value, 30)}: expected a finite number or an empty "
                "cell; read a column of names as a category",
            )
        return number


def read_table(path: str | os.PathLike[str], format: str | None = None) -> Table:
    """Read a table from a CSV or TSV file with a header, JSON lines, a JSON array, or Parquet.

    The file may be compressed. A blank line between rows is an error, because it may be a row.

    Args:
        path: a file, or "-" for standard input, from which paths are relative to the current
            directory.
        format: "csv", "tsv", "jsonl" or "parquet"; by default it follows from the file name
            extension or, without one, from the content.

    Raises:
        ValueError: the file cannot be read; the message names the file, the row and what is
            expected.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("films.csv").write_text("title,minutes\\nBirds,119\\n")
        >>> read_table("films.csv").numbers("minutes")
        [119.0]
    """
    spec = ColumnSpec(display_name(path))
    with open_stream(path) as stream:
        extension = format_extension(path)
        format = format or EXTENSIONS.get(extension)
        if format is None and stream.peek().startswith(PARQUET_MAGIC):
            format = "parquet"
        if format == "parquet":
            with stream.seekable() as file:
                columns, cells, row_name = _parquet(file, spec)
        else:
            blocks = TextBlocks(stream)
            format = format or recognize_format(extension, blocks.peek(), spec)
            if format not in ("csv", "tsv", "jsonl"):
                raise spec.error(
                    f"is read as {format}, which has no columns: expected csv, tsv, jsonl or "
                    "parquet"
                )
            parse = _json if format == "jsonl" else _csv if format == "csv" else _tsv
            columns, cells, row_name = parse(blocks, spec)
    if not columns or not cells[columns[0]]:
        raise spec.error("has no rows: expected a header and one row per example")
    folder = Path() if str(path) == "-" else Path(path).parent
    return Table(spec.name, columns, cells, row_name, folder)


Parsed = tuple[list[str], dict[str, list[Any]], Callable[[int], str]]


def _csv(blocks: TextBlocks, spec: ColumnSpec) -> Parsed:
    return _separated(blocks, spec, ",", quoting=True)


def _tsv(blocks: TextBlocks, spec: ColumnSpec) -> Parsed:
    return _separated(blocks, spec, "\t", quoting=False)


def _separated(blocks: TextBlocks, spec: ColumnSpec, delimiter: str, quoting: bool) -> Parsed:
    header: list[str] = []
    rows: list[list[str]] = []
    lines: list[int] = []
    blank = 0

    def row_name(index: int) -> str:
        return f"row {index + 1} (line {lines[index]})"

    feed = LineFeed(blocks, spec)
    for begin, row, problem in separated_cells(feed, spec, delimiter, quoting, quoting):
        if not problem and len(row) <= 1 and is_blank("".join(row)):
            blank = blank or (begin if header else 0)
            continue
        _check_line(begin, problem, blank, row, spec)
        if not header:
            header = row
            _check_names(header, spec)
            continue
        rows.append(row)
        lines.append(begin)
        if len(row) != len(header):
            raise spec.error(
                f"{row_name(len(rows) - 1)} has {pluralize(len(row), 'field')} where the header "
                f"has {len(header)}: put quotes around fields that contain the separator "
                f"{delimiter!r} or a line break"
            )
    if not header:
        raise spec.error("the file is empty: expected a header and one row per example")
    return header, {name: [row[c] for row in rows] for c, name in enumerate(header)}, row_name


def _json(blocks: TextBlocks, spec: ColumnSpec) -> Parsed:
    records: list[dict[str, Any]] = []
    lines: list[int] = []
    array = blocks.peek().lstrip().startswith("[")
    for number, record in _array_items(blocks, spec) if array else _json_lines(blocks, spec):
        if not isinstance(record, dict):
            raise spec.error(f"line {number}: expected a JSON object, got {json_type(record)}")
        records.append(record)
        lines.append(number)
    columns = list(dict.fromkeys(name for record in records for name in record))
    cells = {name: [record.get(name) for record in records] for name in columns}
    return columns, cells, lambda index: f"line {lines[index]}"


def _array_items(blocks: TextBlocks, spec: ColumnSpec) -> Iterator[tuple[int, Any]]:
    for values, numbers in array_values(blocks, spec):
        yield from zip(numbers, values)


def _json_lines(blocks: TextBlocks, spec: ColumnSpec) -> Iterator[tuple[int, Any]]:
    blank = 0
    for number, line in enumerate(chain.from_iterable(blocks.lines()), start=1):
        if is_blank(line):
            blank = blank or number
            continue
        _check_line(number, "", blank, [line], spec)
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise spec.error(
                f"line {number} is not JSON ({error}): expected one object per line"
            ) from error
        yield number, record


def _check_line(
    number: int, problem: str, blank: int, cells: Sequence[str], spec: ColumnSpec
) -> None:
    """Raise DataError for a malformed line, and for blank lines before it."""
    if blank:
        raise spec.error(f"line {blank} is blank: remove it")
    problem = problem or next((p for p in map(find_problem, cells) if p not in ("", EMPTY)), "")
    if problem:
        raise spec.error(f"line {number}: {problem}{remedy(problem)}")


def _parquet(file: Any, spec: ColumnSpec) -> Parsed:
    import pyarrow.parquet as pq

    with damage_reported(spec):
        table = pq.read_table(file)
        cells = {name: table[name].to_pylist() for name in dict.fromkeys(table.column_names)}
    return list(table.column_names), cells, lambda index: f"row {index + 1}"


def _check_names(names: list[str], spec: ColumnSpec) -> None:
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise spec.error(
            f"has {names.count(repeated)} columns called {quote(repeated)}: rename all but one"
        )
