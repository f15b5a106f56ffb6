"""Finding a data set: a directory of one's own, then the cache, then the official source."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from hyperagg.data.datasets import store
from hyperagg.data.datasets.catalogue import ENTRIES
from hyperagg.data.datasets.dataset import Dataset
from hyperagg.data.datasets.entry import Entry
from hyperagg.data.readers.errors import DataError, quote

# Folders that a directory of one's own may hold and that hold no texts with labels.
LATER = {
    "wikitext-2": "it has no labels; `hyperagg lm` takes it",
    "mnist": "it holds pictures; `hyperagg diffusion train mnist` takes it",
    "fsdd": "it holds sound; `hyperagg study multimodal` takes it",
    "clothing-reviews": "it has no split; `hyperagg train FILE --text ... --number ...` takes it",
}


@dataclass(frozen=True)
class Listing:
    """What `list_datasets` says of one data set.

    Args:
        name: what to load it by.
        rows: documents in train and test, where it would be found now.
        about: what it is.
        found: where `load_dataset` would take it from now.
        terms: the terms of use as stated at the source.
    """

    name: str
    rows: tuple[int, int]
    about: str
    found: str
    terms: str


def load_dataset(name: str) -> Dataset:
    """Loads a data set by name.

    Looks in the directory that the environment variable HYPERAGG_DATA names (<name>/train.parquet
    and test.parquet with the columns text and label, or labels for lists of them; any name will
    do), then in the cache (HYPERAGG_CACHE, or ~/.cache/hyperagg), then at the official source,
    whose files are checked against a digest and then cached.

    Args:
        name: one of `list_datasets()`.

    Returns:
        the data set; its `source` says which of these places it came from, and how many rows the
        official source has if that is another number.

    Raises:
        ValueError: there is no such data set, it cannot be fetched, or its files are damaged. A
            data set that cannot be had is never replaced by another.
    """
    entry = ENTRIES.get(name)
    own = store.own_directory()
    if own is not None and is_plain(name) and (own / name).is_dir():
        return from_own_directory(name, own, entry)
    if entry is None:
        raise unknown(name)
    # What was set and did not serve is part of where the rows came from.
    unused = "" if own is None else f"; HYPERAGG_DATA={own} has no {name}"
    folder = store.cache_directory() / name
    if store.is_whole(folder):
        return from_cache(entry, folder, unused)
    return from_source(entry, folder, unused)


def from_own_directory(name: str, own: Path, entry: Entry | None) -> Dataset:
    if name in LATER:
        raise DataError(f"{name} cannot be loaded as texts with labels: {LATER[name]}")
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


def from_cache(entry: Entry, folder: Path, unused: str) -> Dataset:
    try:
        stored = store.read_folder(folder)
        check_rows(entry, len(stored.train), len(stored.test))
    except DataError as error:
        raise DataError(f"{error}; remove {folder} to fetch it again") from error
    source = f"cache {folder}; first from {stored.origin or 'an unnamed source'}{unused}"
    return Dataset(entry.name, stored.train, stored.test, source, terms=entry.terms)


def from_source(entry: Entry, folder: Path, unused: str) -> Dataset:
    try:
        train, test = entry.fetch()
        check_rows(entry, len(train), len(test))
    except DataError as error:
        raise DataError(
            f"{entry.name} is not {'in HYPERAGG_DATA nor ' if unused else ''}in the cache, and its "
            f"source failed: {error}. Set HYPERAGG_DATA to a directory with "
            f"{entry.name}/train.parquet and test.parquet (columns text and label), or try again "
            "with a network"
        ) from error
    store.write_folder(folder, train, test, entry.origin)
    source = f"{entry.origin}, now in the cache {folder}{unused}"
    return Dataset(entry.name, train, test, source, terms=entry.terms)


def check_rows(entry: Entry, train: int, test: int) -> None:
    if (train, test) != entry.rows:
        raise DataError(
            f"{entry.name} has {entry.rows[0]:,} train and {entry.rows[1]:,} test rows; "
            f"what was found has {train:,} and {test:,}"
        )


def list_datasets() -> list[Listing]:
    """Every data set that can be loaded here: the registered ones and those in HYPERAGG_DATA."""
    own = store.own_directory()
    listings = []
    for name in available_names():
        entry = ENTRIES.get(name)
        rows = entry.rows if entry else (0, 0)
        if own is not None and store.is_whole(own / name):
            found, rows = "HYPERAGG_DATA", store.count_rows(own / name)
        elif store.is_whole(store.cache_directory() / name):
            found = "cache"
        else:
            found = entry.origin if entry else ""
        about, terms = (entry.about, entry.terms) if entry else ("a data set of your own", "")
        listings.append(Listing(name, rows, about, found, terms))
    return listings


def available_names() -> list[str]:
    """The registered names, then those of the folders in HYPERAGG_DATA that can be loaded."""
    own = store.own_directory()
    extra = []
    if own is not None and own.is_dir():
        extra = [
            path.name
            for path in sorted(own.iterdir())
            if path.name not in ENTRIES and path.name not in LATER and store.is_whole(path)
        ]
    return [*ENTRIES, *extra]


def is_plain(name: str) -> bool:
    """Whether `name` is a name and not a path, which could leave the directory it is looked up in.

    A separator of either kind of system is refused on both.
    """
    return bool(name) and name not in (".", "..") and not any(c in name for c in "/\\\0")


def unknown(name: str) -> DataError:
    names = available_names()
    close = difflib.get_close_matches(name.lower().replace("_", "-"), names, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return DataError(f"there is no data set {quote(name)}; there are {', '.join(names)}{hint}")
