"""The description of a data set that has a name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hyperagg.data.dataset import Split


@dataclass(frozen=True)
class Entry:
    """Describe a data set that is in this package or can be downloaded by name.

    Args:
        name: the name by which it is loaded, which is also the name of its folder.
        description: what it contains, in a few words.
        rows: the number of rows of train and test at the official source.
        terms: the terms of use as stated there.
        origin: the official source, as `Dataset.source` names it.
        megabytes: how much is downloaded from there; 0 if the rows are in this package.
        fetch: downloads or reads train and test from there; raises DataError.
    """

    name: str
    description: str
    rows: tuple[int, int]
    terms: str
    origin: str
    megabytes: float
    fetch: Callable[[], tuple[Split, Split]]
