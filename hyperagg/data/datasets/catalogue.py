"""The data sets that have a name: one in this package, the others to download.

To add a data set, write a module in this folder that defines `ENTRY`, and add it to the two lists
here.
"""

from __future__ import annotations

from hyperagg.data.datasets import (
    ag_news,
    banking77,
    r8,
    r52,
    reuters,
    reuters_modapte,
    twenty_newsgroups,
)
from hyperagg.data.datasets.entry import Entry

ENTRIES: dict[str, Entry] = {
    module.ENTRY.name: module.ENTRY
    for module in (banking77, r8, r52, twenty_newsgroups, reuters, reuters_modapte, ag_news)
}
