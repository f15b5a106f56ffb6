"""Read texts and labels from the user's own files as a whole.

The formats are CSV and TSV with a header, JSON lines, JSON arrays, Parquet and fastText's
`__label__` lines. Texts without labels can also be plain lines. A text has one label or, in the
formats that allow it, any number of labels. `hyperagg.data.readers.stream` says what a row is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, chain

from hyperagg.data.dataset import Labels, Split
from hyperagg.data.readers.columns import (
    Columns,
    ColumnSpec,
    Label,
    is_blank,
    parse_label,
    pluralize,
    split_labels,
    unify_labels,
)
from hyperagg.data.readers.errors import DataError
from hyperagg.data.readers.line_rows import LABEL_PREFIX
from hyperagg.data.readers.parsed_rows import BLANK_LINE, INVALID, ParsedRows
from hyperagg.data.readers.sources import FORMATS, display_name, expand_sources, open_stream
from hyperagg.data.readers.stream import EMPTY, ReadOptions, find_problem, parse_source, remedy
from hyperagg.data.readers.text_lines import BAD_BYTE, decode_blocks, has_bad_bytes, repair

__all__ = ["FORMATS", "read_chunks", "read_columns", "read_file", "read_texts"]

Source = str | os.PathLike[str]


def read_file(
    path: Source | Sequence[Source],
    text: str | None = None,
    label: str | None = None,
    *,
    format: str | None = None,
    label_separator: str | None = None,
    delimiter: str | None = None,
    header: bool = True,
    quoting: bool | None = None,
    on_error: str = "stop",
) -> Split:
    """Read texts and their labels from one or several files.

    Numbers as labels become strings. The rows keep their order, and none is dropped unless
    `on_error` says so; blank lines are not rows here. Files may be compressed with gzip, bzip2, xz
    or zstd.

    The labels of all texts are tuples of distinct labels, instead of single labels, if

    - a row of JSON lines or the column of a Parquet file has a list, which may be empty; a single
      label in another row then becomes a tuple of one;
    - a fastText line has several labels, or none while other lines have several;
    - a CSV or TSV file is read with a `label_separator`.

    Args:
        path: a file, "-" for standard input, or several files. A folder stands for the files in
            it, and a pattern such as "shards/*.csv" for those that match.
        text: the column of the texts (default: "text"), in JSON and Parquet also a nested one, such
            as "meta.text".
        label: the column of the labels (default: "label" or, where a row can have several labels
            and that column does not exist, "labels").
        format: one of `FORMATS`; by default it follows from the file name extension or, without
            one, from the content.
        label_separator: the separator of the labels in a cell of a CSV or TSV file, such as "|".
            White space around labels is removed, and an empty cell has no labels.
        delimiter, header, quoting: how CSV and TSV files are written, as for `stream_rows`.
        on_error: what becomes of a row that is malformed or lacks a text or a label: "stop" raises
            an error, "skip" leaves it out.

    Returns:
        the texts and labels of at least one row.

    Raises:
        DataError: a ValueError of one line that names the file, the row or column, and what is
            expected.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("films.csv").write_text("text,label\\na fine film,good\\n")
        >>> read_file("films.csv").labels
        ['good']
    """
    spec = ColumnSpec("", text, label, label_separator=label_separator)
    options = ReadOptions(format, delimiter, header, quoting, on_error)
    columns = read_columns(path, spec, options)
    assert columns.labels is not None
    return Split(columns.texts, columns.labels)


def read_texts(
    path: Source | Sequence[Source],
    text: str | None = None,
    *,
    format: str | None = None,
    delimiter: str | None = None,
    header: bool = True,
    quoting: bool | None = None,
    on_error: str = "stop",
) -> list[str]:
    """Read texts without labels, for example to predict them; labels in the file are ignored.

    A .txt file is read as fastText lines if its first line has a label, and otherwise as one text
    per line. The arguments and errors are those of `read_file`, but a blank line is an error like
    any other empty text. `stream_rows` reads files with empty texts, and files of any size.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("films.txt").write_text("a fine film\\na dull film\\n")
        >>> read_texts("films.txt")
        ['a fine film', 'a dull film']
    """
    spec = ColumnSpec("", text, labeled=False)
    options = ReadOptions(format, delimiter, header, quoting, on_error)
    return read_columns(path, spec, options, blank_lines_are_rows=True).texts


def read_columns(
    source: Source | Sequence[Source],
    spec: ColumnSpec,
    options: ReadOptions,
    *,
    blank_lines_are_rows: bool = False,
) -> Columns:
    """Read the columns of `spec` from files, and check that every row has a text and a label.

    Args:
        source: one or several files, folders or globs.
        spec: the columns; its name is replaced by that of each file.
        options: how to parse the files.
        blank_lines_are_rows: whether a blank line is a row without a text, instead of none.

    Raises:
        DataError: as `read_file`.
    """
    given = source if isinstance(source, Iterable) and not isinstance(source, str) else [source]
    sources = expand_sources(given, format=options.format)
    parts = []
    for one in sources:
        own = replace(spec, name=display_name(one))
        if spec.label_separator == "":
            raise own.error("label_separator='': expected a non-empty string such as '|', or None")
        parts.append(read_unchecked(one, own, options, blank_lines_are_rows))
        check_rows(parts[-1], own)
    return parts[0] if len(parts) == 1 else _join(parts, spec)


def _join(parts: Sequence[Columns], spec: ColumnSpec) -> Columns:
    """Return the rows of several files as those of one."""
    ends = list(accumulate(len(part.texts) for part in parts))

    def row_name(index: int) -> str:
        part = next(i for i, end in enumerate(ends) if index < end)
        start = ends[part] - len(parts[part].texts)
        return parts[part].row_name(index - start)

    labels = None
    if spec.labeled:
        every = [label for part in parts for label in part.labels or ()]
        labels = unify_labels(every, False, row_name, spec)
    before = list(accumulate((part.last_number for part in parts), initial=0))
    return Columns(
        list(chain.from_iterable(part.texts for part in parts)),
        labels,
        row_name,
        [start + number for start, part in zip(before, parts) for number in part.row_numbers],
        before[-1],
        blank_lines=sum(part.blank_lines for part in parts),
        files=len(parts),
        left_out=tuple(chain.from_iterable(part.left_out for part in parts)),
    )


def read_unchecked(
    source: Source, spec: ColumnSpec, options: ReadOptions, blank_lines_are_rows: bool = False
) -> Columns:
    """Read the columns of a file, in which texts and labels may be missing.

    Raises:
        DataError: as `read_file`; the file is empty.
    """
    texts: list[str] = []
    labels: list[Label] = []
    places: list[str] = []
    numbers: list[int] = []
    number = 0
    left_out: list[str] = []
    skip = options.on_error == "skip"
    blank_lines = 0
    rows = None
    for rows, first, _ in parse_source(source, spec, options):
        for index, text in enumerate(rows.texts):
            number = first + index + 1
            place = rows.place(index, first + index)
            problem = rows.problems.get(index) or find_problem(text)
            if problem == BLANK_LINE or (problem == EMPTY and rows.kind == "lines"):
                blank_lines += 1
                if not blank_lines_are_rows:
                    continue
            if rows.kind == "separated":
                place = f"row {number} ({place})"
            label: Label = ""
            try:
                if problem not in ("", BLANK_LINE, EMPTY):
                    raise spec.error(f"{place}: {_describe(problem, text)}{remedy(problem)}")
                if spec.labeled:
                    label = _to_label(rows.labels[index], place, rows, spec)
                # Without "skip", `check_rows` reports these, with their number.
                if skip and is_blank(text):
                    raise spec.error(f"{place}: {EMPTY}")
                if skip and spec.labeled and isinstance(label, str) and is_blank(label):
                    raise spec.error(f"{place}: no label")
            except DataError as error:
                if not skip:
                    raise
                left_out.append(str(error))
                continue
            texts.append(text)
            places.append(place)
            numbers.append(number)
            if spec.labeled:
                labels.append(label)
    read = len(texts) + len(left_out) - (blank_lines if blank_lines_are_rows else 0)
    if rows is None or (not read and blank_lines and rows.kind != "separated"):
        raise spec.error("the file is empty: expected one row per text")

    def row_name(index: int) -> str:
        return f"{spec.name}: {places[index]}"

    if left_out and not texts:
        raise spec.error(f"no row can be used (first: {left_out[0]})")
    unified = None
    if spec.labeled and rows.kind == "fasttext":
        unified = _fasttext_labels(labels, places, spec)
    elif spec.labeled:
        unified = unify_labels(labels, rows.multi_label, places.__getitem__, spec)
    return Columns(texts, unified, row_name, numbers, number, blank_lines, left_out=tuple(left_out))


def _describe(problem: str, text: str) -> str:
    """Return a problem with the first bad byte of the text, if it has one."""
    bad = BAD_BYTE.search(text)
    return f"{problem} (byte 0x{ord(bad[0]) - 0xDC00:02x})" if bad else problem


def _to_label(label: object, place: str, rows: ParsedRows, spec: ColumnSpec) -> Label:
    if isinstance(label, tuple):  # of a fastText line
        bad = next((one for one in label if has_bad_bytes(one)), None)
        if bad is not None:
            raise spec.error(f"{place}: {_describe(INVALID, bad)}{remedy(INVALID)}")
        return label
    if isinstance(label, str) and (bad_byte := BAD_BYTE.search(label)):
        raise spec.error(f"{place}: {_describe(INVALID, bad_byte[0])}{remedy(INVALID)}")
    if isinstance(label, str) and spec.label_separator is not None:
        return split_labels(label, spec.label_separator)
    return parse_label(label, place, rows.label_column, spec)


def _fasttext_labels(labels: list[Label], places: list[str], spec: ColumnSpec) -> Labels:
    """Return the labels of fastText lines: tuples if any line has several, else strings."""
    found = [label for label in labels if isinstance(label, tuple)]
    if not any(found):
        raise spec.error(
            f"no line has a label: begin every line with {LABEL_PREFIX}NAME and a space, or use CSV"
        )
    if all(len(names) == 1 for names in found):
        return [name for (name,) in found]
    if all(len(names) <= 1 for names in found):
        raise spec.error(
            f"{places[found.index(())]} has no label ({pluralize(found.count(()), 'row')} of "
            f"{len(found):,}), and no line has several: begin it with {LABEL_PREFIX}NAME or "
            "remove it"
        )
    return found


def check_rows(columns: Columns, spec: ColumnSpec) -> None:
    """Raise DataError if there are no rows, or if a row has no text or no label."""
    total = len(columns.texts)
    if not total:
        raise spec.error("has no rows: expected one row per text")
    empty = [i for i, one in enumerate(columns.texts) if is_blank(one)]
    if empty:
        raise DataError(
            f"{columns.row_name(empty[0])} has an empty text ({pluralize(len(empty), 'row')} of "
            f"{total:,}): fill or remove them, or leave them out with --on-error skip"
        )
    labels = columns.labels or ()
    missing = [i for i, one in enumerate(labels) if isinstance(one, str) and is_blank(one)]
    if missing:
        raise DataError(
            f"{columns.row_name(missing[0])} has no label ({pluralize(len(missing), 'row')} of "
            f"{total:,}): add the labels or remove the rows"
        )


def read_chunks(path: Source, note: Callable[[str, str], object] | None = None) -> Iterator[str]:
    """Yield the text of a file of any size in chunks of about a megabyte.

    Args:
        path: a text file, which may be compressed, or "-" for standard input. It is UTF-8, or
            UTF-16 or UTF-32 with a byte order mark.
        note: takes what is wrong with a line, such as "invalid UTF-8", and its place, such as
            "line 7". U+FFFD then stands for invalid bytes and unpaired surrogates. Without it, such
            a line and one with a NUL character are an error.

    Raises:
        DataError: the file cannot be read, or there is no `note` and something is wrong with a
            line.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("films.txt").write_text("a fine film")
        >>> list(read_chunks("films.txt"))
        ['a fine film']
    """
    line, noted = 1, 0
    with open_stream(path) as stream:
        for chunk in decode_blocks(stream):
            is_good = find_problem(chunk) in ("", EMPTY)
            for number, own in enumerate([] if is_good else chunk.split("\n"), start=line):
                problem = find_problem(own)
                if problem in ("", EMPTY) or number == noted:  # a line may go on in the next chunk
                    continue
                place = f"line {number}"
                if note is None:
                    raise DataError(
                        f"{stream.name}: {place}: {_describe(problem, own)}{remedy(problem)}"
                    )
                note(problem, place)
                noted = number
            yield chunk if is_good else repair(chunk)
            line += chunk.count("\n")
