"""Parquet output: Arrow batches while rows are answered, a Parquet file when all of them are.

A Parquet file cannot be continued, since its index stands at its end. The unfinished output is
therefore an Arrow stream, which can be cut after any batch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hyperagg.classifier.batch_prediction.encoding import Encoder, OutputFormat, Rows, to_json
from hyperagg.classifier.batch_prediction.predictions import Predictions
from hyperagg.data.readers.sources import EXTENSIONS

__all__ = ["ArrowEncoder", "convert_to_parquet", "kept_types"]

_MAX_ROWS_PER_GROUP = 2**16
_MAX_BYTES_PER_GROUP = 2**26
_JSON_TEXT = {b"hyperagg.json": b"1"}


class ArrowEncoder(Encoder):
    """Batches of an Arrow stream, with class ids for labels.

    Args:
        format: the output.
        types: the Arrow types of kept columns, where the input has them. Values of other columns
            are encoded as JSON until all of them are known.
    """

    def __init__(self, format: OutputFormat, types: Mapping[str, Any] | None = None) -> None:
        super().__init__(format)
        types = types or {}
        fields = [pa.field("file", pa.string())] if format.with_file else []
        fields.append(pa.field("row", pa.int64()))
        for name, shown in format.keep.items():
            if name in types:
                fields.append(pa.field(shown, types[name]))
            else:
                fields.append(pa.field(shown, pa.large_string(), metadata=_JSON_TEXT))
        if format.numbers:
            fields.append(pa.field("value", pa.float32()))
        elif format.several:
            fields += [
                pa.field("labels", pa.list_(pa.int32())),
                pa.field("scores", pa.list_(pa.float32())),
            ]
        else:
            fields += [pa.field("label", pa.int32()), pa.field("score", pa.float32())]
        metadata = {}
        if format.probabilities:
            kind = pa.list_(pa.field("element", pa.float32()), len(format.classes))
            fields.append(pa.field("probabilities", kind))
            metadata["classes"] = json.dumps(list(format.classes), ensure_ascii=False)
        self.schema = pa.schema(fields, metadata)

    def header(self) -> bytes:
        return self.schema.serialize().to_pybytes()

    def encode(self, rows: Rows, answers: Predictions) -> bytes:
        format = self.format
        columns = [pa.array([rows.file] * len(rows), pa.string())] if format.with_file else []
        columns.append(pa.array(rows.numbers, pa.int64()))
        for name, shown in format.keep.items():
            one = self.schema.field(shown)
            values = rows.kept[name]
            if one.metadata == _JSON_TEXT:
                values = [None if value is None else to_json(value) for value in values]
            columns.append(_array(values, one.type))
        labels = pa.array(answers.classes.astype(np.int32))
        scores = pa.array(answers.scores)
        if format.several:
            offsets = pa.array(answers.offsets.astype(np.int32))
            labels = pa.ListArray.from_arrays(offsets, labels)
            scores = pa.ListArray.from_arrays(offsets, scores)
        columns += [scores] if format.numbers else [labels, scores]
        if answers.probabilities is not None:
            flat = pa.array(answers.probabilities.astype(np.float32).ravel())
            columns.append(
                pa.FixedSizeListArray.from_arrays(flat, type=self.schema.field(len(columns)).type)
            )
        batch = pa.RecordBatch.from_arrays(columns, schema=self.schema)
        return batch.serialize().to_pybytes()


def kept_types(sources: Sequence[str], keep: Sequence[str], format: str | None) -> dict[str, Any]:
    """Return the Arrow types of columns that have the same one in all of some Parquet files."""
    if not keep or any(_format(source, format) != "parquet" for source in sources):
        return {}
    types: dict[str, Any] = {}
    for number, source in enumerate(sources):
        try:
            schema = pq.read_schema(source)
        except (OSError, ValueError):  # reported by the reader
            return {}
        found = {name: _type_of(schema, name) for name in keep}
        types = found if number == 0 else {n: t for n, t in types.items() if found[n] == t}
    return {name: kind for name, kind in types.items() if kind is not None}


def _format(source: str, format: str | None) -> str | None:
    return format if format is not None else EXTENSIONS.get(Path(source).suffix.lower())


def _type_of(schema: Any, name: str) -> Any:
    """Return the type of a column or of a nested field; None if it is kept as JSON."""
    kind = schema.field(name).type if name in schema.names else None
    parts = name.split(".")
    for i in range(1, len(parts)):
        parent = ".".join(parts[:i])
        if kind is None and parent in schema.names:
            inside = schema.field(parent).type
            if pa.types.is_struct(inside):
                fields = [inside.field(j) for j in range(inside.num_fields)]
                kind = _type_of(pa.schema(fields), ".".join(parts[i:]))
    if kind is None or pa.types.is_nested(kind):
        return None
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    simple = (
        pa.types.is_primitive(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    )
    return kind if simple else None


def convert_to_parquet(stream: Path, out: Path, format: OutputFormat) -> int:
    """Write a stream of `ArrowEncoder` as a Parquet file, and return the number of rows.

    The bytes of the file depend on the rows and not on the batches. The classes of the column
    "probabilities" are in the metadata of the schema, as JSON under "classes".
    """
    labels = pa.array(list(format.classes))
    schema, types = _final_schema(stream, labels.type)
    written = 0
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        for batches in _row_groups(stream):
            table = pa.Table.from_batches(batches)
            columns = [
                _finish(column, table.schema.field(i), schema.field(i), labels, types)
                for i, column in enumerate(table.columns)
            ]
            group = pa.Table.from_arrays(columns, schema=schema).combine_chunks()
            writer.write_table(group, row_group_size=max(1, len(group)))
            written += len(group)
    return written


def _batches(stream: Path) -> Iterator[Any]:
    with pa.memory_map(str(stream)) as file:
        yield from pa.ipc.open_stream(file)


def _final_schema(stream: Path, label_type: Any) -> tuple[Any, dict[str, Any]]:
    """Return the schema of the Parquet file and the types of the columns that were JSON."""
    with pa.memory_map(str(stream)) as file:
        schema = pa.ipc.open_stream(file).schema
    names = [one.name for one in schema if one.metadata == _JSON_TEXT]
    kinds: dict[str, set[type]] = {name: set() for name in names}
    if names:
        for batch in _batches(stream):
            for name in names:
                kinds[name] |= {_kind(text) for text in batch[name].drop_null().to_pylist()}
    types = {name: _common_type(kinds[name]) for name in names}
    fields = []
    for one in schema:
        if one.name in types:
            one = pa.field(one.name, types[one.name] or pa.string())
        elif one.name == "label":
            one = pa.field("label", label_type)
        elif one.name == "labels":
            one = pa.field("labels", pa.list_(label_type))
        fields.append(one)
    return pa.schema(fields, schema.metadata), types


def _kind(text: str) -> type:
    """Return the type of a JSON text; an integer beyond 64 bits and an object are `object`."""
    if text.startswith('"'):
        return str
    value = json.loads(text)
    if isinstance(value, bool | float):
        return type(value)
    return int if isinstance(value, int) and -(2**63) <= value < 2**63 else object


def _common_type(kinds: set[type]) -> Any:
    """Return the Arrow type of values; None if only JSON holds all of them."""
    if kinds == {bool}:
        return pa.bool_()
    if kinds == {int}:
        return pa.int64()
    if kinds in ({float}, {int, float}):
        return pa.float64()
    return pa.string() if kinds <= {str} else None


def _finish(column: Any, field: Any, final: Any, labels: Any, types: dict[str, Any]) -> Any:
    if field.name in types:
        if types[field.name] is None:
            return column.cast(pa.string())
        values = [None if text is None else json.loads(text) for text in column.to_pylist()]
        return pa.chunked_array([_array(values, final.type)])
    column = pa.chunked_array([column.combine_chunks()]) if column.num_chunks != 1 else column
    if field.name == "label":
        return labels.take(column.chunk(0))
    if field.name == "labels":
        lists = column.chunk(0)
        return pa.ListArray.from_arrays(_from_zero(lists.offsets), labels.take(lists.flatten()))
    return column


def _array(values: list[Any], kind: Any) -> Any:
    if pa.types.is_floating(kind):
        values = [None if value is None else float(value) for value in values]
    try:
        return pa.array(values, kind)
    except UnicodeEncodeError:  # an unpaired surrogate
        return pa.array([None if v is None else _well_formed(v) for v in values], kind)


def _well_formed(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _from_zero(offsets: Any) -> Any:
    return pc.subtract(offsets, offsets[0])


def _row_groups(stream: Path) -> Iterator[list[Any]]:
    """Yield lists of batches; the borders depend on the rows alone."""
    group: list[Any] = []
    num_rows = num_bytes = 0
    for batch in _batches(stream):
        sizes = _row_sizes(batch)
        begin = 0
        for i in range(len(sizes)):
            num_rows += 1
            num_bytes += sizes[i]
            if num_rows == _MAX_ROWS_PER_GROUP or num_bytes >= _MAX_BYTES_PER_GROUP:
                yield [*group, batch.slice(begin, i + 1 - begin)]
                group, num_rows, num_bytes, begin = [], 0, 0, i + 1
        if begin < len(sizes):
            group.append(batch.slice(begin))
    if group:
        yield group


def _row_sizes(batch: Any) -> list[int]:
    """Return about the number of bytes of each row, the same in every batch."""
    sizes = np.full(len(batch), 16)
    for name, kind in zip(batch.schema.names, batch.schema.types):
        if pa.types.is_fixed_size_list(kind):
            sizes += 4 * kind.list_size
        elif pa.types.is_list(kind):
            sizes += 8 * pc.list_value_length(batch[name]).fill_null(0).to_numpy()
        elif pa.types.is_binary(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
            sizes += pc.binary_length(batch[name]).fill_null(0).to_numpy()
    return sizes.tolist()
