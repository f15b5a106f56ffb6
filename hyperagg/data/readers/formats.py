"""The formats that a user's own file may have: one function each, from its content to columns.

Every function takes the whole content, so that its errors can name a row, and leaves to
`hyperagg.data.readers.files` what is the same for all formats: encoding, empty texts, missing labels.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

from hyperagg.data.readers.columns import (
    Columns,
    Label,
    Wanted,
    count,
    kind,
    listed,
    one_kind,
    one_or_several,
    pick_columns,
    well_formed,
)
from hyperagg.data.readers.errors import DataError, quote

LABEL_PREFIX = "__label__"


def parse_csv(content: str, wanted: Wanted, delimiter: str = ",") -> Columns:
    """Comma- or tab-separated values with a header; fields may be quoted and hold line breaks.

    With a label separator a cell holds any number of labels, and an empty one none.

    Raises:
        DataError: a column is absent or there twice, and those of `read_rows`.
    """
    header, rows, place = read_rows(content, wanted, delimiter)
    separator = wanted.label_separator
    text_at, label_at = pick_columns(header, wanted, several=separator is not None)
    texts = [row[text_at] for row in rows]
    if label_at is None:
        return Columns(texts, None, place)
    cells = [row[label_at] for row in rows]
    if separator is None:
        return Columns(texts, cells, place)
    return Columns(texts, [split_labels(cell, separator) for cell in cells], place)


def read_rows(
    content: str, wanted: Wanted, delimiter: str
) -> tuple[list[str], list[list[str]], Callable[[int], str]]:
    """The header of a file of separated values, its rows, and how errors name each of them.

    Raises:
        DataError: there is no header, a row has too few or too many fields, a quote is never
            closed.
    """
    # strict: without it an open quote swallows the rest of the file and nobody is told.
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    rows: list[list[str]] = []
    starts: list[int] = []
    begin = 1
    limit = csv.field_size_limit(2**31 - 1)
    try:
        for row in reader:
            if row:
                rows.append(row)
                starts.append(begin)
            begin = reader.line_num + 1
    except csv.Error as error:
        raise wanted.error(
            f"the row that begins on line {begin} is not well-formed ({error}): close its quotes, "
            'and write a quote inside a quoted field as ""'
        ) from error
    finally:
        csv.field_size_limit(limit)
    if not rows:
        raise wanted.error("is empty: it needs a header, and a row for each example")
    header = rows.pop(0)
    del starts[0]

    def place(index: int) -> str:
        return f"row {index + 1} (line {starts[index]})"

    for index, row in enumerate(rows):
        if len(row) != len(header):
            raise wanted.error(
                f"{place(index)} has {count(len(row), 'field')} where the header has "
                f"{len(header)}: put quotes around fields that hold the separator "
                f"{delimiter!r} or a line break"
            )
    return header, rows, place


def split_labels(cell: str, separator: str) -> tuple[str, ...]:
    """The labels of a cell, each of them once; white space around them does not count."""
    parts = (part.strip() for part in cell.split(separator))
    return tuple(dict.fromkeys(part for part in parts if part))


def parse_tsv(content: str, wanted: Wanted) -> Columns:
    """Tab-separated values, quoted like CSV."""
    return parse_csv(content, wanted, delimiter="\t")


def parse_json_lines(content: str, wanted: Wanted) -> Columns:
    """One JSON object a line; the first one says which fields there are.

    Raises:
        DataError: a line is not JSON or no object, a field is absent, a text is no string.
    """
    texts: list[str] = []
    labels: list[Label] = []
    numbers: list[int] = []
    text_key = label_key = ""

    def place(index: int) -> str:
        return f"line {numbers[index]}"

    # Not splitlines(): U+2028 and its like are allowed inside JSON strings.
    for number, line in enumerate(content.split("\n"), start=1):
        if not line or line.isspace():
            continue
        here = f"line {number}"
        try:
            record = json.loads(line)
        # Integers of more than 4,300 digits are a plain ValueError, deep nesting a RecursionError.
        except (ValueError, RecursionError) as error:
            raise wanted.error(f"{here} is not JSON ({error}): write one object a line") from error
        if not isinstance(record, dict):
            raise wanted.error(
                f"{here} is no JSON object but {kind(record)}: write one object a line, such as "
                '{"text": "...", "label": "..."}'
            )
        if not numbers:
            columns = list(record)
            text_at, label_at = pick_columns(columns, wanted, several=True)
            text_key = columns[text_at]
            label_key = "" if label_at is None else columns[label_at]
        numbers.append(number)
        texts.append(json_text(record, text_key, here, wanted))
        if wanted.labelled:
            labels.append(one_or_several(record.get(label_key), here, label_key, wanted))
    if not wanted.labelled:
        return Columns(texts, None, place)
    return Columns(texts, one_kind(labels, False, place, wanted), place)


def json_text(record: dict[str, Any], key: str, here: str, wanted: Wanted) -> str:
    if key not in record:
        raise wanted.error(f"{here} has no field {quote(key)}; it has {listed(list(record))}")
    text = record[key]
    if text is None:
        return ""
    if not isinstance(text, str):
        raise wanted.error(f"{here}: {quote(key)} is {kind(text)}, not a string: put it in quotes")
    if not well_formed(text):
        raise wanted.error(
            f"{here}: {quote(key)} has half of a surrogate pair (\\ud800 to \\udfff), which is no "
            "character: remove it"
        )
    return text


def parse_parquet(content: bytes, wanted: Wanted) -> Columns:
    """A Parquet file; only the columns asked for are read.

    Raises:
        DataError: the file is damaged, a column is absent or its type is neither text nor, for
            labels, a number or a list of either.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        schema = file.schema_arrow
        text_at, label_at = pick_columns(schema.names, wanted, several=True)
        chosen = [text_at] if label_at is None else [text_at, label_at]
        for at in chosen:
            check_parquet_type(schema.field(at), at == text_at, wanted)
        table = file.read(columns=[schema.names[at] for at in chosen])
        texts = ["" if text is None else text for text in table[schema.names[text_at]].to_pylist()]
        raw_labels = None if label_at is None else table[schema.names[label_at]].to_pylist()
    except DataError:
        raise
    # Damage may show up as an Arrow error, as an OSError or in the decoding of a string.
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise wanted.error(
            f"is no Parquet file or a damaged one ({shorten(str(error))}): write or copy it again"
        ) from error

    def place(index: int) -> str:
        return f"row {index + 1}"

    if raw_labels is None or label_at is None:
        return Columns(texts, None, place)
    column = schema.field(label_at)
    labels = [
        one_or_several(label, place(index), column.name, wanted)
        for index, label in enumerate(raw_labels)
    ]
    several = element_type(column.type) is not None
    return Columns(texts, one_kind(labels, several, place, wanted), place)


def check_parquet_type(field: Any, is_text: bool, wanted: Wanted) -> None:
    import pyarrow.types as types

    kinds = field.type
    if not is_text:
        kinds = element_type(kinds) or kinds
    if types.is_dictionary(kinds):
        kinds = kinds.value_type
    name = quote(field.name)
    stringy = types.is_string(kinds) or types.is_large_string(kinds) or types.is_string_view(kinds)
    # A column of nothing but nulls says so with missing labels or empty texts, which is clearer.
    if stringy or types.is_null(kinds):
        return
    if is_text:
        raise wanted.error(f"column {name} holds {field.type}, not text: name a column of strings")
    if not (types.is_integer(kinds) or types.is_floating(kinds) or types.is_boolean(kinds)):
        raise wanted.error(
            f"column {name} holds {field.type}, which is no label: use strings or integers, or "
            "lists of them"
        )


def element_type(kinds: Any) -> Any:
    """What the lists of an Arrow list type hold; None for all other types."""
    import pyarrow.types as types

    lists = (
        types.is_list,
        types.is_large_list,
        types.is_fixed_size_list,
        types.is_list_view,
        types.is_large_list_view,
    )
    return kinds.value_type if any(is_one(kinds) for is_one in lists) else None


def parse_fasttext(content: str, wanted: Wanted) -> Columns:
    """Lines of `__label__NAME words ...`, as fastText reads them; empty lines are skipped.

    Where any line has several labels, all have tuples of any number of them.

    Raises:
        DataError: no line has a label; some line has none where no line has several; or a label is
            without a name.
    """
    texts: list[str] = []
    labels: list[tuple[str, ...]] = []
    numbers: list[int] = []
    for number, line in enumerate(content.split("\n"), start=1):
        if not line or line.isspace():
            continue
        head, _, rest = line.strip().partition(" ")
        found = [head]
        if not head.startswith(LABEL_PREFIX) or LABEL_PREFIX in rest or len(head.split()) > 1:
            # The rare forms: the label in another place, several of them, none, or a tab after it.
            words = line.split()
            found = [word for word in words if word.startswith(LABEL_PREFIX)]
            rest = " ".join(word for word in words if word not in found)
        if LABEL_PREFIX in found and wanted.labelled:
            raise wanted.error(f"line {number} has no label after {LABEL_PREFIX}: write a name")
        texts.append(rest)
        labels.append(tuple(name.removeprefix(LABEL_PREFIX) for name in dict.fromkeys(found)))
        numbers.append(number)

    def place(index: int) -> str:
        return f"line {numbers[index]}"

    if not wanted.labelled:
        return Columns(texts, None, place)
    if not any(labels):
        raise wanted.error(
            f"no line has a label: begin each with {LABEL_PREFIX}NAME and a space, or use CSV"
        )
    if all(len(names) == 1 for names in labels):
        return Columns(texts, [name for (name,) in labels], place)
    if all(len(names) <= 1 for names in labels):
        bare = labels.index(())
        raise wanted.error(
            f"line {numbers[bare]} has no label ({count(labels.count(()), 'row')} of "
            f"{len(labels):,}), and no line has several: begin it with {LABEL_PREFIX}NAME, or "
            "remove it"
        )
    return Columns(texts, labels, place)


def parse_lines(content: str, wanted: Wanted) -> Columns:
    """One text a line and no labels."""
    lines = content.removesuffix("\n").split("\n")
    return Columns([line.removesuffix("\r") for line in lines], None, lambda i: f"line {i + 1}")


def shorten(message: str, limit: int = 120) -> str:
    lines = message.splitlines() or [""]
    return lines[0] if len(lines[0]) <= limit else lines[0][: limit - 1] + "…"
