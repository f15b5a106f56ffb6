"""Read texts and labels from the user's own files.

The formats are CSV and TSV with a header, JSON lines, Parquet and fastText's `__label__` lines.
Texts without labels can also be plain lines. A text has one label or, in the formats that allow it,
any number of labels. Files are UTF-8, with or without a byte order mark, with LF or CRLF line ends.
A file is read as a whole.
"""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from hyperagg.data.dataset import Split
from hyperagg.data.readers import formats
from hyperagg.data.readers.columns import Columns, ColumnSpec, is_blank, pluralize
from hyperagg.data.readers.errors import DataError, quote
from hyperagg.data.readers.formats import LABEL_PREFIX
from hyperagg.data.readers.sources import EXTENSIONS, FORMATS, dataset_hint, display_name

PARQUET_MAGIC = b"PAR1"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# The first bytes of files that are not text, what they are, and what to do about it.
BINARY_MAGIC = (
    (b"\x1f\x8b", "gzip-compressed: decompress it first"),
    (b"BZh", "bzip2-compressed: decompress it first"),
    (b"\xfd7zXZ\x00", "xz-compressed: decompress it first"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed: decompress it first"),
    (b"PK\x03\x04", "a ZIP archive or an Excel file: unpack it or save it as CSV"),
    (b"\xd0\xcf\x11\xe0", "an old Office file: save it as CSV"),
    (b"%PDF-", "a PDF, not a table: export its text as CSV"),
    (b"\x89PNG", "a PNG image, not text"),
    (b"\xff\xd8\xff", "a JPEG image, not text"),
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
    """Read texts and their labels from a file.

    Numbers as labels become strings. The rows keep their order, and none is dropped.

    The labels of all texts are tuples of distinct labels, instead of single labels, if

    - a row of JSON lines or the column of a Parquet file has a list, which may be empty; a single
      label in another row then becomes a tuple of one;
    - a fastText line has several labels, or none while other lines have several;
    - a CSV or TSV file is read with a `label_separator`.

    Args:
        path: a file, or "-" for standard input.
        text: the column of the texts (default: "text").
        label: the column of the labels (default: "label" or, where a row can have several labels
            and that column does not exist, "labels").
        format: one of `FORMATS`; by default it follows from the file name extension or, without
            one, from the content.
        label_separator: the separator of the labels in a cell of a CSV or TSV file, such as "|".
            White space around labels is removed, and an empty cell has no labels.

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
    spec = ColumnSpec(display_name(path), text, label, label_separator=label_separator)
    columns = read_columns(path, spec, format)
    assert columns.labels is not None
    return Split(columns.texts, columns.labels)


def read_texts(
    path: str | os.PathLike[str], text: str | None = None, *, format: str | None = None
) -> list[str]:
    """Read texts without labels, for example to predict them; labels in the file are ignored.

    A .txt file is read as fastText lines if its first line has a label, and otherwise as one text
    per line. The arguments and errors are those of `read_file`.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("films.txt").write_text("a fine film\\na dull film\\n")
        >>> read_texts("films.txt")
        ['a fine film', 'a dull film']
    """
    return read_columns(path, ColumnSpec(display_name(path), text, labeled=False), format).texts


def read_columns(path: str | os.PathLike[str], spec: ColumnSpec, format: str | None) -> Columns:
    """Read the columns of `spec` from a file, and check that every row has a text and a label."""
    if format is not None and format not in FORMATS:
        raise DataError(f"format={quote(format)}: expected one of {', '.join(FORMATS)}")
    if spec.label_separator == "":
        raise spec.error("label_separator='': expected a non-empty string such as '|', or None")
    content = read_bytes(path)
    format = format or find_format(Path(path).suffix.lower(), content, spec)
    if spec.label_separator is not None and format not in ("csv", "tsv"):
        raise spec.error(
            f"label_separator={quote(spec.label_separator)}: only CSV and TSV have one, and this "
            f"file is read as {format}"
        )
    if format == "parquet":
        columns = formats.parse_parquet(content, spec)
    else:
        columns = parse_text(decode(content, spec), format, spec)
    check_rows(columns, spec)
    return columns


def parse_text(content: str, format: str, spec: ColumnSpec) -> Columns:
    """Parse the content of a file in one of the text formats."""
    if not content or content.isspace():
        raise spec.error("the file is empty: expected one row per text")
    if format == "lines":
        if spec.labeled:
            raise spec.error("is read as plain lines, which have no labels: use another format")
        return formats.parse_lines(content, spec)
    if format == "fasttext":
        first = content.lstrip().partition("\n")[0].split()
        if not spec.labeled and not any(word.startswith(LABEL_PREFIX) for word in first):
            return formats.parse_lines(content, spec)
        return formats.parse_fasttext(content, spec)
    parse = {
        "csv": formats.parse_csv,
        "tsv": formats.parse_tsv,
        "jsonl": formats.parse_json_lines,
    }[format]
    return parse(content, spec)


@contextmanager
def open_bytes(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file or, for "-", standard input."""
    if str(path) == "-":
        if sys.stdin is None:
            raise DataError("standard input: is closed")
        yield sys.stdin.buffer
        return
    try:
        with Path(path).open("rb") as file:
            yield file
    except FileNotFoundError as error:
        hint = dataset_hint(str(path))
        raise DataError(f"{display_name(path)}: the file does not exist{hint}") from error
    except IsADirectoryError as error:
        raise DataError(f"{display_name(path)}: expected a file, got a directory") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{display_name(path)}: cannot be read ({reason})") from error


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Return the content of a file or, for "-", of standard input."""
    with open_bytes(path) as file:
        return file.read()


def read_chunks(path: str | os.PathLike[str], size: int = 1 << 20) -> Iterator[str]:
    """Yield the text of a file of any size in chunks of about `size` bytes.

    Args:
        path: a UTF-8 file, or "-" for standard input.
        size: the number of bytes per chunk.

    Raises:
        DataError: the file cannot be read, or a chunk is not UTF-8 text.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("films.txt").write_text("a fine film")
        >>> list(read_chunks("films.txt", size=6))
        ['a fine', ' film', '']
    """
    spec = ColumnSpec(display_name(path), labeled=False)
    decoder, offset = codecs.getincrementaldecoder("utf-8-sig")(), 0
    with open_bytes(path) as file:
        while True:
            chunk = file.read(size)
            check_is_text(chunk, spec, offset)
            try:
                yield decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                position = offset + len(chunk) - len(error.object) + error.start
                raise spec.error(
                    f"is not UTF-8 (byte {position + 1:,} is 0x{error.object[error.start]:02x}): "
                    "save it as UTF-8"
                ) from error
            if not chunk:
                return
            offset += len(chunk)


def decode(content: bytes, spec: ColumnSpec) -> str:
    """Decode the content of a text file.

    Raises:
        DataError: the file is of another type, or not UTF-8; the first invalid byte is named.
    """
    check_is_text(content, spec)
    body = content.removeprefix(BYTE_ORDER_MARK)
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        position = len(content) - len(body) + error.start
        raise spec.error(
            f"line {line:,} is not UTF-8 (byte {position + 1:,} of the file is "
            f"0x{content[position]:02x}): save the file as UTF-8"
        ) from error


def check_is_text(content: bytes, spec: ColumnSpec, offset: int = 0) -> None:
    """Raise DataError if bytes that start at an offset of a file do not belong to a text file."""
    if not offset and content.startswith(PARQUET_MAGIC):
        raise spec.error("is a Parquet file: rename it to .parquet or give the format parquet")
    for magic, description in BINARY_MAGIC:
        if not offset and content.startswith(magic):
            raise spec.error(f"is {description}")
    nul = content.find(b"\0")
    if nul >= 0:
        raise spec.error(
            f"is a binary file or UTF-16 (byte {offset + nul + 1:,} is zero): save it as UTF-8 text"
        )


def find_format(extension: str, content: bytes, spec: ColumnSpec) -> str:
    """Return the format that follows from the extension or, without one, from the first line.

    Raises:
        DataError: the extension is not known, or the first line does not tell the format.
    """
    if extension in EXTENSIONS:
        return EXTENSIONS[extension]
    if content.startswith(PARQUET_MAGIC):
        return "parquet"
    text = decode(content, spec).lstrip()
    if extension:
        raise spec.error(
            f"extension {quote(extension)}: expected one of {', '.join(EXTENSIONS)}; rename the "
            f"file or give its format ({', '.join(FORMATS)})"
        )
    first = text.partition("\n")[0].rstrip("\r")
    if first.startswith("{"):
        return "jsonl"
    if first.startswith(LABEL_PREFIX):
        return "fasttext"
    for format, separator in (("tsv", "\t"), ("csv", ",")):
        names = [name.strip('"') for name in first.split(separator)]
        # If only texts are read, the first line may be a text with commas in it. It counts as a
        # header if it names the text column.
        if (spec.text or "text") in names or (separator in first and requires_header(spec)):
            return format
    if text and requires_header(spec):
        raise spec.error(f"the format is not recognizable: give it ({', '.join(FORMATS)})")
    return "lines"


def requires_header(spec: ColumnSpec) -> bool:
    """Return whether the columns can only be found in a file that names them."""
    return spec.labeled or spec.text is not None


def check_rows(columns: Columns, spec: ColumnSpec) -> None:
    """Raise DataError if there are no rows, or if a row has no text or no label."""
    total = len(columns.texts)
    if not total:
        raise spec.error("has no rows: expected one row per text")
    empty = [i for i, one in enumerate(columns.texts) if is_blank(one)]
    if empty:
        raise spec.error(
            f"{columns.row_name(empty[0])} has an empty text ({pluralize(len(empty), 'row')} of "
            f"{total:,}): fill or remove them"
        )
    labels = columns.labels or ()
    missing = [i for i, one in enumerate(labels) if isinstance(one, str) and is_blank(one)]
    if missing:
        raise spec.error(
            f"{columns.row_name(missing[0])} has no label ({pluralize(len(missing), 'row')} of "
            f"{total:,}): add the labels or remove the rows"
        )
