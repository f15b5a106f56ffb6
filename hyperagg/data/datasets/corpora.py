"""Texts without labels, for language models: wikitext-2, the data sets with labels, own files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from hyperagg.data.datasets import store
from hyperagg.data.datasets.hub import download_from_hub
from hyperagg.data.datasets.lookup import available_names, load_dataset
from hyperagg.data.readers.errors import DataError
from hyperagg.data.readers.files import display_name, read_texts

__all__ = ["WIKITEXT", "Corpus", "load_corpus", "read_corpus"]

WIKITEXT = "wikitext-2"
REPOSITORY = "Salesforce/wikitext"
REVISION = "b08601e04326c79dfdd32d625aee71d232d685c3"
HELD_OUT = 0.02


@dataclass(frozen=True)
class Corpus:
    """Documents of a data set.

    Args:
        name: the data set or the file.
        train: what to learn from.
        validation: what to choose by.
        test: what to measure on, never to choose by; empty where there is no such split.
        source: one line for people, saying where the texts came from.
    """

    name: str
    train: list[str] = field(repr=False)
    validation: list[str] = field(repr=False)
    test: list[str] = field(repr=False)
    source: str


def load_corpus(name: str) -> Corpus:
    """The texts of a data set by name: wikitext-2, or one of `list_datasets()` without its labels.

    wikitext-2 has a validation split; of the others 2 % of the training texts, the same ones
    always, are held out in its place.

    Raises:
        ValueError: there is no such data set, or it cannot be had.
    """
    if name == WIKITEXT:
        return _wikitext()
    try:
        dataset = load_dataset(name)
    except DataError as error:
        if name not in available_names() and "there is no data set" in str(error):
            raise DataError(f"{error}; and {WIKITEXT} for language models") from error
        raise
    train, validation = hold_texts_out(dataset.train.texts)
    if dataset.validation is not None:
        train, validation = dataset.train.texts, dataset.validation.texts
    return Corpus(name, train, validation, dataset.test.texts, dataset.source)


def read_corpus(
    path: str | os.PathLike[str], text: str | None = None, *, format: str | None = None
) -> Corpus:
    """The texts of one's own file, a document a row; 2 % are held out for validation.

    Arguments and errors are those of `read_texts`.
    """
    train, validation = hold_texts_out(read_texts(path, text, format=format))
    name = display_name(path)
    return Corpus(name, train, validation, [], name)


def hold_texts_out(texts: list[str]) -> tuple[list[str], list[str]]:
    """(train, held out): every 50th text, at least one where there are two."""
    number = max(1, round(HELD_OUT * len(texts))) if len(texts) > 1 else 0
    out = {(2 * turn + 1) * len(texts) // (2 * number) for turn in range(number)}
    return (
        [text for index, text in enumerate(texts) if index not in out],
        [text for index, text in enumerate(texts) if index in out],
    )


def _wikitext() -> Corpus:
    own = store.own_directory()
    parts = ("train", "validation", "test")
    if own is not None and (own / WIKITEXT / "train.parquet").is_file():
        paths = [own / WIKITEXT / f"{part}.parquet" for part in parts]
        source = f"HYPERAGG_DATA={own / WIKITEXT}"
    else:
        paths = [
            download_from_hub(REPOSITORY, REVISION, f"{WIKITEXT}-v1/{part}-00000-of-00001.parquet")
            for part in parts
        ]
        source = f"{REPOSITORY} on the Hugging Face hub, revision {REVISION[:7]}"
    train, validation, test = (articles(_lines(path)) for path in paths)
    return Corpus(WIKITEXT, train, validation, test, source)


def _lines(path: Path) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path, columns=["text"])["text"].to_pylist()
    except (pa.ArrowException, OSError, KeyError) as error:
        raise DataError(
            f"{path} is not a split of {WIKITEXT} with a column text ({error})"
        ) from error


def articles(lines: Iterable[str]) -> list[str]:
    """Lines of WikiText joined to articles, which begin with a heading of one = on each side.

    Lines may end in a line break or not.
    """
    stripped = [line.rstrip("\n") for line in lines]
    starts = [
        index
        for index, line in enumerate(stripped)
        if line.startswith(" = ") and line.endswith(" = ") and not line.startswith(" = = ")
    ]
    borders = [0, *(index for index in starts if index > 0), len(stripped)]
    joined = ["\n".join(stripped[begin:end]) for begin, end in pairwise(borders)]
    return [text for text in joined if text.strip()]
