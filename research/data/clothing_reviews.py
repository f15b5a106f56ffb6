"""Reviews of women's clothing: texts with numbers and categories."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hyperagg.data import DataError
from hyperagg.data.directories import data_directory

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
TEST_FRACTION = 0.2


@dataclass(frozen=True)
class Reviews:
    """A table by column; empty cells are None."""

    cells: dict[str, list[Any]] = field(repr=False)

    def __len__(self) -> int:
        return len(self.cells["rating"])

    def texts(self) -> list[str | None]:
        """Join title and text, one line each; None where a row has neither."""
        pairs = zip(self.cells["title"], self.cells["review_text"])
        return ["\n".join(part for part in pair if part) or None for pair in pairs]


@dataclass(frozen=True)
class ClothingReviews:
    """Training rows, test rows, and where they came from."""

    train: Reviews
    test: Reviews
    source: str


def load_clothing_reviews() -> ClothingReviews:
    """Load 23,486 reviews of clothing.

    Each row has the age of the author, a rating of 1 to 5, whether the author recommends the
    product, how many readers found the review helpful, and three levels of category. 845 rows have
    no text. There is no official split: a fixed random fifth of the rows is the test split.

    The file is read from HYPERAGG_DATA (clothing-reviews/train.parquet), since its source
    requires an account.

    Raises:
        ValueError: the file is missing, or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    own = data_directory()
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
        raise DataError(f"{path}: expected the columns {', '.join(COLUMNS)} ({reason})") from error
    order = np.random.default_rng(20261126).permutation(table.num_rows)
    boundaries = np.split(order, [round(TEST_FRACTION * len(order))])
    test, train = (
        Reviews({name: [cells[i] for i in np.sort(part)] for name, cells in columns.items()})
        for part in boundaries
    )
    return ClothingReviews(train, test, f"HYPERAGG_DATA={path.parent}")
