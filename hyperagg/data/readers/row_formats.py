"""The formats of rows as streams: one generator per format, from text blocks to parsed rows.

Every generator yields the rows that one block of the file completes, so that a row that has arrived
through a pipe is answered. A row that cannot be parsed has an empty text and a problem; what
becomes of it is decided in `hyperagg.data.readers.stream`.
"""

from __future__ import annotations

import csv
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from hyperagg.data.readers.columns import (
    ColumnSpec,
    find_column,
    find_columns,
    is_blank,
    json_type,
    pluralize,
)
from hyperagg.data.readers.errors import DataError, quote
from hyperagg.data.readers.text_lines import MAX_ROW_CHARS, TextBlocks, has_bad_bytes

__all__ = [
    "BLANK_LINE",
    "LABEL_PREFIX",
    "ParsedRows",
    "fasttext_rows",
    "json_array_rows",
    "json_rows",
    "plain_rows",
    "separated_rows",
]

LABEL_PREFIX = "__label__"
BLANK_LINE = "blank line"
INVALID = "invalid UTF-8"
DIALECTS = (";", "|", "\t", ",", ":")


Kind = Literal["lines", "fasttext", "separated", "json", "parquet"]


@dataclass
class ParsedRows:
    """Hold rows as they come out of a format.

    Args:
        texts: one per row; empty where there is none.
        kept: for each kept column one value per row; None where there is none.
        lines: the number of the line that each row begins on, counted from 1; empty for Parquet.
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
    problems: dict[int, str] = field(default_factory=dict)
    labels: list[Any] = field(default_factory=list)
    label_column: str = ""
    multi_label: bool = False

    def place(self, index: int, row: int) -> str:
        """Return where a row is in its file; `row` is its number, counted from 0."""
        return f"line {self.lines[index]}" if self.lines else f"row {row + 1}"


def plain_rows(blocks: TextBlocks, spec: ColumnSpec) -> Iterator[ParsedRows]:
    """Parse one text per line; a blank line is an empty text."""
    if spec.labeled:
        raise spec.error("is read as plain lines, which have no labels: use another format")
    if spec.keep:
        raise spec.error(
            f"is read as plain lines, which have no column {quote(spec.keep[0])} to keep"
        )
    number = 1
    for lines in blocks.lines():
        yield ParsedRows("lines", lines, [], list(range(number, number + len(lines))))
        number += len(lines)


def fasttext_rows(blocks: TextBlocks, spec: ColumnSpec) -> Iterator[ParsedRows]:
    """Parse lines of `__label__NAME words ...` as fastText does; a blank line is an empty text.

    The labels are a tuple. They are also the column "label", which can be kept.
    """
    for name in spec.keep:
        if name != "label":
            raise spec.error(f"is read as fastText lines, which have no column {quote(name)}")
    number = 0
    for lines in blocks.lines():
        rows = ParsedRows("fasttext")
        for line in lines:
            number += 1
            text, found = _split_fasttext(line)
            if spec.labeled and LABEL_PREFIX in found:
                raise spec.error(f"line {number} has no label after {LABEL_PREFIX}: add its name")
            if not found and is_blank(text):
                rows.problems[len(rows.texts)] = BLANK_LINE
            rows.texts.append(text)
            rows.labels.append(tuple(name.removeprefix(LABEL_PREFIX) for name in found))
        rows.lines = list(range(number + 1 - len(lines), number + 1))
        rows.kept = [list(map(list, rows.labels)) for _ in spec.keep]
        yield rows


def _split_fasttext(line: str) -> tuple[str, list[str]]:
    """Return the text and the distinct words with the prefix of a line."""
    head, _, rest = line.strip().partition(" ")
    if head.startswith(LABEL_PREFIX) and LABEL_PREFIX not in rest and len(head.split()) == 1:
        return rest, [head]
    # The rare forms: a label after a word, several labels, none, or a tab after the label.
    words = line.split()
    found = list(dict.fromkeys(word for word in words if word.startswith(LABEL_PREFIX)))
    return " ".join(word for word in words if not word.startswith(LABEL_PREFIX)), found


class LineFeed:
    """Hand lines to a csv.reader one by one, and know when a block is used up."""

    def __init__(self, blocks: TextBlocks, spec: ColumnSpec) -> None:
        self._blocks = blocks.lines()
        self._lines: list[str] = []
        self._at = 0
        self._spec = spec
        self.number = 0  # of the line handed out last
        self.line = ""
        self._row_chars = 0

    def __iter__(self) -> LineFeed:
        return self

    def __next__(self) -> str:
        while self._at == len(self._lines):
            self._lines, self._at = next(self._blocks), 0
        self.line = self._lines[self._at]
        self._at += 1
        self.number += 1
        self._row_chars += len(self.line)
        if self._row_chars > MAX_ROW_CHARS:
            raise self._spec.error(
                f"the row that ends on line {self.number:,} or later is longer than "
                f"{MAX_ROW_CHARS:,} characters: close its quotes"
            )
        return self.line + "\n"

    @property
    def used_up(self) -> bool:
        """Whether the next line has to be waited for."""
        return self._at == len(self._lines)

    def begin_row(self) -> int:
        """Return the number of the line that the next row begins on."""
        self._row_chars = 0
        return self.number + 1


def separated_rows(
    blocks: TextBlocks,
    spec: ColumnSpec,
    *,
    delimiter: str,
    quoting: bool,
    header: bool,
    multi_line: bool,
) -> Iterator[ParsedRows]:
    """Parse separated values.

    A blank line is a row with an empty text, and blank lines before the header are not rows.
    Without quoting, a row is a line and quotes are characters. A row with another number of fields
    than the header has a problem.

    Args:
        blocks: the file.
        spec: the columns to read.
        delimiter: one character.
        quoting: whether fields can be quoted.
        header: whether the first row has the names of the columns; otherwise they are "1", "2", ….
        multi_line: whether a quoted field can span lines.

    Raises:
        DataError: a column is missing or not unique, a quote is not closed, or a quoted field spans
            lines where it must not.
    """
    feed = LineFeed(blocks, spec)
    parsed = separated_cells(feed, spec, delimiter, quoting, multi_line)
    rows = ParsedRows("separated")
    text_at = label_at = -1
    kept_at: list[int] = []
    width = 0
    for begin, cells, problem in parsed:
        if not width:
            if problem:
                raise spec.error(f"line {begin}: {problem}, in the first row of the file")
            if header and is_blank("".join(cells)):
                continue
            names = cells if header else [str(i + 1) for i in range(len(cells))]
            text_at, label_at, kept_at = _find_separated(names, spec, delimiter, header, quoting)
            width = len(names)
            if header:
                yield rows  # none, which shows that there is a header
                continue
        if not rows.texts:
            rows.kept = [[] for _ in kept_at]
        if not problem and len(cells) != width:
            blank = len(cells) <= 1 and is_blank("".join(cells))
            fields = pluralize(len(cells), "field")
            problem = BLANK_LINE if blank else f"{fields} instead of {width}"
        if problem:
            rows.problems[len(rows.texts)] = problem
            cells = [""] * width
        rows.texts.append(cells[text_at])
        rows.lines.append(begin)
        if spec.labeled:
            rows.labels.append(cells[label_at])
        for own, at in zip(rows.kept, kept_at):
            own.append(None if problem else cells[at])
        if feed.used_up:
            yield rows
            rows = ParsedRows("separated")
    if rows.texts:
        yield rows


Cells = tuple[int, list[str], str]  # the first line, the fields, and what is wrong with them


def separated_cells(
    feed: LineFeed, spec: ColumnSpec, delimiter: str, quoting: bool, multi_line: bool
) -> Iterator[Cells]:
    """Return the fields of every row, the header and blank lines included."""
    if not quoting:
        yield from _split(feed, delimiter)
        return
    with _long_fields():
        yield from _quoted(feed, spec, delimiter, multi_line)


def _split(feed: LineFeed, delimiter: str) -> Iterator[Cells]:
    begin = feed.begin_row()
    for _ in feed:
        yield begin, feed.line.split(delimiter), ""
        begin = feed.begin_row()


def _quoted(feed: LineFeed, spec: ColumnSpec, delimiter: str, multi_line: bool) -> Iterator[Cells]:
    # Without strict, an unclosed quote would silently swallow the rest of the file.
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    while True:
        begin = feed.begin_row()
        problem = ""
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            one_line = feed.number == begin
            if one_line and '"' not in feed.line:  # it has a CR
                cells = feed.line.split(delimiter)
            elif one_line and "end of data" not in str(error):
                cells, problem = [], "malformed quotes"
            elif multi_line or one_line:
                raise spec.error(
                    f"the row that begins on line {begin} is not well-formed ({error}): close its "
                    'quotes, write a quote inside a quoted field as "", or read the file without '
                    "quoting"
                ) from error
        if not multi_line and feed.number != begin:
            raise spec.error(
                f"the row that begins on line {begin} has a quoted field that spans lines: read "
                "the file without quoting, or as CSV with a tab as the delimiter"
            )
        yield begin, cells, problem


_limit_lock = threading.Lock()
_limit_users = 0
_limit_before = 0


@contextmanager
def _long_fields() -> Iterator[None]:
    """Lift the limit on the length of fields, which is one for the whole process."""
    global _limit_users, _limit_before
    with _limit_lock:
        if not _limit_users:
            _limit_before = csv.field_size_limit(2**31 - 1)
        _limit_users += 1
    try:
        yield
    finally:
        with _limit_lock:
            _limit_users -= 1
            if not _limit_users:
                csv.field_size_limit(_limit_before)


def _find_separated(
    names: list[str], spec: ColumnSpec, delimiter: str, header: bool, quoting: bool
) -> tuple[int, int, list[int]]:
    """Return the indices of the columns; an error names the dialect that would have them."""
    if not header and spec.text is None:
        if len(names) > 1 or spec.labeled:
            raise spec.error(
                f"is read without a header: name the columns by their numbers, 1 to {len(names)}"
            )
        return 0, -1, [find_column(names, "column", name, spec) for name in spec.keep]
    try:
        text_at, label_at = find_columns(names, spec, multi_label=spec.label_separator is not None)
        kept_at = [find_column(names, "column", name, spec) for name in spec.keep]
    except DataError as error:
        raise DataError(f"{error}{_dialect_hint(names, spec, delimiter, quoting)}") from error
    return text_at, -1 if label_at is None else label_at, kept_at


def _dialect_hint(names: list[str], spec: ColumnSpec, delimiter: str, quoting: bool) -> str:
    line = delimiter.join(names)
    wanted = [spec.text or "text", *([spec.label or "label"] if spec.labeled else []), *spec.keep]
    if not quoting and any(f'"{name}"' in names for name in wanted):
        return "; its fields are quoted: read it with quoting (--quoting)"
    for other in DIALECTS:
        split = [name.strip().strip('"') for name in line.split(other)]
        if other != delimiter and len(split) > 1 and any(name in split for name in wanted):
            return f"; its fields are separated by {other!r}: give that delimiter (--delimiter)"
    return ""


def json_rows(blocks: TextBlocks, spec: ColumnSpec) -> Iterator[ParsedRows]:
    """Parse one JSON object per line; a blank line is a row with an empty text.

    A field inside an object is named with dots, as in "meta.text". A text of null is empty. A row
    has a problem if it is not an object, does not have the text field, or has another value in it
    than a string.

    Raises:
        DataError: no object among the first rows has one of the fields.
    """
    fields: _JsonFields | None = None
    number = 0
    for lines in blocks.lines():
        values = []
        for line in lines:
            try:
                values.append(json.loads(line) if line and not line.isspace() else _NoObject(""))
            # An integer of more than 4,300 digits raises ValueError, deep nesting RecursionError.
            except (ValueError, RecursionError):
                values.append(_NoObject("not JSON"))
        numbers = range(number + 1, number + 1 + len(lines))
        number += len(lines)
        fields = fields or _JsonFields.find(values, spec)
        rows = _json_values(values, numbers, fields, spec)
        for index, line in enumerate(lines):
            if index not in rows.problems and not line.isascii() and has_bad_bytes(line):
                rows.problems[index] = INVALID
        yield rows


@dataclass(frozen=True)
class _NoObject:
    """What stands for a line without JSON."""

    problem: str


@dataclass(frozen=True)
class _JsonFields:
    """The paths of the fields that are read."""

    text: tuple[str, ...]
    label: tuple[str, ...] | None
    kept: list[tuple[str, ...]]

    @classmethod
    def find(cls, values: Sequence[Any], spec: ColumnSpec) -> _JsonFields | None:
        """Return the paths; None if there is no object among the values.

        Raises:
            DataError: no object has one of the fields.
        """
        objects = [value for value in values if isinstance(value, dict)]
        if not objects:
            return None
        columns = list(dict.fromkeys(name for one in objects for name in one))

        def path(role: str, requested: str | None) -> tuple[str, ...]:
            if requested is not None and requested not in columns:
                for one in objects:
                    if found := _dotted_path(one, requested):
                        return found
            return (columns[find_column(columns, role, requested, spec)],)

        label = spec.label
        if label is None and "label" not in columns and "labels" in columns:
            label = "labels"
        own = cls(
            path("text", spec.text),
            path("label", label) if spec.labeled else None,
            [path("column", name) for name in spec.keep],
        )
        if own.text == own.label:
            find_columns(columns, spec, multi_label=True)  # raises the error about it
        return own


def _dotted_path(value: Any, name: str) -> tuple[str, ...] | None:
    """Return the keys that lead to a nested field; None if it does not exist."""
    if not isinstance(value, dict):
        return None
    if name in value:
        return (name,)
    parts = name.split(".")
    for i in range(1, len(parts)):
        head = ".".join(parts[:i])
        if head in value and (rest := _dotted_path(value[head], ".".join(parts[i:]))):
            return (head, *rest)
    return None


_ABSENT = object()


def _follow(value: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        if not isinstance(value, dict) or key not in value:
            return _ABSENT
        value = value[key]
    return value


def _json_values(
    values: Sequence[Any], numbers: Sequence[int], fields: _JsonFields | None, spec: ColumnSpec
) -> ParsedRows:
    rows = ParsedRows("json", lines=list(numbers), kept=[[] for _ in spec.keep])
    if fields is not None and fields.label is not None:
        rows.label_column = ".".join(fields.label)
    for index, value in enumerate(values):
        problem, text, label = "", "", None
        kept: list[Any] = [None] * len(spec.keep)
        if isinstance(value, _NoObject):
            problem = value.problem or BLANK_LINE
        elif not isinstance(value, dict) or fields is None:
            problem = f"{json_type(value)} instead of a JSON object"
        else:
            found = _follow(value, fields.text)
            if found is _ABSENT:
                problem = f"no field {quote('.'.join(fields.text))}"
            elif isinstance(found, str):
                text = found
            elif found is not None:
                problem = f"{quote('.'.join(fields.text))} is {json_type(found)}, not a string"
            kept = [None if (one := _follow(value, p)) is _ABSENT else one for p in fields.kept]
            if fields.label is not None:
                label = _follow(value, fields.label)
        if problem:
            rows.problems[index] = problem
        rows.texts.append(text)
        rows.labels.append(None if label is _ABSENT else label)
        for own, one in zip(rows.kept, kept):
            own.append(one)
    return rows


def json_array_rows(blocks: TextBlocks, spec: ColumnSpec) -> Iterator[ParsedRows]:
    """Parse a file that is one JSON array of objects, one row per object.

    Raises:
        DataError: the array is malformed, so that its further rows cannot be separated.
    """
    fields: _JsonFields | None = None
    for values, numbers in array_values(blocks, spec):
        fields = fields or _JsonFields.find(values, spec)
        yield _json_values(values, numbers, fields, spec)


def array_values(blocks: TextBlocks, spec: ColumnSpec) -> Iterator[tuple[list[Any], list[int]]]:
    """Yield the values of an array that each block completes, and their lines."""
    decode = json.JSONDecoder().raw_decode
    source = iter(blocks)
    head = next(source, "")
    buffer = head.lstrip()[1:]
    # Lines are counted from the place where counting stopped.
    line = 1 + head.count("\n", 0, len(head) - len(buffer))
    position = counted = 0
    values: list[Any] = []
    numbers: list[int] = []
    count = 0
    expect_value, at_start, ended = True, True, False

    def skip_space(position: int) -> int:
        while position < len(buffer) and buffer[position] in " \t\r\n":
            position += 1
        return position

    def malformed(reason: str) -> DataError:
        at = line + buffer.count("\n", counted, position)
        return spec.error(
            f"line {at}: object {count + 1} of the JSON array is malformed ({reason}): "
            "write one object per line instead"
        )

    more = True
    while True:
        position = skip_space(position)
        progress = False
        if position < len(buffer):
            if ended:
                raise malformed("text after the end of the array")
            if not expect_value or at_start:
                if buffer[position] == "]":
                    ended = progress = True
                    position += 1
                elif not at_start:
                    if buffer[position] != ",":
                        raise malformed("expected , or ]")
                    expect_value = progress = True
                    position += 1
            if not progress:
                try:
                    value, stop = decode(buffer, position)
                    # A number may go on in the next block.
                    progress = stop < len(buffer) or not more or buffer[stop - 1] in '}]"'
                except RecursionError as error:
                    raise malformed("nested too deeply") from error
                except ValueError as error:
                    cut = not isinstance(error, json.JSONDecodeError) or (
                        "Unterminated" in error.msg or error.pos >= len(buffer) - 12
                    )
                    if not more or not cut:
                        raise malformed(str(error).splitlines()[0]) from error
                if progress:
                    line += buffer.count("\n", counted, position)
                    counted = position
                    values.append(value)
                    numbers.append(line)
                    count += 1
                    position, expect_value, at_start = stop, False, False
            if progress:
                continue
        if values:
            yield values, numbers
            values, numbers = [], []
        if not more:
            break
        line += buffer.count("\n", counted, position)
        buffer = buffer[position:]
        position = counted = 0
        if len(buffer) > MAX_ROW_CHARS:
            raise malformed(f"longer than {MAX_ROW_CHARS:,} characters")
        # Twice as much each time, so that a long object is not parsed from its start too often.
        wanted, parts = max(1, len(buffer)), []
        while wanted > 0:
            block = next(source, None)
            if block is None:
                more = False
                break
            parts.append(block)
            wanted -= len(block)
        buffer += "".join(parts)
    if not ended:
        raise malformed("the file ends before the array does")
