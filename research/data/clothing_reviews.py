"""Reviews of women's clothing: a text beside numbers and categories."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hyperagg.data.datasets import store
from hyperagg.data.readers.errors import DataError

__all__ = ["ClothingReviews", "Reviews", "load_clothing_reviews"]

NAME = "clothing-reviews"
COLUMNS = (
    "title",
    "review_text",
    "age",
    "rating",
    "recommended",
    "positive_feedback_count",
    "division",
    "department",
    "class_name",
)
TEST_SHARE = 0.2


@dataclass(frozen=True)
class Reviews:
    """Rows of a table, by column; None where a cell is empty."""

    cells: dict[str, list[Any]] = field(repr=False)

    def __len__(self) -> int:
        return len(self.cells["rating"])

    def texts(self) -> list[str | None]:
        """Title and text, a line each; None where a row has neither."""
        pairs = zip(self.cells["title"], self.cells["review_text"])
        return ["\n".join(part for part in pair if part) or None for pair in pairs]


@dataclass(frozen=True)
class ClothingReviews:
    """What to learn from and what to measure on, and where it came from."""

    train: Reviews
    test: Reviews
    source: str


def load_clothing_reviews() -> ClothingReviews:
    """23,486 reviews with the age of who wrote, a rating of 1 to 5, whether the piece is
    recommended, how many found the review helpful, and three levels of category.

    A fifth of the rows, drawn once and for all, is the test: there is no official split. 845 rows
    have no text. From HYPERAGG_DATA (clothing-reviews/train.parquet) alone: its source asks for an
    account.

    Raises:
        ValueError: it is not there, or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    own = store.own_directory()
    path = None if own is None else own / NAME / "train.parquet"
    if path is None or not path.is_file():
        raise DataError(
            f'{NAME} is not in HYPERAGG_DATA: download "Women\'s E-Commerce Clothing Reviews" '
            "from kaggle.com/datasets/nicapotato/womens-ecommerce-clothing-reviews and save it as "
            f"{NAME}/train.parquet there, with the columns {', '.join(COLUMNS)}"
        )
    try:
        table = pq.read_table(path, columns=list(COLUMNS))
        columns = {name: table[name].to_pylist() for name in COLUMNS}
    except (pa.ArrowException, OSError, KeyError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise DataError(f"{path} has not the columns {', '.join(COLUMNS)} ({reason})") from error
    order = np.random.default_rng(20261126).permutation(table.num_rows)
    borders = np.split(order, [round(TEST_SHARE * len(order))])
    test, train = (
        Reviews({name: [cells[i] for i in np.sort(part)] for name, cells in columns.items()})
        for part in borders
    )
    return ClothingReviews(train, test, f"HYPERAGG_DATA={path.parent}")
