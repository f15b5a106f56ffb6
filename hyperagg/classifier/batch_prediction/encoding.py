"""Encode predictions as bytes: plain labels, JSON lines and CSV.

The bytes of a row do not depend on the batch that it was in, so an output that is continued after
an interruption equals one that was written without it.

NaN and infinite numbers are written like a missing value: null in JSON, which does not have them,
and nothing in CSV and plain values.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hyperagg._common.label_decoder import Label
from hyperagg.classifier.batch_prediction.predictions import Predictions

__all__ = [
    "CsvEncoder",
    "Encoder",
    "JsonEncoder",
    "LabelEncoder",
    "OutputFormat",
    "Rows",
    "to_json",
]

_DECIMALS = 6


@dataclass(frozen=True)
class OutputFormat:
    """Describe the output.

    Args:
        name: "labels", "jsonl", "csv" or "parquet".
        classes: the labels of the model.
        several: whether a row has any number of labels instead of exactly one.
        keep: the columns of the input that the output repeats: name there -> name in the output.
        with_file: whether each row names its file.
        probabilities: whether a row has the probability of every class.
        label_separator: what joins the labels of a row in plain labels and CSV.
        numbers: whether the answers are the numbers of a regression, as the scores of the
            predictions, in place of labels.
    """

    name: str
    classes: Sequence[Label]
    several: bool = False
    keep: Mapping[str, str] = field(default_factory=dict)
    with_file: bool = False
    probabilities: bool = False
    label_separator: str = "|"
    numbers: bool = False

    @property
    def columns(self) -> list[str]:
        """The names of the columns of the output, except those of probabilities."""
        file = ["file"] if self.with_file else []
        answer = ["labels", "scores"] if self.several else ["label", "score"]
        if self.numbers:
            answer = ["value"]
        return [*file, "row", *self.keep.values(), *answer]


@dataclass(frozen=True)
class Rows:
    """Rows of one file that are answered together.

    Args:
        file: the name of the file.
        numbers: the number of each row in the file, from 1.
        texts: the texts.
        kept: for each column that the output repeats its values.
    """

    file: str
    numbers: Sequence[int]
    texts: list[str]
    kept: Mapping[str, list[Any]]

    def __len__(self) -> int:
        return len(self.texts)


class Encoder:
    """Encode rows and their answers; one subclass per format."""

    def __init__(self, format: OutputFormat) -> None:
        self.format = format

    def header(self) -> bytes:
        """Return what stands at the beginning of the output."""
        return b""

    def encode(self, rows: Rows, answers: Predictions) -> bytes:
        """Return the bytes of some rows."""
        raise NotImplementedError


class LabelEncoder(Encoder):
    """One line per row: its labels."""

    def __init__(self, format: OutputFormat) -> None:
        super().__init__(format)
        # A label with a line break would look like two answers.
        self.names = [" ".join(str(label).splitlines()) for label in format.classes]

    def encode(self, rows: Rows, answers: Predictions) -> bytes:
        if self.format.numbers:
            return _to_utf8("".join(f"{_to_cell(v)}\n" for v in _significant(answers.scores)))
        labels = _split([self.names[c] for c in answers.classes.tolist()], answers)
        separator = self.format.label_separator
        return _to_utf8("".join(f"{separator.join(own)}\n" for own in labels))


class JsonEncoder(Encoder):
    """One JSON object per row and line; scores have six decimals."""

    def __init__(self, format: OutputFormat) -> None:
        super().__init__(format)
        self.names = [to_json(label) for label in format.classes]
        self.keys = [to_json(str(label)) for label in format.classes]

    def encode(self, rows: Rows, answers: Predictions) -> bytes:
        format = self.format
        columns = []
        if format.with_file:
            columns.append([f'"file": {to_json(rows.file)}'] * len(rows))
        columns.append([f'"row": {number}' for number in rows.numbers])
        for name, shown in format.keep.items():
            key = to_json(shown)
            columns.append([f"{key}: {to_json(value)}" for value in rows.kept[name]])
        names = [self.names[c] for c in answers.classes.tolist()]
        scores = _rounded(answers.scores)
        if format.numbers:
            columns.append([f'"value": {to_json(v)}' for v in _significant(answers.scores)])
        elif format.several:
            pairs = zip(_split(names, answers), _split([str(score) for score in scores], answers))
            columns.append(
                [f'"labels": [{", ".join(a)}], "scores": [{", ".join(b)}]' for a, b in pairs]
            )
        else:
            columns.append([f'"label": {a}, "score": {b}' for a, b in zip(names, scores)])
        if answers.probabilities is not None:
            columns.append(
                [
                    '"probabilities": {'
                    + ", ".join(f"{key}: {value}" for key, value in zip(self.keys, values))
                    + "}"
                    for values in _rounded(answers.probabilities)
                ]
            )
        return _to_utf8("".join(f"{{{', '.join(row)}}}\n" for row in zip(*columns, strict=True)))


class CsvEncoder(Encoder):
    """One row of comma-separated values with a header; lists are joined by the separator."""

    def header(self) -> bytes:
        names = self.format.columns
        if self.format.probabilities:
            names = [*names, *(f"probability {label}" for label in self.format.classes)]
        return _to_utf8(_csv([names]))

    def encode(self, rows: Rows, answers: Predictions) -> bytes:
        format, separator = self.format, self.format.label_separator
        columns: list[Sequence[Any]] = []
        if format.with_file:
            columns.append([rows.file] * len(rows))
        columns.append(rows.numbers)
        columns += [[_to_cell(value) for value in rows.kept[name]] for name in format.keep]
        names: list[Any] = [format.classes[c] for c in answers.classes.tolist()]
        scores: list[Any] = _rounded(answers.scores)
        if format.several:
            names = [separator.join(map(str, own)) for own in _split(names, answers)]
            scores = [separator.join(map(str, own)) for own in _split(scores, answers)]
        if format.numbers:
            columns.append([_to_cell(value) for value in _significant(answers.scores)])
        else:
            columns += [names, scores]
        if answers.probabilities is not None:
            columns += _rounded(answers.probabilities.T)
        return _to_utf8(_csv(zip(*columns, strict=True)))


def to_json(value: Any) -> str:
    """Return a value of a cell as JSON; what JSON does not have becomes a string or null."""
    try:
        text = _JSON.encode(value)
        text.encode("utf-8")
    except ValueError:  # infinite numbers and NaN, or an unpaired surrogate
        text = _ASCII_JSON.encode(_finite(value))
    return text


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value


def _default(value: Any) -> str:
    # Dates, decimals and bytes of Parquet files.
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_default)
_ASCII_JSON = json.JSONEncoder(allow_nan=False, default=_default)


def _to_cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, dict | list | tuple | bool):
        return to_json(value)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _csv(rows: Any) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def _rounded(values: np.ndarray) -> list[Any]:
    return values.astype(np.float64).round(_DECIMALS).tolist()


def _significant(values: np.ndarray) -> list[float]:
    return [float(f"{value:.6g}") for value in values.tolist()]


def _split(values: list[Any], answers: Predictions) -> list[list[Any]]:
    borders = answers.offsets.tolist()
    return [values[a:b] for a, b in zip(borders, borders[1:])]


def _to_utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")
