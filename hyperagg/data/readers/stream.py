"""Read the texts of a file of any size, one batch of rows after the other.

Every row of the file becomes one row of a batch, in order, so that answers can be written next to
the input. What counts as a row:

- plain lines, fastText and JSON lines: every line, blank ones too. The line end at the end of the
  file does not begin another line.
- TSV: every line after the header. Blank lines before the header are not rows.
- CSV: the same, but a quoted field may span lines. Where quotes are misplaced or not closed, the
  lines up to the one in which the parser notices it are one malformed row; the next line begins
  another row. So a quote that is never closed makes the rest of the file one row.
- a JSON array: every element. What follows an element that cannot be parsed is one malformed row
  together with it.
- Parquet: every row.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Literal, NamedTuple, get_args

from hyperagg._common.validation import check_integer, check_path
from hyperagg.data.readers.columns import ColumnSpec, is_blank
from hyperagg.data.readers.errors import DataError, quote
from hyperagg.data.readers.json_rows import (
    MALFORMED_ARRAY,
    NOT_JSON,
    json_array_rows,
    json_rows,
)
from hyperagg.data.readers.line_rows import LABEL_PREFIX, fasttext_rows, plain_rows
from hyperagg.data.readers.parquet_rows import parquet_rows
from hyperagg.data.readers.parsed_rows import BLANK_LINE, INVALID, ParsedRows
from hyperagg.data.readers.separated_rows import MALFORMED, SPANNING, UNCLOSED, separated_rows
from hyperagg.data.readers.sources import (
    EXTENSIONS,
    FORMATS,
    display_name,
    format_extension,
    open_stream,
)
from hyperagg.data.readers.text_lines import (
    BAD_BYTE,
    ENCODINGS,
    PARQUET_MAGIC,
    TextBlocks,
    has_bad_bytes,
    repair,
)

__all__ = ["Note", "OnError", "RowBatch", "stream_rows"]

OnError = Literal["empty", "stop", "skip"]

NUL = "NUL character"
EMPTY = "empty text"
SURROGATE = "unpaired surrogate"


class Note(NamedTuple):
    """What was wrong with a row.

    Args:
        problem: the same few words for all rows with this problem, such as "empty text".
        place: where the row is, such as "line 7".
    """

    problem: str
    place: str


@dataclass(frozen=True)
class RowBatch:
    """Hold consecutive rows of a file.

    Args:
        rows: the numbers of the rows in the file, counted from 0: a range, unless rows are skipped.
        texts: one per row. A row that cannot be read has an empty text, and invalid bytes are
            replaced by U+FFFD.
        kept: the requested columns: name -> one value per row, None where there is none. Values are
            strings for CSV, TSV and fastText, and any value for JSON and Parquet.
        notes: the number of a row -> what was wrong with it, also for the rows that are skipped.
        end_row: the number of the first row after this batch; reading continues from there with
            `start_row`.
    """

    rows: Sequence[int]
    texts: list[str] = field(repr=False)
    kept: dict[str, list[Any]] = field(repr=False)
    notes: dict[int, Note]
    end_row: int

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def problems(self) -> Counter[str]:
        """The number of rows with each problem."""
        return Counter(note.problem for note in self.notes.values())


def stream_rows(
    source: str | os.PathLike[str],
    *,
    text: str | None = None,
    keep: Sequence[str] = (),
    format: str | None = None,
    delimiter: str | None = None,
    header: bool = True,
    quoting: bool | None = None,
    on_error: OnError = "empty",
    batch_rows: int = 4096,
    max_batch_bytes: int = 1 << 23,
    start_row: int = 0,
) -> Iterator[RowBatch]:
    """Yield the rows of a file in batches, in bounded memory.

    The file may be compressed with gzip, bzip2, xz or zstd. Text is UTF-8, or UTF-16 or UTF-32 with
    a byte order mark. Rows that arrive through a pipe are yielded as soon as no more of them are
    there.

    Args:
        source: a file, or "-" for standard input.
        text: the column of the texts (default: "text"), in JSON and Parquet also a nested one, such
            as "meta.text". Without a header, columns are called "1", "2" and so on, and a single
            column is that of the texts.
        keep: further columns to return.
        format: one of `FORMATS`; by default it follows from the file name extension or, without
            one, from the content.
        delimiter: the character between the fields of a CSV or TSV file (default: comma or tab).
        header: whether the first row of a CSV or TSV file has the names of the columns.
        quoting: whether fields can be in quotes (default: in CSV, not in TSV). A quoted field may
            span lines in CSV only.
        on_error: what becomes of a row that is malformed or has an empty text, invalid bytes, a NUL
            character or an unpaired surrogate: "empty" yields it with a note, and an empty text if
            it has none; "stop" raises an error; "skip" leaves it out, with a note.
        batch_rows: the maximum number of rows in a batch.
        max_batch_bytes: the number of characters of text at which a batch ends.
        start_row: the first row to yield, to continue where an earlier call ended. Row groups of
            Parquet files before it are not read.

    Raises:
        DataError: a ValueError of one line that names the file, the row or column, and what is
            expected. Also with "empty" and "skip" if the file cannot be read, a column is missing,
            or the first row is malformed.

    Cost: the memory of a batch and of one row, whatever the size of the file. One row may have
        67 million characters.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("films.tsv").write_text('id\\ttext\\n7\\ta "fine film\\n\\n')
        >>> [batch] = stream_rows("films.tsv", keep=["id"])
        >>> batch.texts, batch.kept, batch.notes
        (['a "fine film', ''], {'id': ['7', None]}, {1: Note(problem='blank line', place='line 3')})
    """
    check_path("source", source)
    options = ReadOptions(format, delimiter, header, quoting)
    spec = ColumnSpec(display_name(source), text, labeled=False, keep=tuple(keep))
    if on_error not in get_args(OnError):
        raise DataError(
            f"on_error={quote(on_error)}: expected one of {', '.join(get_args(OnError))}"
        )
    for name, value, least in (
        ("batch_rows", batch_rows, 1),
        ("max_batch_bytes", max_batch_bytes, 1),
        ("start_row", start_row, 0),
    ):
        check_integer(name, value, least)
    return _batches(source, spec, options, on_error, batch_rows, max_batch_bytes, start_row)


@dataclass(frozen=True)
class ReadOptions:
    """How to parse a file; the fields are arguments of `stream_rows` and `read_file`."""

    format: str | None = None
    delimiter: str | None = None
    header: bool = True
    quoting: bool | None = None
    on_error: str = "stop"  # where files are read whole

    def __post_init__(self) -> None:
        if self.format is not None and self.format not in FORMATS:
            raise DataError(f"format={quote(self.format)}: expected one of {', '.join(FORMATS)}")
        if self.on_error not in ("stop", "skip"):
            raise DataError(f"on_error={quote(self.on_error)}: expected one of stop, skip")
        delimiter = self.delimiter
        if delimiter is not None and (
            len(delimiter) != 1 or delimiter in '"\r\n\ufeff' or has_bad_bytes(delimiter)
        ):
            raise DataError(f"delimiter={quote(self.delimiter)}: expected one character")

    @property
    def separated(self) -> bool:
        """Whether an option is given that only separated values have."""
        return self.delimiter is not None or not self.header or self.quoting is not None


def parse_source(
    source: str | os.PathLike[str],
    spec: ColumnSpec,
    options: ReadOptions,
    batch_rows: int = 4096,
    start_row: int = 0,
) -> Iterator[tuple[ParsedRows, int, bool]]:
    """Yield parsed rows, the number of the first, and whether the next would be waited for.

    Rows before `start_row` may be yielded.
    """
    with open_stream(source) as stream:
        extension = format_extension(source)
        format = options.format or EXTENSIONS.get(extension)
        if format is None and stream.peek().startswith(PARQUET_MAGIC):
            format = "parquet"
        if options.separated and format not in (None, "csv", "tsv"):
            raise spec.error(
                f"is read as {format}: a delimiter, a missing header and quoting apply to CSV and "
                "TSV only"
            )
        if spec.label_separator is not None and format not in (None, "csv", "tsv"):
            raise spec.error(
                f"label_separator={quote(spec.label_separator)}: only CSV and TSV have one, and "
                f"this file is read as {format}"
            )
        if format == "parquet":
            with stream.seekable() as file:
                yield from _numbered_parquet(file, spec, batch_rows, start_row)
            return
        row = 0
        for rows in _text_rows(TextBlocks(stream), format, extension, spec, options):
            yield rows, row, stream.would_wait()
            row += len(rows.texts)


def _numbered_parquet(
    file: BinaryIO, spec: ColumnSpec, batch_rows: int, start_row: int
) -> Iterator[tuple[ParsedRows, int, bool]]:
    row = start_row
    for rows in parquet_rows(file, spec, batch_rows=batch_rows, start_row=start_row):
        yield rows, row, False
        row += len(rows.texts)


def _text_rows(
    blocks: TextBlocks,
    format: str | None,
    extension: str,
    spec: ColumnSpec,
    options: ReadOptions,
) -> Iterator[ParsedRows]:
    if format is None and options.separated:
        format = "csv"
    if format is None:
        head = blocks.peek()
        if spec.labeled and is_blank(head):
            return iter(())
        format = recognize_format(extension, head, spec)
    if format == "lines":
        return plain_rows(blocks, spec)
    if format == "fasttext":
        words = blocks.peek().lstrip().partition("\n")[0].split()
        if spec.labeled or any(word.startswith(LABEL_PREFIX) for word in words):
            return fasttext_rows(blocks, spec)
        return plain_rows(blocks, spec)
    if format == "jsonl":
        array = blocks.first_character() == "["
        return json_array_rows(blocks, spec) if array else json_rows(blocks, spec)
    return separated_rows(
        blocks,
        spec,
        delimiter=options.delimiter or ("," if format == "csv" else "\t"),
        quoting=format == "csv" if options.quoting is None else options.quoting,
        header=options.header,
        multi_line=format == "csv",
    )


def recognize_format(extension: str, head: str, spec: ColumnSpec) -> str:
    """Return the format that follows from the first line of a text file without an extension.

    Raises:
        DataError: there is an extension that is not known, or the first line does not tell.
    """
    if extension:
        raise spec.error(
            f"extension {quote(extension)}: expected one of {', '.join(EXTENSIONS)}; rename the "
            f"file or give its format ({', '.join(FORMATS)})"
        )
    text = head.lstrip()
    first = text.partition("\n")[0].partition("\r")[0]
    if first.startswith(("{", "[{")) or first.rstrip() == "[":
        return "jsonl"
    if first.startswith(LABEL_PREFIX):
        return "fasttext"
    # If only texts are read, the first line may be a text with commas in it. It counts as a header
    # if it names the text column.
    needs_header = spec.labeled or spec.text is not None or bool(spec.keep)
    for format, separator in (("tsv", "\t"), ("csv", ",")):
        names = [name.strip('"') for name in first.split(separator)]
        if (spec.text or "text") in names or (separator in first and needs_header):
            return format
    if text and needs_header:
        raise spec.error(
            f"the format is not recognizable by the first line; give it ({', '.join(FORMATS)})"
        )
    return "lines"


class _Pending:
    """The rows of the next batch."""

    def __init__(self, spec: ColumnSpec, on_error: OnError, row: int) -> None:
        self._spec = spec
        self._on_error = on_error
        self._first = row
        self.end_row = row
        self._rows: list[int] = []
        self._texts: list[str] = []
        self._kept: list[list[Any]] = [[] for _ in spec.keep]
        self._notes: dict[int, Note] = {}
        self.chars = 0

    def add(self, parsed: ParsedRows, index: int) -> None:
        """Append a row, whose number is `end_row`."""
        row = self.end_row
        self.end_row += 1
        text = parsed.texts[index]
        problem = parsed.problems.get(index) or find_problem(text)
        repaired = []
        for values in parsed.kept:
            value = values[index]
            repaired.append(repair_value(value))
            # NaN differs from itself.
            if not problem and isinstance(value, str | list | dict) and repaired[-1] != value:
                problem = INVALID
        if problem:
            place = parsed.place(index, row)
            if self._on_error == "stop":
                raise self._spec.error(f"{place}: {problem}{remedy(problem)}")
            self._notes[row] = Note(problem, place)
            if self._on_error == "skip":
                return
            text = repair(text)
        self._rows.append(row)
        self._texts.append(text)
        for own, value in zip(self._kept, repaired):
            own.append(value)
        self.chars += len(text)

    def __len__(self) -> int:
        return self.end_row - self._first

    def batch(self) -> RowBatch:
        rows: Sequence[int] = self._rows
        if len(rows) == len(self):
            rows = range(self._first, self.end_row)
        kept = dict(zip(self._spec.keep, self._kept))
        return RowBatch(rows, self._texts, kept, self._notes, self.end_row)


def _batches(
    source: str | os.PathLike[str],
    spec: ColumnSpec,
    options: ReadOptions,
    on_error: OnError,
    batch_rows: int,
    max_batch_bytes: int,
    start_row: int,
) -> Iterator[RowBatch]:
    pending = _Pending(spec, on_error, start_row)
    for parsed, first, waits in parse_source(source, spec, options, batch_rows, start_row):
        for index in range(max(0, start_row - first), len(parsed.texts)):
            pending.add(parsed, index)
            if len(pending) == batch_rows or pending.chars >= max_batch_bytes:
                yield pending.batch()
                pending = _Pending(spec, on_error, pending.end_row)
        if waits and len(pending):
            yield pending.batch()
            pending = _Pending(spec, on_error, pending.end_row)
    if len(pending):
        yield pending.batch()


def find_problem(text: str) -> str:
    """Return what is wrong with a text, or ""."""
    if is_blank(text):
        return EMPTY
    if has_bad_bytes(text):
        return INVALID if BAD_BYTE.search(text) else SURROGATE
    return NUL if "\0" in text else ""


def repair_value(value: Any) -> Any:
    """Return a value of JSON whose strings can be encoded as UTF-8; others stay as they are."""
    if isinstance(value, str):
        return repair(value) if has_bad_bytes(value) else value
    if isinstance(value, list):
        return [repair_value(one) for one in value]
    if isinstance(value, dict):
        return {repair_value(name): repair_value(one) for name, one in value.items()}
    return value


_CLOSE = 'close them, write a quote inside a quoted field as "", or read the file without quoting'
REMEDIES = {
    EMPTY: "fill or remove it",
    BLANK_LINE: "remove it",
    INVALID: f"expected {ENCODINGS}",
    NUL: "remove it",
    SURROGATE: "remove it (\\ud800 to \\udfff are not characters)",
    NOT_JSON: "expected one object per line",
    MALFORMED_ARRAY: "write one object per line instead",
    MALFORMED: _CLOSE,
    UNCLOSED: _CLOSE,
    SPANNING: "read the file without quoting, or as CSV with a tab as the delimiter",
}


def remedy(problem: str) -> str:
    """Return what to do about a problem, after a colon."""
    if problem[:1].isdigit():  # a number of fields
        return (
            ": put quotes around fields that contain the delimiter; in TSV they need quoting "
            "(--quoting)"
        )
    kind = problem.partition(" (")[0]  # without the reason
    return f": {REMEDIES[kind]}" if kind in REMEDIES else ""
