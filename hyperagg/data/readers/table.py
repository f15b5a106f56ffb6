"""Read tables cell by cell, for models of more than texts."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
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
from hyperagg.data.readers.json_rows import Unparsed, array_values
from hyperagg.data.readers.parquet_rows import damage_reported
from hyperagg.data.readers.parsed_rows import name_lines
from hyperagg.data.readers.separated_rows import separated_cells
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
        row_numbers: the number of each row in the file, from 1.
        left_out: the rows that could not be used: their numbers, and for each its name and the
            reason.
    """

    name: str
    columns: list[str]
    cells: dict[str, list[Any]] = field(repr=False)
    row_name: Callable[[int], str]
    folder: Path
    row_numbers: Sequence[int] = field(repr=False)
    left_out: Mapping[int, str] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.cells[self.columns[0]])

    def __str__(self) -> str:
        """Return how much was read, such as "7 rows, left out 1 of them (first: ...)"."""
        out = len(self.left_out)
        skipped = f", left out {out:,} of them (first: {_first(self.left_out)})" if out else ""
        return f"{pluralize(len(self) + out, 'row')}{skipped}"

    def take(self, rows: Sequence[int]) -> Table:
        """Return a table of these rows, which keep their names and numbers."""
        return replace(
            self,
            cells={name: [cells[i] for i in rows] for name, cells in self.cells.items()},
            row_name=lambda i: self.row_name(rows[i]),
            row_numbers=[self.row_numbers[i] for i in rows],
        )

    def usable(self, kinds: Mapping[str, str], target: Mapping[str, str] | None = None) -> Table:
        """Return the table without the rows that a model cannot use; `left_out` says why.

        These are rows with a cell that is not of the kind of its column or that names an image or
        a recording that cannot be read, without a value in any column, or without a target.

        Args:
            kinds: by name, the kind of each column: "text", "number", "category", "image" or
                "audio". Columns that the table does not have are ignored.
            target: the column of the targets, with its kind.

        Raises:
            ValueError: no row can be used.
            ImportError: a package that reads images or audio is not installed.

        Cost: every image and every recording is decoded once.
        """

        @cache
        def file_problem(kind: str, path: Path) -> str:
            # Here, because these import NumPy, which other tables do without.
            from hyperagg.data.readers.audio import read_samples
            from hyperagg.data.readers.images import read_image

            read: Callable[[Path], object] = read_image if kind == "image" else read_samples
            try:
                read(path)
            except DataError as error:
                return str(error)
            return ""

        problems: dict[int, str] = {}
        empty = set(range(len(self)))
        for column, kind in {**kinds, **(target or {})}.items():
            if column not in self.columns and column in kinds:
                continue
            is_target = target is not None and column in target
            for i, value in enumerate(self.find(column)):
                try:
                    converted = _CONVERTERS[kind](self, value, column, i)
                    is_file = kind in ("image", "audio") and converted is not None
                    if is_file and (problem := file_problem(kind, self._path(converted))):
                        name = f"{self.name}: {self.row_name(i)}, column {column!r}"
                        raise DataError(f"{name}: {problem}")
                    if is_target and converted is None:
                        raise self.error(i, f"{quote(column)} is empty")
                except DataError as error:
                    problems.setdefault(i, str(error))
                    continue
                if converted is not None and not is_target:
                    empty.discard(i)
        for i in empty:
            problems.setdefault(i, str(self.error(i, "has no value in any of the columns")))
        if not problems:
            return self
        left_out = {**self.left_out, **{self.row_numbers[i]: problems[i] for i in problems}}
        if len(problems) == len(self):
            raise DataError(f"{self.name}: no row can be used (first: {_first(left_out)})")
        kept = self.take([i for i in range(len(self)) if i not in problems])
        return replace(kept, left_out=left_out)

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
        return [self._category(value, column, i) for i, value in enumerate(self.find(column))]

    def paths(self, column: str) -> list[Path | None]:
        """Return the paths of a column, joined to `folder`; None where a cell is empty."""
        return [None if text is None else self._path(text) for text in self.texts(column)]

    def error(self, row: int, message: str) -> DataError:
        """Return an error about one row."""
        return DataError(f"{self.name}: {self.row_name(row)}: {message}")

    def _path(self, text: str) -> Path:
        # Path.expanduser raises if "~name" is not the home of a user.
        return self.folder / os.path.expanduser(text.strip())  # noqa: PTH111

    def _string(self, value: Any, column: str, row: int) -> str | None:
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        if isinstance(value, str):
            return value
        raise self.error(
            row, f"{quote(column)} is {json_type(value)} ({quote(value, 30)}): expected a string"
        )

    def _category(self, value: Any, column: str, row: int) -> str | None:
        spec = ColumnSpec(self.name)
        return label_to_string(value, self.row_name(row), column, spec).strip() or None

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


# How a cell of each kind of column is read; that of an image or a recording is a path.
_CONVERTERS: dict[str, Callable[[Table, Any, str, int], Any]] = {
    "text": Table._string,
    "number": Table._number,
    "category": Table._category,
    "image": Table._string,
    "audio": Table._string,
}


def read_table(
    path: str | os.PathLike[str], format: str | None = None, *, on_error: str = "stop"
) -> Table:
    """Read a table from a CSV or TSV file with a header, JSON lines, a JSON array, or Parquet.

    The file may be compressed. A blank line between rows is an error, because it may be a row.

    Args:
        path: a file, or "-" for standard input, from which paths are relative to the current
            directory.
        format: "csv", "tsv", "jsonl" or "parquet"; by default it follows from the file name
            extension or, without one, from the content.
        on_error: what becomes of a malformed row: "stop" raises an error, "skip" leaves it out.

    Raises:
        ValueError: the file cannot be read; the message names the file, the row and what is
            expected.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("films.csv").write_text("title,minutes\\nBirds,119\\n")
        >>> read_table("films.csv").numbers("minutes")
        [119.0]
    """
    if on_error not in ("stop", "skip"):
        raise DataError(f"on_error={quote(on_error)}: expected one of stop, skip")
    left_out: dict[int, str] = {}

    def refuse(number: int, error: DataError) -> None:
        if on_error == "stop":
            raise error
        left_out[number] = str(error)

    spec = ColumnSpec(display_name(path))
    with open_stream(path) as stream:
        extension = format_extension(path)
        format = format or EXTENSIONS.get(extension)
        if format is None and stream.peek().startswith(PARQUET_MAGIC):
            format = "parquet"
        if format == "parquet":
            with stream.seekable() as file:
                columns, cells, row_name, numbers = _parquet(file, spec)
        else:
            blocks = TextBlocks(stream)
            format = format or recognize_format(extension, blocks.peek(), spec)
            if format not in ("csv", "tsv", "jsonl"):
                raise spec.error(
                    f"is read as {format}, which has no columns: expected csv, tsv, jsonl or "
                    "parquet"
                )
            parse = _json if format == "jsonl" else _csv if format == "csv" else _tsv
            columns, cells, row_name, numbers = parse(blocks, spec, refuse)
    if not columns or not cells[columns[0]]:
        if left_out:
            raise spec.error(f"no row can be used (first: {_first(left_out)})")
        raise spec.error("has no rows: expected a header and one row per example")
    folder = Path() if str(path) == "-" else Path(path).parent
    return Table(spec.name, columns, cells, row_name, folder, numbers, left_out)


# The columns, their cells, the names of the rows and their numbers.
Parsed = tuple[list[str], dict[str, list[Any]], Callable[[int], str], Sequence[int]]
Refuse = Callable[[int, DataError], None]  # takes a row that cannot be used, and its error


def _csv(blocks: TextBlocks, spec: ColumnSpec, refuse: Refuse) -> Parsed:
    return _separated(blocks, spec, refuse, ",", quoting=True)


def _tsv(blocks: TextBlocks, spec: ColumnSpec, refuse: Refuse) -> Parsed:
    return _separated(blocks, spec, refuse, "\t", quoting=False)


def _separated(
    blocks: TextBlocks, spec: ColumnSpec, refuse: Refuse, delimiter: str, quoting: bool
) -> Parsed:
    header: list[str] = []
    rows: list[list[str]] = []
    lines: list[int] = []
    numbers: list[int] = []
    blank: list[int] = []
    number = 0
    for begin, end, row, problem in separated_cells(blocks, delimiter, quoting, quoting):
        if not problem and len(row) <= 1 and is_blank("".join(row)):
            if header:
                blank.append(begin)
            continue
        for line in blank:  # which may be rows
            number += 1
            refuse(number, _blank_error(line, spec))
        blank.clear()
        error = _line_error(name_lines(begin, end), problem, row, spec)
        if not header:
            if error is not None:
                raise error
            header = row
            _check_names(header, spec)
            continue
        number += 1
        if error is None and len(row) != len(header):
            error = spec.error(
                f"row {number} (line {begin}) has {pluralize(len(row), 'field')} where the header "
                f"has {len(header)}: put quotes around fields that contain the separator "
                f"{delimiter!r} or a line break"
            )
        if error is not None:
            refuse(number, error)
            continue
        rows.append(row)
        lines.append(begin)
        numbers.append(number)
    if not header:
        raise spec.error("the file is empty: expected a header and one row per example")
    cells = {name: [row[c] for row in rows] for c, name in enumerate(header)}
    return header, cells, lambda index: f"row {numbers[index]} (line {lines[index]})", numbers


def _json(blocks: TextBlocks, spec: ColumnSpec, refuse: Refuse) -> Parsed:
    records: list[dict[str, Any]] = []
    lines: list[int] = []
    numbers: list[int] = []
    array = blocks.first_character() == "["
    found = _array_items(blocks, spec) if array else _json_lines(blocks, spec)
    for number, (line, record) in enumerate(found, start=1):
        if isinstance(record, dict):
            records.append(record)
            lines.append(line)
            numbers.append(number)
        elif isinstance(record, DataError):
            refuse(number, record)
        else:
            got = json_type(record)
            refuse(number, spec.error(f"line {line}: expected a JSON object, got {got}"))
    columns = list(dict.fromkeys(name for record in records for name in record))
    cells = {name: [record.get(name) for record in records] for name in columns}
    return columns, cells, lambda index: f"line {lines[index]}", numbers


def _array_items(blocks: TextBlocks, spec: ColumnSpec) -> Iterator[tuple[int, Any]]:
    """Yield the line and the value of each object; an error for the rest of a malformed array."""
    for values, numbers in array_values(blocks, spec):
        for line, value in zip(numbers, values):
            if isinstance(value, Unparsed):
                yield line, _line_error(f"line {line}", value.problem, [], spec)
            else:
                yield line, value


def _json_lines(blocks: TextBlocks, spec: ColumnSpec) -> Iterator[tuple[int, Any]]:
    """Yield the number and the value of each line; an error for one that cannot be read."""
    blank: list[int] = []
    for number, line in enumerate(chain.from_iterable(blocks.lines()), start=1):
        if is_blank(line):
            blank.append(number)
            continue
        yield from ((each, _blank_error(each, spec)) for each in blank)
        blank.clear()
        error = _line_error(f"line {number}", "", [line], spec)
        if error is not None:
            yield number, error
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as reason:
            yield (
                number,
                spec.error(f"line {number} is not JSON ({reason}): expected one object per line"),
            )


def _first(left_out: Mapping[int, str]) -> str:
    return left_out[min(left_out)]


def _blank_error(line: int, spec: ColumnSpec) -> DataError:
    return spec.error(f"line {line} is blank: remove it")


def _line_error(
    place: str, problem: str, cells: Sequence[str], spec: ColumnSpec
) -> DataError | None:
    """Return what is wrong with a row, if anything is."""
    problem = problem or next((p for p in map(find_problem, cells) if p not in ("", EMPTY)), "")
    return spec.error(f"{place}: {problem}{remedy(problem)}") if problem else None


def _parquet(file: Any, spec: ColumnSpec) -> Parsed:
    import pyarrow.parquet as pq

    with damage_reported(spec):
        table = pq.read_table(file)
        cells = {name: table[name].to_pylist() for name in dict.fromkeys(table.column_names)}
    numbers = range(1, table.num_rows + 1)
    return list(table.column_names), cells, lambda index: f"row {index + 1}", numbers


def _check_names(names: list[str], spec: ColumnSpec) -> None:
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise spec.error(
            f"has {names.count(repeated)} columns called {quote(repeated)}: rename all but one"
        )
