"""Parsers of the formats of `hyperagg.data.readers.files`, one function per format.

Every function takes the whole content, so that its errors can name a row. The checks that are the
same for all formats (encoding, empty texts, missing labels) are in `hyperagg.data.readers.files`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

from hyperagg.data.readers.columns import (
    Columns,
    ColumnSpec,
    Label,
    find_columns,
    is_well_formed,
    join_quoted,
    json_type,
    parse_label,
    pluralize,
    unify_labels,
)
from hyperagg.data.readers.errors import DataError, quote

LABEL_PREFIX = "__label__"


def parse_csv(content: str, spec: ColumnSpec, delimiter: str = ",") -> Columns:
    """Parse comma- or tab-separated values with a header.

    Fields can be quoted and contain line breaks. With a label separator, a cell holds any number of
    labels, and an empty cell holds none.

    Raises:
        DataError: a column is missing or not unique; or as in `read_rows`.
    """
    header, rows, row_name = read_rows(content, spec, delimiter)
    separator = spec.label_separator
    text_index, label_index = find_columns(header, spec, multi_label=separator is not None)
    texts = [row[text_index] for row in rows]
    if label_index is None:
        return Columns(texts, None, row_name)
    cells = [row[label_index] for row in rows]
    if separator is None:
        return Columns(texts, cells, row_name)
    return Columns(texts, [split_labels(cell, separator) for cell in cells], row_name)


def read_rows(
    content: str, spec: ColumnSpec, delimiter: str
) -> tuple[list[str], list[list[str]], Callable[[int], str]]:
    """Return the header of separated values, the rows, and the function that names a row.

    Raises:
        DataError: the header is missing, a row has too few or too many fields, or a quote is not
            closed.
    """
    # Without strict, an unclosed quote would silently swallow the rest of the file.
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
        raise spec.error(
            f"the row that begins on line {begin} is not well-formed ({error}): close its quotes, "
            'and write a quote inside a quoted field as ""'
        ) from error
    finally:
        csv.field_size_limit(limit)
    if not rows:
        raise spec.error("the file is empty: expected a header and one row per example")
    header = rows.pop(0)
    del starts[0]

    def row_name(index: int) -> str:
        return f"row {index + 1} (line {starts[index]})"

    for index, row in enumerate(rows):
        if len(row) != len(header):
            raise spec.error(
                f"{row_name(index)} has {pluralize(len(row), 'field')} where the header has "
                f"{len(header)}: put quotes around fields that contain the separator "
                f"{delimiter!r} or a line break"
            )
    return header, rows, row_name


def split_labels(cell: str, separator: str) -> tuple[str, ...]:
    """Return the distinct labels of a cell without the white space around them."""
    parts = (part.strip() for part in cell.split(separator))
    return tuple(dict.fromkeys(part for part in parts if part))


def parse_tsv(content: str, spec: ColumnSpec) -> Columns:
    """Parse tab-separated values, which are quoted like CSV."""
    return parse_csv(content, spec, delimiter="\t")


def parse_json_lines(content: str, spec: ColumnSpec) -> Columns:
    """Parse one JSON object per line; the first object determines the field names.

    Raises:
        DataError: a line is not a JSON object, a field is missing, or a text is not a string.
    """
    texts: list[str] = []
    labels: list[Label] = []
    numbers: list[int] = []
    text_key = label_key = ""

    def row_name(index: int) -> str:
        return f"line {numbers[index]}"

    # Not splitlines(): JSON strings may contain U+2028 and similar characters.
    for number, line in enumerate(content.split("\n"), start=1):
        if not line or line.isspace():
            continue
        row = f"line {number}"
        try:
            record = json.loads(line)
        # An integer of more than 4,300 digits raises ValueError, deep nesting RecursionError.
        except (ValueError, RecursionError) as error:
            raise spec.error(
                f"{row} is not JSON ({error}): expected one object per line"
            ) from error
        if not isinstance(record, dict):
            raise spec.error(
                f"{row}: expected a JSON object, got {json_type(record)}; write one per line, as "
                '{"text": "...", "label": "..."}'
            )
        if not numbers:
            columns = list(record)
            text_index, label_index = find_columns(columns, spec, multi_label=True)
            text_key = columns[text_index]
            label_key = "" if label_index is None else columns[label_index]
        numbers.append(number)
        texts.append(json_text(record, text_key, row, spec))
        if spec.labeled:
            labels.append(parse_label(record.get(label_key), row, label_key, spec))
    if not spec.labeled:
        return Columns(texts, None, row_name)
    return Columns(texts, unify_labels(labels, False, row_name, spec), row_name)


def json_text(record: dict[str, Any], key: str, row: str, spec: ColumnSpec) -> str:
    """Return the text of a JSON object; null is the empty string."""
    if key not in record:
        raise spec.error(
            f"{row} has no field {quote(key)}; its fields are {join_quoted(list(record))}"
        )
    text = record[key]
    if text is None:
        return ""
    if not isinstance(text, str):
        raise spec.error(f"{row}: {quote(key)} is {json_type(text)}: expected a string")
    if not is_well_formed(text):
        raise spec.error(
            f"{row}: {quote(key)} has an unpaired surrogate (\\ud800 to \\udfff), which is not a "
            "character: remove it"
        )
    return text


def parse_parquet(content: bytes, spec: ColumnSpec) -> Columns:
    """Parse a Parquet file, of which only the requested columns are read.

    Raises:
        DataError: the file is damaged, a column is missing, or its type is not text or, for labels,
            a number or a list of either.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        schema = file.schema_arrow
        text_index, label_index = find_columns(schema.names, spec, multi_label=True)
        chosen = [text_index] if label_index is None else [text_index, label_index]
        for at in chosen:
            check_parquet_type(schema.field(at), at == text_index, spec)
        table = file.read(columns=[schema.names[at] for at in chosen])
        texts = [
            "" if text is None else text for text in table[schema.names[text_index]].to_pylist()
        ]
        raw_labels = None if label_index is None else table[schema.names[label_index]].to_pylist()
    except DataError:
        raise
    # Damage raises an Arrow error, an OSError or an error of decoding a string.
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise spec.error(
            f"is not a Parquet file, or a damaged one ({shorten(str(error))}); write or copy it "
            "again"
        ) from error

    def row_name(index: int) -> str:
        return f"row {index + 1}"

    if raw_labels is None or label_index is None:
        return Columns(texts, None, row_name)
    column = schema.field(label_index)
    labels = [
        parse_label(label, row_name(index), column.name, spec)
        for index, label in enumerate(raw_labels)
    ]
    multi_label = element_type(column.type) is not None
    return Columns(texts, unify_labels(labels, multi_label, row_name, spec), row_name)


def check_parquet_type(field: Any, is_text: bool, spec: ColumnSpec) -> None:
    """Raise DataError if the type of a column is not text or, for labels, not a label."""
    import pyarrow.types as types

    kinds = field.type
    if not is_text:
        kinds = element_type(kinds) or kinds
    if types.is_dictionary(kinds):
        kinds = kinds.value_type
    name = quote(field.name)
    stringy = types.is_string(kinds) or types.is_large_string(kinds) or types.is_string_view(kinds)
    # A column of nulls is reported as missing labels or empty texts, which is clearer.
    if stringy or types.is_null(kinds):
        return
    if is_text:
        raise spec.error(f"column {name} has type {field.type}: expected strings")
    if not (types.is_integer(kinds) or types.is_floating(kinds) or types.is_boolean(kinds)):
        raise spec.error(
            f"column {name} has type {field.type}, not labels: expected strings or integers, or "
            "lists of them"
        )


def element_type(kinds: Any) -> Any:
    """Return the element type of an Arrow list type; None for any other type."""
    import pyarrow.types as types

    lists = (
        types.is_list,
        types.is_large_list,
        types.is_fixed_size_list,
        types.is_list_view,
        types.is_large_list_view,
    )
    return kinds.value_type if any(is_one(kinds) for is_one in lists) else None


def parse_fasttext(content: str, spec: ColumnSpec) -> Columns:
    """Parse lines of `__label__NAME words ...` as fastText does; empty lines are skipped.

    If any line has several labels, the labels of every line are a tuple.

    Raises:
        DataError: no line has a label; a line has none and no line has several; or a label has no
            name.
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
            # The rare forms: a label after a word, several labels, none, or a tab after the label.
            words = line.split()
            found = [word for word in words if word.startswith(LABEL_PREFIX)]
            rest = " ".join(word for word in words if word not in found)
        if LABEL_PREFIX in found and spec.labeled:
            raise spec.error(f"line {number} has no label after {LABEL_PREFIX}: add its name")
        texts.append(rest)
        labels.append(tuple(name.removeprefix(LABEL_PREFIX) for name in dict.fromkeys(found)))
        numbers.append(number)

    def row_name(index: int) -> str:
        return f"line {numbers[index]}"

    if not spec.labeled:
        return Columns(texts, None, row_name)
    if not any(labels):
        raise spec.error(
            f"no line has a label: begin every line with {LABEL_PREFIX}NAME and a space, or use CSV"
        )
    if all(len(names) == 1 for names in labels):
        return Columns(texts, [name for (name,) in labels], row_name)
    if all(len(names) <= 1 for names in labels):
        unlabeled = labels.index(())
        raise spec.error(
            f"line {numbers[unlabeled]} has no label ({pluralize(labels.count(()), 'row')} of "
            f"{len(labels):,}), and no line has several: begin it with {LABEL_PREFIX}NAME or "
            "remove it"
        )
    return Columns(texts, labels, row_name)


def parse_lines(content: str, spec: ColumnSpec) -> Columns:
    """Parse one text per line, without labels."""
    lines = content.removesuffix("\n").split("\n")
    return Columns([line.removesuffix("\r") for line in lines], None, lambda i: f"line {i + 1}")


def shorten(message: str, limit: int = 120) -> str:
    """Return the first line of a message, cut to `limit` characters."""
    lines = message.splitlines() or [""]
    return lines[0] if len(lines[0]) <= limit else lines[0][: limit - 1] + "…"
