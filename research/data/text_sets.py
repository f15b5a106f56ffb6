"""The data sets of text classification that studies load by name, with limits on their rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hyperagg.data import Dataset, Split, load_dataset
from hyperagg.data.directories import data_directory
from research.data.clothing_reviews import NAME, Reviews, load_clothing_reviews

__all__ = ["DEVELOPMENT_SETS", "load_texts", "take_rows"]

DEVELOPMENT_SETS = (
    *("r8", "r52", "mr", "wisesight", "languages-75"),
    *("reuters", "20ng", "ag-news", "imdb", NAME),
)


def load_texts(name: str, limit: int | None = None) -> Dataset:
    """Load a data set of texts and labels by name.

    "clothing-reviews" has the labels "yes" and "no" for whether the author recommends the product,
    without the rows that have no text.

    Args:
        name: a name of `hyperagg.data.load_dataset`, or "clothing-reviews".
        limit: largest number of rows of either split, drawn at random; None: all.
    """
    if name != NAME:
        data = load_dataset(name)
    else:
        reviews = load_clothing_reviews()
        data = Dataset(NAME, _texts(reviews.train), _texts(reviews.test), reviews.source)
    data = replace(data, source=source_for_results(data.source))
    if limit is None:
        return data
    train, test = _limited(data.train, limit), _limited(data.test, limit)
    known = set(train.labels)
    test = take_rows(test, [i for i, label in enumerate(test.labels) if label in known])
    return Dataset(data.name, train, test, f"{data.source}, at most {limit:,} rows")


def source_for_results(source: str) -> str:
    """Return the source of a data set without the place of its directory on this machine."""
    return source.replace(f"HYPERAGG_DATA={data_directory()}", "HYPERAGG_DATA")


def take_rows(split: Split, rows: Sequence[int]) -> Split:
    """Return some rows of a split."""
    labels = [split.labels[i] for i in rows]
    return Split([split.texts[i] for i in rows], labels)  # type: ignore[arg-type]


def _limited(split: Split, limit: int) -> Split:
    rows = np.random.default_rng(0).permutation(len(split))[:limit]
    return take_rows(split, np.sort(rows).tolist())


def _texts(reviews: Reviews) -> Split:
    pairs = zip(reviews.texts(), reviews.cells["recommended"])
    rows = [(text, "yes" if recommended else "no") for text, recommended in pairs if text]
    return Split([text for text, _ in rows], [label for _, label in rows])
