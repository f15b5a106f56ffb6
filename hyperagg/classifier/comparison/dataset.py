"""A data set of a user's own rows, part of which are measured on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hyperagg._common.split import train_validation_split
from hyperagg._common.validation import check_real
from hyperagg.classifier.training.labels import encode_labels, first_classes, unique_labels
from hyperagg.data import Dataset, Split

__all__ = ["dataset_from_rows"]


def dataset_from_rows(
    name: str,
    rows: Split,
    test: Split | None = None,
    *,
    test_fraction: float = 0.2,
    source: str = "",
) -> Dataset:
    """Make a `Dataset` of a user's own rows.

    Args:
        name: the name of the data set.
        rows: texts and labels to learn from.
        test: texts and labels to measure on; None: a fraction of `rows`, a contiguous run of each
            class. A row with a label that no training row has is learned from instead.
        test_fraction: that fraction.
        source: one line on the origin of the rows.

    Raises:
        ValueError: there are too few rows per class to measure on any.

    >>> data = dataset_from_rows("films", Split(["good", "bad"] * 10, ["yes", "no"] * 10))
    >>> len(data.train), len(data.test)
    (16, 4)
    """
    if test is not None:
        return Dataset(name, rows, test, source)
    check_real("test_fraction", test_fraction, 0, 1, open_minimum=True, open_maximum=True)
    targets = encode_labels(rows.labels, unique_labels(rows.labels), "labels")
    training, measured = train_validation_split(first_classes(targets), test_fraction, 0)
    known = set(targets.take(training).token_ids.tolist())
    held_out = []
    for i in measured.tolist():
        if known.issuperset(targets.take(np.array([i])).token_ids.tolist()):
            held_out.append(i)
    if not held_out:
        raise ValueError(
            f"{name}: {len(rows):,} rows; expected at least {int(np.ceil(1 / test_fraction))} rows "
            "of a class, so that some can be measured on"
        )
    learned = np.setdiff1d(np.arange(len(rows)), held_out).tolist()
    return Dataset(name, _take(rows, learned), _take(rows, held_out), source)


def _take(rows: Split, indices: Sequence[int]) -> Split:
    labels: Any = [rows.labels[i] for i in indices]
    return Split([rows.texts[i] for i in indices], labels)
