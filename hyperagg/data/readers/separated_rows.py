"""Parses separated values, with or without quoting."""

from __future__ import annotations

import csv
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from hyperagg.data.readers.columns import (
    ColumnSpec,
    find_column,
    find_columns,
    is_blank,
    pluralize,
)
from hyperagg.data.readers.errors import DataError
from hyperagg.data.readers.parsed_rows import BLANK_LINE, ParsedRows, name_lines
from hyperagg.data.readers.text_lines import MAX_ROW_CHARS, TextBlocks

__all__ = ["Cells", "separated_cells", "separated_rows"]

DIALECTS = (";", "|", "\t", ",", ":")
MALFORMED = "malformed quotes"
UNCLOSED = "unclosed quotes"
CARRIAGE_RETURN = "a carriage return outside quotes"
SPANNING = "quotes that are not closed on their line"


class _LineFeed:
    """Hand lines to a csv.reader one by one, and know when a block is used up.

    Within a row it ends where the row must: after the first line unless quoted fields can span
    lines, and where the row would not fit into memory. The next row continues behind that line.
    """

    def __init__(self, blocks: TextBlocks, multi_line: bool) -> None:
        self._blocks = blocks.lines(keep_cr=True)  # of a CRLF in a quoted field
        self._lines: list[str] = []
        self._at = 0
        self.multi_line = multi_line
        self.number = 0  # of the line handed out last
        self.line = ""
        self._row_chars = 0

    def __iter__(self) -> _LineFeed:
        return self

    def __next__(self) -> str:
        if self._row_chars > (MAX_ROW_CHARS if self.multi_line else 0):
            raise StopIteration
        while self._at == len(self._lines):
            self._lines, self._at = next(self._blocks), 0
        line = self._lines[self._at]
        self.line = line.removesuffix("\r")
        self._at += 1
        self.number += 1
        self._row_chars += len(line) + 1
        return line + "\n"

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
    than the header has a problem. So have lines in which the parser finds a quote that is not
    closed or misplaced: they are one row, and the next one begins on the line after them.

    Args:
        blocks: the file.
        spec: the columns to read.
        delimiter: one character.
        quoting: whether fields can be quoted.
        header: whether the first row has the names of the columns; otherwise they are "1", "2", ….
        multi_line: whether a quoted field can span lines.

    Raises:
        DataError: a column is missing or not unique, or the first row is malformed.
    """
    feed = _LineFeed(blocks, multi_line)
    parsed = _cells(feed, delimiter, quoting)
    rows = ParsedRows("separated")
    text_at = label_at = -1
    kept_at: list[int] = []
    width = 0
    for begin, end, cells, problem in parsed:
        if not width:
            if problem:
                raise spec.error(
                    f"{name_lines(begin, end)}: {problem}, in the first row of the file: write a "
                    'quote inside a quoted field as "", or read the file without quoting'
                )
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
            rows.last_lines[len(rows.texts)] = end
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


# The first and the last line, the fields, and what is wrong with them.
Cells = tuple[int, int, list[str], str]


def separated_cells(
    blocks: TextBlocks, delimiter: str, quoting: bool, multi_line: bool
) -> Iterator[Cells]:
    """Return the fields of every row, the header and blank lines included."""
    return _cells(_LineFeed(blocks, multi_line), delimiter, quoting)


def _cells(feed: _LineFeed, delimiter: str, quoting: bool) -> Iterator[Cells]:
    if not quoting:
        yield from _split(feed, delimiter)
        return
    with _long_fields():
        yield from _quoted(feed, delimiter)


def _split(feed: _LineFeed, delimiter: str) -> Iterator[Cells]:
    begin = feed.begin_row()
    for _ in feed:
        yield begin, begin, feed.line.split(delimiter), ""
        begin = feed.begin_row()


def _quoted(feed: _LineFeed, delimiter: str) -> Iterator[Cells]:
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
            if feed.number == begin and '"' not in feed.line:  # it has a CR
                cells = feed.line.split(delimiter)
            elif "new-line character" in str(error):
                cells, problem = [], CARRIAGE_RETURN
            elif "end of data" not in str(error):
                cells, problem = [], MALFORMED
            else:
                cells, problem = [], UNCLOSED if feed.multi_line else SPANNING
        yield begin, feed.number, cells, problem


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
                f"is read without a header: name the columns by their numbers, 1 to {len(names)} "
                f"({'--text, --label' if spec.labeled else '--text'})"
            )
        return 0, -1, [find_column(names, "--keep", name, spec) for name in spec.keep]
    try:
        text_at, label_at = find_columns(names, spec, multi_label=spec.label_separator is not None)
        kept_at = [find_column(names, "--keep", name, spec) for name in spec.keep]
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
