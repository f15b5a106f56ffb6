"""Texts and labels from the user's own files.

CSV and TSV with a header, JSON lines, Parquet, fastText's `__label__` lines; for texts alone also
plain lines. A text has one label or, in files that say so, any number of them. UTF-8 with or
without a byte order mark, LF or CRLF. A file is read whole.
"""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from hyperagg.data.datasets import store
from hyperagg.data.datasets.dataset import Split
from hyperagg.data.readers import formats
from hyperagg.data.readers.columns import Columns, Wanted, count, is_blank
from hyperagg.data.readers.errors import DataError, quote
from hyperagg.data.readers.formats import LABEL_PREFIX

FORMATS = ("csv", "tsv", "jsonl", "parquet", "fasttext", "lines")

EXTENSIONS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".txt": "fasttext",
    ".ft": "fasttext",
}

PARQUET_MAGIC = b"PAR1"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# How a file that is no text begins, what it is and what would do.
BINARY_MAGIC = (
    (b"\x1f\x8b", "gzip-compressed: decompress it first"),
    (b"BZh", "bzip2-compressed: decompress it first"),
    (b"\xfd7zXZ\x00", "xz-compressed: decompress it first"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed: decompress it first"),
    (b"PK\x03\x04", "a ZIP archive or an Excel file: unpack it or save it as CSV"),
    (b"\xd0\xcf\x11\xe0", "an old Office file: save it as CSV"),
    (b"%PDF-", "a PDF, not a table: export its text as CSV"),
    (b"\x89PNG", "a PNG picture, not text"),
    (b"\xff\xd8\xff", "a JPEG picture, not text"),
    (b"\xff\xfe", "UTF-16: save it as UTF-8"),
    (b"\xfe\xff", "UTF-16: save it as UTF-8"),
)


def read_file(
    path: str | os.PathLike[str],
    text: str | None = None,
    label: str | None = None,
    *,
    format: str | None = None,
    label_separator: str | None = None,
) -> Split:
    """Reads texts and their labels.

    Labels that are numbers become their strings. Rows keep their order; none is dropped.

    Every text gets a tuple of labels, each of them once, in place of one label where
    - a row of JSON lines or the column of a Parquet file has a list, which may be empty; plain
      labels in other rows are lists of one then;
    - a line of fastText's has several labels, or none while others have some;
    - a CSV or TSV file is read with a `label_separator`.

    Args:
        path: a file, or "-" for standard input.
        text: the column with the texts; by default the one called "text".
        label: the column with the labels; by default the one called "label" or, where a row can
            have several and there is no such column, "labels".
        format: one of `FORMATS`; by default it follows from the extension, and where there is
            none from the content.
        label_separator: what stands between the labels in a cell of a CSV or TSV file, such as
            "|". White space around labels does not count, and an empty cell has no labels.

    Returns:
        the texts and labels, at least one of each.

    Raises:
        DataError: one line that names the file, the row or column and what would do.
    """
    wanted = Wanted(display_name(path), text, label, label_separator=label_separator)
    columns = read_columns(path, wanted, format)
    assert columns.labels is not None
    return Split(columns.texts, columns.labels)


def read_texts(
    path: str | os.PathLike[str], text: str | None = None, *, format: str | None = None
) -> list[str]:
    """Reads texts alone, as for predicting: labels may be there or not.

    A .txt file is fastText's format if its first line has a label, and otherwise one text
    a line. Arguments and errors are those of `read_file`.
    """
    return read_columns(path, Wanted(display_name(path), text, labelled=False), format).texts


def read_columns(path: str | os.PathLike[str], wanted: Wanted, format: str | None) -> Columns:
    if format is not None and format not in FORMATS:
        raise DataError(f"format {quote(format)} is not known; there are {', '.join(FORMATS)}")
    if wanted.label_separator == "":
        raise wanted.error("the label separator is empty: give one, such as |, or none at all")
    content = read_bytes(path)
    format = format or find_format(Path(path).suffix.lower(), content, wanted)
    if wanted.label_separator is not None and format not in ("csv", "tsv"):
        raise wanted.error(
            f"a label separator is for CSV and TSV, and this is read as {format}: leave it out"
        )
    if format == "parquet":
        columns = formats.parse_parquet(content, wanted)
    else:
        columns = parse_text(decode(content, wanted), format, wanted)
    check_rows(columns, wanted)
    return columns


def parse_text(content: str, format: str, wanted: Wanted) -> Columns:
    if not content or content.isspace():
        raise wanted.error("is empty: it needs a row for each text")
    if format == "lines":
        if wanted.labelled:
            raise wanted.error("is read as plain lines, which have no labels: use another format")
        return formats.parse_lines(content, wanted)
    if format == "fasttext":
        first = content.lstrip().partition("\n")[0].split()
        if not wanted.labelled and not any(word.startswith(LABEL_PREFIX) for word in first):
            return formats.parse_lines(content, wanted)
        return formats.parse_fasttext(content, wanted)
    parse = {
        "csv": formats.parse_csv,
        "tsv": formats.parse_tsv,
        "jsonl": formats.parse_json_lines,
    }[format]
    return parse(content, wanted)


@contextmanager
def open_bytes(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file or, for "-", standard input."""
    if str(path) == "-":
        if sys.stdin is None:
            raise DataError("standard input: is closed")
        yield sys.stdin.buffer
        return
    try:
        with Path(path).open("rb") as file:
            yield file
    except FileNotFoundError as error:
        hint = data_set_hint(str(path))
        raise DataError(f"{display_name(path)}: there is no such file{hint}") from error
    except IsADirectoryError as error:
        raise DataError(
            f"{display_name(path)}: is a directory, not a file: name a file in it"
        ) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{display_name(path)}: cannot be read ({reason})") from error


def data_set_hint(name: str) -> str:
    """Where the rows of a data set are whose name was given for a file's."""
    for root in (store.own_directory(), store.cache_directory()):
        if root is not None and Path(name).name == name and store.is_whole(root / name):
            return (
                f"; the data set of that name is {root / name / 'train.parquet'} and test.parquet"
            )
    return ""


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    with open_bytes(path) as file:
        return file.read()


def read_chunks(path: str | os.PathLike[str], size: int = 1 << 20) -> Iterator[str]:
    """The text of a file of any size as it comes, about `size` bytes at a time.

    Raises:
        DataError: as `decode`, when the reading has come so far.
    """
    wanted = Wanted(display_name(path), labelled=False)
    decoder, before = codecs.getincrementaldecoder("utf-8-sig")(), 0
    with open_bytes(path) as file:
        while True:
            piece = file.read(size)
            check_kind(piece, wanted, before)
            try:
                yield decoder.decode(piece, final=not piece)
            except UnicodeDecodeError as error:
                at = before + len(piece) - len(error.object) + error.start
                raise wanted.error(
                    f"is not UTF-8 (byte {at + 1:,} is 0x{error.object[error.start]:02x}): "
                    "save it as UTF-8"
                ) from error
            if not piece:
                return
            before += len(piece)


def display_name(path: str | os.PathLike[str]) -> str:
    return "standard input" if str(path) == "-" else str(path)


def decode(content: bytes, wanted: Wanted) -> str:
    """Text out of bytes.

    Raises:
        DataError: the bytes are some other kind of file or not UTF-8; names the first bad byte.
    """
    check_kind(content, wanted)
    body = content.removeprefix(BYTE_ORDER_MARK)
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        at = len(content) - len(body) + error.start
        raise wanted.error(
            f"line {line:,} is not UTF-8 (byte {at + 1:,} of the file is 0x{content[at]:02x}): "
            "save the file as UTF-8"
        ) from error


def check_kind(content: bytes, wanted: Wanted, before: int = 0) -> None:
    """Raises DataError where a file, of which `before` bytes were checked already, is no text."""
    if not before and content.startswith(PARQUET_MAGIC):
        raise wanted.error("is a Parquet file: call it .parquet or say that this is its format")
    for magic, what in BINARY_MAGIC:
        if not before and content.startswith(magic):
            raise wanted.error(f"is {what}")
    nul = content.find(b"\0")
    if nul >= 0:
        raise wanted.error(
            f"is a binary file or UTF-16 (byte {before + nul + 1:,} is zero): save it as UTF-8 text"
        )


def find_format(extension: str, content: bytes, wanted: Wanted) -> str:
    """The format by the extension or, without one, by the first line.

    Raises:
        DataError: the extension is none of ours, or the first line says nothing.
    """
    if extension in EXTENSIONS:
        return EXTENSIONS[extension]
    if content.startswith(PARQUET_MAGIC):
        return "parquet"
    text = decode(content, wanted).lstrip()
    if extension:
        raise wanted.error(
            f"extension {quote(extension)} is none of {', '.join(EXTENSIONS)}: rename the file or "
            f"say its format ({', '.join(FORMATS)})"
        )
    first = text.partition("\n")[0].rstrip("\r")
    if first.startswith("{"):
        return "jsonl"
    if first.startswith(LABEL_PREFIX):
        return "fasttext"
    for format, separator in (("tsv", "\t"), ("csv", ",")):
        names = [name.strip('"') for name in first.split(separator)]
        # Where only texts are wanted, the first line may be one, commas and all; it counts as a
        # header if it names the column.
        if (wanted.text or "text") in names or (separator in first and needs_header(wanted)):
            return format
    if text and needs_header(wanted):
        raise wanted.error(f"has no format that shows: say it ({', '.join(FORMATS)})")
    return "lines"


def needs_header(wanted: Wanted) -> bool:
    return wanted.labelled or wanted.text is not None


def check_rows(columns: Columns, wanted: Wanted) -> None:
    """Raises DataError where there are no rows, or some without text or label."""
    total = len(columns.texts)
    if not total:
        raise wanted.error("has no rows: it needs one for each text")
    empty = [i for i, one in enumerate(columns.texts) if is_blank(one)]
    if empty:
        raise wanted.error(
            f"{columns.place(empty[0])} has an empty text ({count(len(empty), 'row')} of "
            f"{total:,}): fill or remove them"
        )
    labels = columns.labels or ()
    missing = [i for i, one in enumerate(labels) if isinstance(one, str) and is_blank(one)]
    if missing:
        raise wanted.error(
            f"{columns.place(missing[0])} has no label ({count(len(missing), 'row')} of "
            f"{total:,}): give a label to them or remove them"
        )
