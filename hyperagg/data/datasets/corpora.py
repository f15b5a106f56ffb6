"""Corpora of texts without labels, for language models."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from hyperagg.data.datasets.hub import download_from_hub
from hyperagg.data.datasets.lookup import (
    OTHER_KINDS,
    available_names,
    load_dataset,
    unknown_dataset,
)
from hyperagg.data.directories import data_directory
from hyperagg.data.readers.columns import ColumnSpec
from hyperagg.data.readers.errors import DataError
from hyperagg.data.readers.files import display_name, read_columns
from hyperagg.data.readers.stream import ReadOptions

__all__ = ["WIKITEXT", "Corpus", "load_corpus", "read_corpus"]

WIKITEXT = "wikitext-2"
REPOSITORY = "Salesforce/wikitext"
REVISION = "b08601e04326c79dfdd32d625aee71d232d685c3"
VALIDATION_FRACTION = 0.02


@dataclass(frozen=True)
class Corpus:
    """Hold the documents of a corpus.

    Args:
        name: the name of the data set or file.
        train: the documents to train on.
        validation: the documents for choosing a model.
        test: the documents to evaluate on, not to be used for choosing a model; empty if the corpus
            does not have this split.
        source: one line that says where the texts came from.
        left_out: the rows of a file that could not be used, each with its name and the reason.
    """

    name: str
    train: list[str] = field(repr=False)
    validation: list[str] = field(repr=False)
    test: list[str] = field(repr=False)
    source: str
    left_out: tuple[str, ...] = field(default=(), repr=False)


def load_corpus(name: str) -> Corpus:
    """Load the texts of a data set by name.

    A data set without a validation split gets one of 2 % of its training texts, which are always
    the same.

    Args:
        name: "wikitext-2", or one of `list_datasets()`, whose labels are dropped.

    Raises:
        ValueError: the data set does not exist, cannot be downloaded, or is damaged.

    Example:
        >>> len(load_corpus("wikitext-2").validation)  # doctest: +SKIP
        60
    """
    if name == WIKITEXT:
        return _wikitext()
    if name not in available_names() and name not in OTHER_KINDS:
        raise unknown_dataset(name, [WIKITEXT])
    dataset = load_dataset(name)
    train, validation = split_texts(dataset.train.texts)
    if dataset.validation is not None:
        train, validation = dataset.train.texts, dataset.validation.texts
    return Corpus(name, train, validation, dataset.test.texts, dataset.source)


def read_corpus(
    path: str | os.PathLike[str],
    text: str | None = None,
    *,
    format: str | None = None,
    on_error: str = "stop",
) -> Corpus:
    """Read a corpus from a file with one document per row; 2 % of them become the validation split.

    The arguments and errors are those of `read_texts`, but blank lines are not documents.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("films.txt").write_text("a fine film\\na dull film\\n")
        >>> read_corpus("films.txt").train
        ['a fine film']
    """
    spec = ColumnSpec("", text, labeled=False)
    columns = read_columns(path, spec, ReadOptions(format, on_error=on_error))
    train, validation = split_texts(columns.texts)
    name = display_name(path)
    return Corpus(name, train, validation, [], name, columns.left_out)


def split_texts(texts: list[str]) -> tuple[list[str], list[str]]:
    """Return train and validation, which has every 50th text, and one if there are at least two."""
    number = max(1, round(VALIDATION_FRACTION * len(texts))) if len(texts) > 1 else 0
    chosen = {(2 * i + 1) * len(texts) // (2 * number) for i in range(number)}
    return (
        [text for index, text in enumerate(texts) if index not in chosen],
        [text for index, text in enumerate(texts) if index in chosen],
    )


def _wikitext() -> Corpus:
    own = data_directory()
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
            f"{path}: not a split of {WIKITEXT} with the column text ({error})"
        ) from error


def articles(lines: Iterable[str]) -> list[str]:
    """Join the lines of WikiText to articles, each of which starts with a heading " = Title = ".

    The lines can end with a line break or not.
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
