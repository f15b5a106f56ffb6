"""Predicted labels as short strings, so that every run can be tested against every other later."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from hyperagg.classifier.training.labels import encode_labels

__all__ = ["correct_rows", "label_counts", "pack_labels", "unpack_labels"]


def pack_labels(labels: Sequence[Any], classes: Sequence[Any]) -> str:
    """Return the labels of all rows, one per row, as a compressed string.

    Args:
        labels: a label per row, or a tuple of labels per row.
        classes: all labels that may occur, at most 65,536.

    >>> unpack_labels(pack_labels(["no", "yes"], ["no", "yes"]), ["no", "yes"])
    ['no', 'yes']
    """
    if isinstance(labels[0], tuple):
        found = encode_labels(labels, list(classes), "labels").indicators(len(classes))
        ids = np.packbits(found.astype(bool), axis=1)
    else:
        index = {label: i for i, label in enumerate(classes)}
        ids = np.array([index[label] for label in labels], "<u2")
        if len(classes) <= 256:
            ids = ids.astype(np.uint8)
    return base64.b85encode(zlib.compress(ids.tobytes(), 9)).decode()


def unpack_labels(packed: str, classes: Sequence[Any], multi_label: bool = False) -> list[Any]:
    """Return the labels that `pack_labels` was given."""
    data = zlib.decompress(base64.b85decode(packed))
    if not multi_label:
        ids = np.frombuffer(data, np.uint8 if len(classes) <= 256 else "<u2")
        return [classes[i] for i in ids]
    rows = np.frombuffer(data, np.uint8).reshape(-1, -(-len(classes) // 8))
    return [
        tuple(classes[i] for i in np.flatnonzero(row).tolist())
        for row in np.unpackbits(rows, axis=1, count=len(classes))
    ]


def correct_rows(
    packed: Sequence[str], labels: Sequence[Any], classes: Sequence[Any]
) -> np.ndarray:
    """Return (runs, rows) bool, whether each run predicts exactly the labels of a row."""
    multi_label = isinstance(labels[0], tuple)
    truth = [frozenset(row) if multi_label else row for row in labels]
    return np.array(
        [
            [(frozenset(found) if multi_label else found) == row for found, row in zip(run, truth)]
            for run in (unpack_labels(each, classes, multi_label) for each in packed)
        ]
    )


def label_counts(
    packed: Sequence[str], labels: Sequence[Any], classes: Sequence[Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of correctly predicted labels and of predicted labels, (runs, rows) each.

    >>> runs = [pack_labels([("a", "b"), ("b",)], ["a", "b"])]
    >>> [counts.tolist() for counts in label_counts(runs, [("a",), ("b",)], ["a", "b"])]
    [[[1, 1]], [[2, 1]]]
    """
    truth = [frozenset(row) for row in labels]
    runs = [[frozenset(row) for row in unpack_labels(each, classes, True)] for each in packed]
    correct = [[len(found & row) for found, row in zip(run, truth)] for run in runs]
    return np.array(correct), np.array([[len(found) for found in run] for run in runs])
