"""The rows of a Parquet file as a stream, by row groups."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hyperagg.data.readers.columns import ColumnSpec, find_column, find_columns
from hyperagg.data.readers.errors import DataError, quote
from hyperagg.data.readers.parsed_rows import ParsedRows

__all__ = ["parquet_rows"]

BUFFER_BYTES = 1 << 20  # per column; without a buffer, Arrow loads the column of a row group whole


def parquet_rows(
    file: Any, spec: ColumnSpec, *, batch_rows: int, start_row: int = 0
) -> Iterator[ParsedRows]:
    """Parse the requested columns of a Parquet file.

    A field of a struct is named with dots, as in "meta.text". A text column may be binary UTF-8. A
    text of null is empty. Row groups before `start_row` are not read.

    Args:
        file: a file that can be sought.
        spec: the columns to read.
        batch_rows: the number of rows to read at once.
        start_row: the first row to yield.

    Raises:
        DataError: the file is damaged, a column is missing, or the text column is not text.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with damage_reported(spec):
        parquet = pq.ParquetFile(file, buffer_size=BUFFER_BYTES, pre_buffer=False)
        schema = parquet.schema_arrow
    paths = _find_paths(schema, spec)
    _check_text_type(_type_at(schema, paths[0]), ".".join(paths[0]), spec)
    if spec.labeled:
        _check_label_type(_type_at(schema, paths[1]), ".".join(paths[1]), spec)
    skip = start_row
    groups: list[int] = []
    with damage_reported(spec):
        for group in range(parquet.num_row_groups):
            rows = parquet.metadata.row_group(group).num_rows
            if skip >= rows and not groups:
                skip -= rows
            else:
                groups.append(group)
    yield ParsedRows("parquet")  # a file without rows is not an empty file
    columns = list(dict.fromkeys(".".join(path) for path in paths))
    batches = parquet.iter_batches(batch_rows, row_groups=groups, columns=columns)
    while True:
        with damage_reported(spec):
            batch = next(batches, None)
            if batch is None:
                return
            dropped = min(skip, batch.num_rows)
            batch, skip = batch.slice(dropped), skip - dropped
            arrays = [_array_at(batch, path) for path in paths]
            texts = _strings(pa, arrays[0])
            labels, *kept = (
                [_values(pa, one) for one in arrays[1:]]
                if spec.labeled
                else [[], *[_values(pa, one) for one in arrays[1:]]]
            )
        rows = ParsedRows("parquet", texts, kept, labels=labels)
        if spec.labeled:
            rows.label_column = ".".join(paths[1])
            rows.multi_label = element_type(_type_at(schema, paths[1])) is not None
        yield rows


@contextmanager
def damage_reported(spec: ColumnSpec) -> Iterator[None]:
    """Report damage, which raises an Arrow error, an OSError or an error of decoding a string."""
    import pyarrow as pa

    try:
        yield
    except DataError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, IndexError) as error:
        reason = (str(error).splitlines() or [""])[0][:120]
        raise spec.error(
            f"is not a Parquet file, or a damaged one ({reason}); write or copy it again"
        ) from error


def _find_paths(schema: Any, spec: ColumnSpec) -> list[tuple[str, ...]]:
    """Return the paths of the text column, the label column and the kept columns."""
    names = list(schema.names)

    def path(option: str, requested: str | None) -> tuple[str, ...]:
        if requested is not None and requested not in names:
            found = _dotted_path(schema, requested)
            if found is not None:
                return found
        return (names[find_column(names, option, requested, spec)],)

    paths = [path("--text", spec.text)]
    if spec.labeled:
        label = spec.label
        if label is None and "label" not in names and "labels" in names:
            label = "labels"
        paths.append(path("--label", label))
        if paths[0] == paths[1]:
            find_columns(names, spec, multi_label=True)  # raises the error about it
    return paths + [path("--keep", name) for name in spec.keep]


def _dotted_path(fields: Any, name: str) -> tuple[str, ...] | None:
    """Return the names that lead to a field of a struct; None if it does not exist."""
    import pyarrow as pa

    for field in fields:
        if field.name == name:
            return (name,)
        if name.startswith(f"{field.name}.") and isinstance(field.type, pa.StructType):
            inside = [field.type.field(i) for i in range(field.type.num_fields)]
            rest = _dotted_path(inside, name.removeprefix(f"{field.name}."))
            if rest is not None:
                return (field.name, *rest)
    return None


def _type_at(schema: Any, path: tuple[str, ...]) -> Any:
    kind = schema.field(path[0]).type
    for name in path[1:]:
        kind = kind.field(name).type
    return kind


def _array_at(batch: Any, path: tuple[str, ...]) -> Any:
    """Return a column, or a field of structs, which is null where a struct is."""
    import pyarrow.compute as pc

    array = batch.column(batch.schema.get_field_index(path[0]))
    for name in path[1:]:
        array = pc.struct_field(array, name)
    return array


def _check_text_type(kind: Any, name: str, spec: ColumnSpec) -> None:
    import pyarrow.types as types

    if types.is_dictionary(kind):
        kind = kind.value_type
    accepted = (
        types.is_string,
        types.is_large_string,
        types.is_string_view,
        types.is_binary,
        types.is_large_binary,
        types.is_binary_view,
        types.is_fixed_size_binary,
        types.is_null,  # reported as empty texts, which is clearer
    )
    if not any(is_one(kind) for is_one in accepted):
        raise spec.error(f"column {quote(name)} has type {kind}: expected strings")


def _check_label_type(kind: Any, name: str, spec: ColumnSpec) -> None:
    import pyarrow.types as types

    own = element_type(kind) or kind
    if types.is_dictionary(own):
        own = own.value_type
    accepted = (
        types.is_string,
        types.is_large_string,
        types.is_string_view,
        types.is_null,  # reported as missing labels, which is clearer
        types.is_integer,
        types.is_floating,
        types.is_boolean,
    )
    if not any(is_one(own) for is_one in accepted):
        raise spec.error(
            f"column {quote(name)} has type {kind}, not labels: expected strings or integers, or "
            "lists of them"
        )


def element_type(kind: Any) -> Any:
    """Return the element type of an Arrow list type; None for any other type."""
    import pyarrow.types as types

    lists = (
        types.is_list,
        types.is_large_list,
        types.is_fixed_size_list,
        types.is_list_view,
        types.is_large_list_view,
    )
    return kind.value_type if any(is_one(kind) for is_one in lists) else None


def _strings(pa: Any, array: Any) -> list[str]:
    """Return texts, with unpaired surrogates for invalid bytes and "" for null."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    try:
        values = array.to_pylist()
    except UnicodeDecodeError:
        values = array.cast(pa.large_binary()).to_pylist()
    return [
        ""
        if value is None
        else value
        if isinstance(value, str)
        else value.decode("utf-8", "surrogateescape")
        for value in values
    ]


def _values(pa: Any, array: Any) -> list[Any]:
    try:
        return array.to_pylist()
    except UnicodeDecodeError:
        return _strings(pa, array)
