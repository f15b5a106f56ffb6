"""Find a data set: in HYPERAGG_DATA, then in the cache, then at its official source."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hyperagg.data.dataset import Dataset
from hyperagg.data.datasets import store
from hyperagg.data.datasets.catalogue import ENTRIES
from hyperagg.data.datasets.entry import Entry
from hyperagg.data.directories import cache_directory, data_directory, is_complete
from hyperagg.data.readers.errors import DataError, quote

_logger = logging.getLogger("hyperagg")

# Data sets that HYPERAGG_DATA may contain and that are not texts with labels.
OTHER_KINDS = {
    "wikitext-2": "it has no labels; use `hyperagg lm train wikitext-2`",
    "mnist": "it contains images; use `hyperagg diffusion train mnist`",
    "fsdd": "it contains audio; use `python -m research study multimodal`",
    "clothing-reviews": "it has no splits; use `hyperagg train FILE --text ... --number ...`",
}


@dataclass(frozen=True)
class Listing:
    """Describe one data set in the result of `list_datasets`.

    Args:
        name: the name by which it is loaded.
        rows: the number of rows of train and test at its location.
        description: what it contains.
        location: where `load_dataset` would read it from now, and how much that downloads.
        terms: the terms of use as stated by the source.
    """

    name: str
    rows: tuple[int, int]
    description: str
    location: str
    terms: str


def load_dataset(name: str) -> Dataset:
    """Load a data set of texts and labels by name.

    The first of these that has the data set is used: the directory in the environment variable
    HYPERAGG_DATA (<name>/train.parquet and test.parquet with the columns text and label, or labels
    for lists of labels; any name is permitted), the cache (HYPERAGG_CACHE, by default
    ~/.cache/hyperagg), and the official source, whose files are checked against a digest and then
    cached. What is downloaded, from where and how much, is logged before (logger "hyperagg", level
    INFO; commands print it). banking77 is in this package and needs no network.

    Args:
        name: one of `list_datasets()`.

    Returns:
        the data set; its `source` says where it came from, and how many rows the official source
        has if that is a different number.

    Raises:
        ValueError: the data set does not exist, cannot be downloaded, or its files are damaged. It
            is never replaced by another one.

    Example:
        >>> load_dataset("banking77").train.labels[0]
        'card_arrival'
    """
    if not isinstance(name, str):
        raise unknown_dataset(name)
    entry = ENTRIES.get(name)
    own = data_directory()
    if own is not None and is_plain(name) and (own / name).is_dir():
        return _from_data_directory(name, own, entry)
    if entry is None:
        raise unknown_dataset(name)
    # A variable that is set and has no effect on this data set is part of its source.
    unused = "" if own is None else f"; HYPERAGG_DATA={own} does not contain {name}"
    if not entry.megabytes:
        train, test = entry.fetch()
        return Dataset(name, train, test, f"{entry.origin}{unused}", terms=entry.terms)
    folder = cache_directory() / name
    if is_complete(folder):
        return _from_cache(entry, folder, unused)
    return _from_origin(entry, folder, unused)


def _from_data_directory(name: str, own: Path, entry: Entry | None) -> Dataset:
    if name in OTHER_KINDS:
        raise DataError(f"{name} is not a data set of texts with labels: {OTHER_KINDS[name]}")
    stored = store.read_folder(own / name)
    source = f"HYPERAGG_DATA={own / name}"
    rows = (len(stored.train), len(stored.test))
    if entry is not None and rows != entry.rows:
        source += (
            f" ({rows[0]:,} train and {rows[1]:,} test rows; the official source has "
            f"{entry.rows[0]:,} and {entry.rows[1]:,})"
        )
    terms = "" if entry is None else entry.terms
    return Dataset(name, stored.train, stored.test, source, stored.validation, terms)


def _from_cache(entry: Entry, folder: Path, unused: str) -> Dataset:
    try:
        stored = store.read_folder(folder)
        _check_rows(entry, len(stored.train), len(stored.test))
    except DataError as error:
        raise DataError(f"{error}; remove {folder} to download it again") from error
    source = f"cache {folder}, downloaded from {stored.origin or 'an unknown source'}{unused}"
    return Dataset(entry.name, stored.train, stored.test, source, terms=entry.terms)


def _from_origin(entry: Entry, folder: Path, unused: str) -> Dataset:
    _logger.info(
        f"{entry.name} is not on this machine; downloading {entry.megabytes:g} MB from "
        f"{entry.origin} into {folder}; terms of use: {entry.terms}"
    )
    try:
        train, test = entry.fetch()
        _check_rows(entry, len(train), len(test))
    except DataError as error:
        raise DataError(
            f"{entry.name} is not in {'HYPERAGG_DATA or ' if unused else ''}the cache, and its "
            f"source failed: {error}. Set HYPERAGG_DATA to a directory with "
            f"{entry.name}/train.parquet and test.parquet (columns text and label), or try again "
            "with a network connection"
        ) from error
    store.write_folder(folder, train, test, entry.origin)
    source = f"{entry.origin}, now in the cache {folder}{unused}"
    return Dataset(entry.name, train, test, source, terms=entry.terms)


def _check_rows(entry: Entry, train: int, test: int) -> None:
    if (train, test) != entry.rows:
        raise DataError(
            f"{entry.name}: expected {entry.rows[0]:,} train and {entry.rows[1]:,} test rows, got "
            f"{train:,} and {test:,}"
        )


def list_datasets() -> list[Listing]:
    """List the data sets that `load_dataset` can load, including those in HYPERAGG_DATA.

    Example:
        >>> [listing.name for listing in list_datasets()][:2]
        ['banking77', 'r8']
    """
    own = data_directory()
    listings = []
    for name in available_names():
        entry = ENTRIES.get(name)
        rows = entry.rows if entry else (0, 0)
        if own is not None and is_complete(own / name):
            location, rows = "HYPERAGG_DATA", store.count_rows(own / name)
        elif entry is None:
            location = ""
        elif not entry.megabytes:
            location = "the hyperagg package"
        elif is_complete(cache_directory() / name):
            location = "cache"
        else:
            location = f"{entry.origin}: {entry.megabytes:g} MB to download"
        description = entry.description if entry else "a data set of your own"
        listings.append(Listing(name, rows, description, location, entry.terms if entry else ""))
    return listings


def available_names() -> list[str]:
    """Return the names of the data sets with an entry, then of the others in HYPERAGG_DATA."""
    own = data_directory()
    extra = []
    if own is not None and own.is_dir():
        extra = [
            path.name
            for path in sorted(own.iterdir())
            if path.name not in ENTRIES and path.name not in OTHER_KINDS and is_complete(path)
        ]
    return [*ENTRIES, *extra]


def is_plain(name: str) -> bool:
    """Return whether `name` is a name and not a path, which could leave its directory.

    The path separators of all systems are refused on every system.
    """
    return bool(name) and name not in (".", "..") and not any(c in name for c in "/\\\0")


def unknown_dataset(name: object, others: Sequence[str] = ()) -> DataError:
    """Return the error about an unknown name, which lists the known names and `others`."""
    names = [*available_names(), *others]
    close = difflib.get_close_matches(str(name).lower().replace("_", "-"), names, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return DataError(f"data set {quote(name)}: expected one of {', '.join(names)}{hint}")
