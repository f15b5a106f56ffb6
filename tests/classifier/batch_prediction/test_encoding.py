"""Every format gives back what was answered, whatever the batches."""

from __future__ import annotations

import csv
import io
import json
from datetime import date
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperagg._common.label_decoder import LabelDecoder
from hyperagg.classifier.batch_prediction import parquet
from hyperagg.classifier.batch_prediction.encoders import make_encoder
from hyperagg.classifier.batch_prediction.encoding import OutputFormat, Rows, to_json
from hyperagg.classifier.batch_prediction.predictions import PredictionOptions, Predictions

CLASSES = ["yes", 'n"o', "a,b\nc"]
TEXTS = st.text(st.characters(codec=None), max_size=5)
CELLS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.lists(TEXTS)


def answer(logits, options):
    decoder = LabelDecoder(CLASSES)
    return Predictions.from_logits(decoder, np.array(logits, np.float32), options)


def encode(name, cells, options, borders=(), **arguments):
    """Encode one row per cell, in batches that end at the borders."""
    format = OutputFormat(
        name,
        CLASSES,
        several=options.ranked,
        keep={"cell": "given"},
        probabilities=options.probabilities,
        **arguments,
    )
    encoder, data = make_encoder(format), b""
    for a, b in zip([0, *borders], [*borders, len(cells)]):
        rows = Rows("f.csv", range(a, b), [""] * (b - a), {"cell": cells[a:b]})
        logits = [[i % 3, 1, 0] for i in range(a, b)]
        data += encoder.encode(rows, answer(logits, options)) if b > a else b""
    return format, encoder.header() + data


@given(st.lists(CELLS, max_size=5))
def test_json_lines_hold_every_cell(cells):
    _, data = encode("jsonl", cells, PredictionOptions(), with_file=True)
    lines = data.decode().split("\n")
    assert lines.pop() == "" and len(lines) == len(cells)
    for i, (line, cell) in enumerate(zip(lines, cells)):
        row = json.loads(line)
        assert list(row) == ["file", "row", "given", "label", "score"]
        assert (row["file"], row["row"]) == ("f.csv", i)
        if isinstance(cell, float) and not np.isfinite(cell):
            cell = None
        assert row["given"] == cell
        assert row["label"] == CLASSES[np.argmax([i % 3, 1, 0])]


def test_cells_that_json_does_not_have_become_strings():
    cells = [date(2026, 1, 2), Decimal("1.50"), b"caf\xc3\xa9", {"a": [float("nan"), "\ud800"]}]
    assert [json.loads(to_json(cell)) for cell in cells] == [
        "2026-01-02",
        "1.50",
        "café",
        {"a": [None, "\ud800"]},
    ]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_missing_in_every_text_format(number):
    """The same infinity was null in JSON and "inf" in CSV."""
    _, data = encode("jsonl", [number], PredictionOptions())
    assert json.loads(data)["given"] is None
    _, data = encode("csv", [number], PredictionOptions())
    assert data.decode().splitlines()[1].split(",")[1] == ""
    rows = Rows("f.csv", [1, 2], ["", ""], {})
    answers = Predictions.from_values(np.array([number, 2.5]))
    for name, expected in {
        "jsonl": '{"row": 1, "value": null}\n{"row": 2, "value": 2.5}\n',
        "csv": "1,\n2,2.5\n",
        "labels": "\n2.5\n",
    }.items():
        encoder = make_encoder(OutputFormat(name, (), numbers=True))
        assert encoder.encode(rows, answers).decode() == expected


def test_csv_can_be_read_back():
    cells = ["plain", 'a "quoted", cell\nof two lines', None]
    options = PredictionOptions(top_k=2, probabilities=True)
    _, data = encode("csv", cells, options, label_separator="|")
    header, *rows = csv.reader(io.StringIO(data.decode(), newline=""))
    assert header[:4] == ["row", "given", "labels", "scores"]
    assert header[4:] == [f"probability {label}" for label in CLASSES]
    assert [row[1] for row in rows] == ["plain", cells[1], ""]
    assert rows[2][2] == 'yes|n"o'
    assert [float(value) for value in rows[2][3].split("|")] == [float(v) for v in rows[2][4:6]]


def test_plain_labels_are_one_line_each():
    format = OutputFormat("labels", CLASSES, several=True)
    answers = answer([[0, 0, 9], [9, 0, 0]], PredictionOptions(top_k=2))
    data = make_encoder(format).encode(Rows("", range(2), ["", ""], {}), answers)
    assert data.decode().split("\n") == ["a,b c|yes", 'yes|n"o', ""]


def parquet_of(tmp_path, name, cells, options, borders=()):
    format, data = encode("parquet", cells, options, borders)
    stream, out = tmp_path / f"{name}.arrow", tmp_path / f"{name}.parquet"
    stream.write_bytes(data)
    assert parquet.convert_to_parquet(stream, out, format) == len(cells)
    return out


@pytest.mark.parametrize(
    "cells, kind",
    [
        (["a", None, "\ud800", "é"], pa.string()),
        ([1, None, -(2**63)], pa.int64()),
        ([1, 2.5, None], pa.float64()),
        ([True, False], pa.bool_()),
        ([None, None], pa.string()),
        ([1, "a"], pa.string()),
        ([2**70], pa.string()),
        ([["a"], {"b": 1}], pa.string()),
    ],
)
def test_kept_columns_of_parquet_have_the_type_of_their_values(tmp_path, cells, kind):
    table = pq.read_table(parquet_of(tmp_path, "a", cells, PredictionOptions()))
    assert table.column_names == ["row", "given", "label", "score"]
    assert table.schema.field("given").type == kind
    values = table["given"].to_pylist()
    if kind == pa.string() and not all(one is None or isinstance(one, str) for one in cells):
        assert [json.loads(value) for value in values] == cells  # a mixture is JSON
    else:
        assert values == [None if c is None else "?" if c == "\ud800" else c for c in cells]


def test_parquet_has_lists_of_labels_and_all_probabilities(tmp_path):
    options = PredictionOptions(top_k=2, probabilities=True)
    table = pq.read_table(parquet_of(tmp_path, "a", list(range(5)), options))
    assert json.loads(table.schema.metadata[b"classes"]) == CLASSES
    expected = answer([[i % 3, 1, 0] for i in range(5)], options)
    np.testing.assert_array_equal(
        np.array(table["probabilities"].to_pylist()), expected.probabilities
    )
    assert table["labels"].to_pylist()[2] == ["yes", 'n"o']
    assert all(len(scores) == 2 for scores in table["scores"].to_pylist())


@given(st.lists(CELLS, min_size=1, max_size=12), st.data())
def test_no_byte_of_an_output_depends_on_the_batches(tmp_path_factory, cells, data):
    borders = sorted(data.draw(st.sets(st.integers(1, len(cells)), max_size=4)))
    options = PredictionOptions(threshold=0.2)
    for name in ("jsonl", "csv"):
        assert encode(name, cells, options, borders) == encode(name, cells, options)
    folder = tmp_path_factory.mktemp("parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "_MAX_ROWS_PER_GROUP", 5)
        patch.setattr(parquet, "_MAX_BYTES_PER_GROUP", 150)
        files = [parquet_of(folder, str(i), cells, options, b) for i, b in enumerate([[], borders])]
    assert files[0].read_bytes() == files[1].read_bytes()
