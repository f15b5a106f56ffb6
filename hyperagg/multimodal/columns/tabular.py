"""Columns of numbers and of categories."""

from __future__ import annotations

import numbers
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from hyperagg._common.validation import check_real
from hyperagg.multimodal.columns.base import RowName, is_missing
from hyperagg.multimodal.modalities.base import Modality
from hyperagg.multimodal.modalities.tabular import Category, Number

__all__ = ["CategoryColumn", "NumberColumn"]

NUM_KNOTS = 17


@dataclass(frozen=True)
class NumberColumn:
    """Knots at the quantiles of the training rows."""

    kind: ClassVar[str] = "number"
    knots: tuple[float, ...]

    @classmethod
    def fit(cls, cells: Sequence[Any], row_name: RowName) -> NumberColumn:
        values = _checked_numbers(cells, row_name)
        values = values[~np.isnan(values)]
        knots = np.unique(np.quantile(values, np.linspace(0, 1, NUM_KNOTS)))
        if len(knots) < 2:  # a constant column carries no information, but is not an error
            knots = np.array([knots[0], knots[0] + 1])
        return cls(tuple(knots.tolist()))

    def encode(self, cells: Sequence[Any], row_name: RowName) -> EncodedValues:
        values = _checked_numbers(cells, row_name)
        return EncodedValues(values, ~np.isnan(values))

    def make_modality(self, d_model: int, hidden_dim: int) -> Modality:
        return Number(d_model, list(self.knots))

    def to_config(self) -> dict[str, Any]:
        return {"kind": self.kind, "knots": list(self.knots)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> NumberColumn:
        given = config["knots"]
        if not isinstance(given, list) or not 2 <= len(given) <= NUM_KNOTS:
            raise ValueError(f"knots: expected 2 to {NUM_KNOTS} numbers")
        knots = [check_real(f"knots[{i}]", knot) for i, knot in enumerate(given)]
        if any(left >= right for left, right in pairwise(knots)):
            raise ValueError("knots: expected increasing numbers")
        return cls(tuple(knots))

    def token_names(self, cell: Any, num_tokens: int) -> list[str]:
        return [f"{float(cell):g}"]


@dataclass(frozen=True)
class CategoryColumn:
    """The categories of the training rows; any other category is treated as missing."""

    kind: ClassVar[str] = "category"
    categories: tuple[str, ...]

    @classmethod
    def fit(cls, cells: Sequence[Any], row_name: RowName) -> CategoryColumn:
        categories = _checked_categories(cells, row_name)
        return cls(tuple(sorted({name for name in categories if name is not None})))

    def encode(self, cells: Sequence[Any], row_name: RowName) -> EncodedValues:
        ids = {name: i for i, name in enumerate(self.categories)}
        categories = _checked_categories(cells, row_name)
        encoded = [-1 if name is None else ids.get(name, -1) for name in categories]
        array = np.array(encoded, dtype=np.int64)
        return EncodedValues(array, array >= 0)

    def make_modality(self, d_model: int, hidden_dim: int) -> Modality:
        return Category(d_model, len(self.categories))

    def to_config(self) -> dict[str, Any]:
        return {"kind": self.kind, "categories": list(self.categories)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> CategoryColumn:
        categories = config["categories"]
        if not isinstance(categories, list) or not all(isinstance(c, str) for c in categories):
            raise ValueError("categories: expected a list of strings")
        if len(set(categories)) < len(categories):
            raise ValueError("categories: expected different ones")
        return cls(tuple(categories))

    def token_names(self, cell: Any, num_tokens: int) -> list[str]:
        return [_category_name(cell)]


@dataclass(frozen=True)
class EncodedValues:
    """One number per row."""

    values: np.ndarray
    present: np.ndarray

    def batch(self, rows: np.ndarray, rng: np.random.Generator | None) -> tuple[Tensor, ...]:
        return (torch.from_numpy(self.values[rows]),)

    def arrays(self) -> Iterator[np.ndarray]:
        yield self.values


def _checked_categories(cells: Sequence[Any], row_name: RowName) -> list[str | None]:
    """The name of each category, None where a cell is missing."""
    categories: list[str | None] = []
    for i, cell in enumerate(cells):
        if is_missing(cell):
            categories.append(None)
        elif isinstance(cell, str | bool | np.bool | numbers.Real):
            categories.append(_category_name(cell))
        else:
            raise TypeError(
                f"{row_name(i)}: {cell!r:.40}: expected a str, a number, a bool or None"
            )
    return categories


def _category_name(cell: Any) -> str:
    # A column of integers is read as floats where a cell is missing.
    if isinstance(cell, float | np.floating) and float(cell).is_integer():
        return str(int(cell))
    return str(cell)


def _checked_numbers(cells: Sequence[Any], row_name: RowName) -> np.ndarray:
    """(rows,) float64, NaN where a cell is missing."""
    values = np.full(len(cells), np.nan)
    for i, cell in enumerate(cells):
        if is_missing(cell):
            continue
        message = f"{row_name(i)}: {cell!r:.40}: expected a finite number or None"
        try:
            values[i] = float(cell)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(message) from None
        if not np.isfinite(values[i]):
            raise ValueError(message)
    return values
