"""What is known of a data set before it is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hyperagg.data.datasets.dataset import Split


@dataclass(frozen=True)
class Entry:
    """A data set that can be had by name.

    Args:
        name: what it is loaded by; also the name of its folder.
        about: what it is, in a few words.
        rows: documents in train and test at the official source.
        terms: the terms of use as stated there.
        origin: the official source, as `Dataset.source` will name it.
        fetch: brings train and test from there; raises DataError.
    """

    name: str
    about: str
    rows: tuple[int, int]
    terms: str
    origin: str
    fetch: Callable[[], tuple[Split, Split]]
