"""The interface of a column.

A column learns from the training rows what it needs (words, quantiles, categories, the size of the
images), encodes its cells once, and makes tensors of the rows of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Protocol

import numpy as np
from torch import Tensor

from hyperagg.multimodal.modalities.base import Modality

__all__ = ["Column", "EncodedColumn", "RowName", "errors_name_row", "is_missing"]

# Returns how errors name the row of an index.
RowName = Callable[[int], str]


class EncodedColumn(Protocol):
    """The encoded cells of a column."""

    @property
    def present(self) -> np.ndarray:
        """(rows,) bool: which rows have a cell."""
        ...

    def batch(self, rows: np.ndarray, rng: np.random.Generator | None) -> tuple[Tensor, ...]:
        """Return what the modality's `tokens` takes for these rows.

        Args:
            rows: (R,) indices of rows that have a cell.
            rng: for training, augments the cells at random; None: leaves them as they are.
        """
        ...

    def arrays(self) -> Iterator[np.ndarray]:
        """Yield the encoded cells, which identify the data of a run."""
        ...


class Column(Protocol):
    """What a model has learned about a column."""

    kind: ClassVar[str]

    def encode(self, cells: Sequence[Any], row_name: RowName) -> EncodedColumn:
        """Encode cells, None where a row has none.

        Raises:
            ValueError, TypeError: a cell is not of this kind; `row_name` names its row.
        """
        ...

    def make_modality(self, d_model: int, hidden_dim: int) -> Modality:
        """Make the module that turns the encoded cells into tokens."""
        ...

    def to_config(self) -> dict[str, Any]:
        """Return what config.json holds of this column."""
        ...

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Column:
        """Make a column from what config.json holds.

        Raises:
            ValueError, TypeError, KeyError: the values are out of bounds or missing.
        """
        ...

    def token_names(self, cell: Any, num_tokens: int) -> list[str]:
        """Return names for the tokens of a cell."""
        ...


def is_missing(cell: Any) -> bool:
    """Whether a cell is None, NaN, or the missing value of pandas."""
    if cell is None or isinstance(cell, float | np.floating):
        return cell is None or bool(np.isnan(cell))
    return type(cell).__name__ in {"NAType", "NaTType"}


@contextmanager
def errors_name_row(row_name: RowName, row: int) -> Iterator[None]:
    """Prefix a ValueError of the block, such as one of a file, with the name of the row."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{row_name(row)}: {error}") from error
