"""The formats that a user's own file may have: one function each, from its content to columns.

Every function takes the whole content, so that its errors can name a row, and leaves to
`hyperagg.data.files` what is the same for all formats: encoding, empty texts, missing labels.
"""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from hyperagg.data.columns import (
    ONE_LABEL,
    Columns,
    Wanted,
    count,
    kind,
    label_string,
    listed,
    pick_columns,
    well_formed,
)
from hyperagg.data.errors import DataError, quote

LABEL_PREFIX = "__label__"


def parse_csv(content: str, wanted: Wanted, delimiter: str = ",") -> Columns:
    """Comma- or tab-separated values with a header; fields may be quoted and hold line breaks.

    Raises:
        DataError: a column is absent or there twice, a row has too few or too many fields, a quote
            is never closed.
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

    header = rows.pop(0)
    del starts[0]

    def place(index: int) -> str:
        return f"row {index + 1} (line {starts[index]})"

    text_at, label_at = pick_columns(header, wanted)
    for index, row in enumerate(rows):
        if len(row) != len(header):
            raise wanted.error(
                f"{place(index)} has {count(len(row), 'field')} where the header has "
                f"{len(header)}: put quotes around fields that hold the separator "
                f"{delimiter!r} or a line break"
            )
    texts = [row[text_at] for row in rows]
    labels = None if label_at is None else [row[label_at] for row in rows]
    return Columns(texts, labels, place)


def parse_tsv(content: str, wanted: Wanted) -> Columns:
    """Tab-separated values, quoted like CSV."""
    return parse_csv(content, wanted, delimiter="\t")


def parse_json_lines(content: str, wanted: Wanted) -> Columns:
    """One JSON object a line; the first one says which fields there are.

    Raises:
        DataError: a line is not JSON or no object, a field is absent, a text is no string.
    """
    texts: list[str] = []
    labels: list[str] = []
    numbers: list[int] = []
    text_key = label_key = ""
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
            text_at, label_at = pick_columns(columns, wanted)
            text_key = columns[text_at]
            label_key = "" if label_at is None else columns[label_at]
        numbers.append(number)
        texts.append(json_text(record, text_key, here, wanted))
        if wanted.labelled:
            labels.append(label_string(record.get(label_key), here, label_key, wanted))
    return Columns(
        texts, labels if wanted.labelled else None, lambda index: f"line {numbers[index]}"
    )


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
            labels, a number.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        schema = file.schema_arrow
        text_at, label_at = pick_columns(schema.names, wanted)
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

    labels = None
    if raw_labels is not None and label_at is not None:
        column = schema.names[label_at]
        labels = [
            label_string(label, place(index), column, wanted)
            for index, label in enumerate(raw_labels)
        ]
    return Columns(texts, labels, place)


def check_parquet_type(field: Any, is_text: bool, wanted: Wanted) -> None:
    import pyarrow.types as types

    kinds = field.type
    if types.is_dictionary(kinds):
        kinds = kinds.value_type
    name = quote(field.name)
    stringy = types.is_string(kinds) or types.is_large_string(kinds) or types.is_string_view(kinds)
    # A column of nothing but nulls says so with missing labels or empty texts, which is clearer.
    if stringy or types.is_null(kinds):
        return
    if is_text:
        raise wanted.error(f"column {name} holds {field.type}, not text: name a column of strings")
    if types.is_list(kinds) or types.is_large_list(kinds):
        raise wanted.error(f"column {name} holds lists: {ONE_LABEL}; keep one label a row")
    if not (types.is_integer(kinds) or types.is_floating(kinds) or types.is_boolean(kinds)):
        raise wanted.error(
            f"column {name} holds {field.type}, which is no label: use strings or integers"
        )


def parse_fasttext(content: str, wanted: Wanted) -> Columns:
    """Lines of `__label__NAME words ...`, as fastText reads them; empty lines are skipped.

    Raises:
        DataError: a line has several labels.
    """
    texts: list[str] = []
    labels: list[str] = []
    numbers: list[int] = []
    for number, line in enumerate(content.split("\n"), start=1):
        if not line or line.isspace():
            continue
        head, _, rest = line.strip().partition(" ")
        if not head.startswith(LABEL_PREFIX) or LABEL_PREFIX in rest or len(head.split()) > 1:
            # The rare forms: the label in another place, several of them, none, or a tab after it.
            words = line.split()
            found = [word for word in words if word.startswith(LABEL_PREFIX)]
            if len(found) > 1 and wanted.labelled:
                raise wanted.error(
                    f"line {number} has {len(found)} labels: {ONE_LABEL}; keep one of "
                    f"{listed(found)}"
                )
            head = found[0] if found else ""
            rest = " ".join(word for word in words if word not in found)
        texts.append(rest)
        labels.append(head.removeprefix(LABEL_PREFIX))
        numbers.append(number)
    if wanted.labelled and not any(labels):
        raise wanted.error(
            f"no line has a label: begin each with {LABEL_PREFIX}NAME and a space, or use CSV"
        )
    return Columns(
        texts, labels if wanted.labelled else None, lambda index: f"line {numbers[index]}"
    )


def parse_lines(content: str, wanted: Wanted) -> Columns:
    """One text a line and no labels."""
    lines = content.removesuffix("\n").split("\n")
    return Columns([line.removesuffix("\r") for line in lines], None, lambda i: f"line {i + 1}")


def shorten(message: str, limit: int = 120) -> str:
    lines = message.splitlines() or [""]
    return lines[0] if len(lines[0]) <= limit else lines[0][: limit - 1] + "…"
