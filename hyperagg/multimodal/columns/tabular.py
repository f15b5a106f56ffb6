"""What a model knows of each of its columns: how cells become numbers, tokens and names.

A column learns from the training rows what it needs to know (words, quantiles, categories, the
size of pictures), encodes cells once, and makes tensors of the rows of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from hyperagg.multimodal.modalities.base import Modality
from hyperagg.multimodal.modalities.tabular import Category, Number, Words
from hyperagg.text import Ragged, Tokenizer, WordTokenizer, read_tokenizer

__all__ = ["CategoryColumn", "Cells", "Column", "NumberColumn", "Place", "TextColumn", "texts_of"]

Place = Callable[[int], str]
KNOTS = 17
MAX_WORDS, MAX_GRAMS = 30_000, 30_000


class Cells(Protocol):
    """The encoded cells of a column."""

    @property
    def present(self) -> np.ndarray:
        """(rows,) bool: which rows have one."""
        ...

    def batch(self, rows: np.ndarray, rng: np.random.Generator | None) -> tuple[Tensor, ...]:
        """What the modality's `tokens` takes; `rng` changes them a little, for training."""
        ...


class Column(Protocol):
    """A column of a model."""

    kind: ClassVar[str]

    def encode(self, cells: Sequence[Any], place: Place) -> Cells:
        """Raises ValueError where a cell is not of this kind; `place` names its row."""
        ...

    def modality(self, d_model: int, hidden: int) -> Modality: ...

    def describe(self) -> dict[str, Any]:
        """For config.json."""
        ...

    def names(self, cell: Any, tokens: int) -> list[str]:
        """What to call each of the tokens of a cell."""
        ...


@dataclass(frozen=True)
class TextColumn:
    """Words and grams that the training texts have at least twice."""

    kind: ClassVar[str] = "text"
    tokenizer: Tokenizer

    @classmethod
    def learn(cls, cells: Sequence[Any], place: Place) -> TextColumn:
        texts = [text for text in texts_of(cells, place) if text is not None]
        least = 2 if len(texts) > 1000 else 1
        return cls(WordTokenizer.train(texts, MAX_WORDS, least, MAX_GRAMS))

    def encode(self, cells: Sequence[Any], place: Place) -> TextCells:
        texts = texts_of(cells, place)
        rows = self.tokenizer.encode([text or "" for text in texts])
        return TextCells(rows, rows.lengths > 0)

    def modality(self, d_model: int, hidden: int) -> Modality:
        return Words(d_model, len(self.tokenizer))

    def describe(self) -> dict[str, Any]:
        return {"kind": self.kind}

    @classmethod
    def read(cls, described: Mapping[str, Any], folder: Path, number: int) -> TextColumn:
        return cls(read_tokenizer((folder / cls.file(number)).read_text("utf-8")))

    @staticmethod
    def file(number: int) -> str:
        """Of the tokenizer of the column of this number."""
        return f"tokenizer-{number}.json"

    def names(self, cell: Any, tokens: int) -> list[str]:
        ids = self.tokenizer.encode([cell]).token_ids
        vocabulary = self.tokenizer.vocabulary
        return [vocabulary[i] for i in ids]


@dataclass(frozen=True)
class TextCells:
    rows: Ragged
    present: np.ndarray

    def batch(self, rows: np.ndarray, rng: np.random.Generator | None) -> tuple[Tensor, ...]:
        own = self.rows.take(rows)
        return torch.from_numpy(own.token_ids), torch.from_numpy(own.cu_seqlens)


@dataclass(frozen=True)
class NumberColumn:
    """Knots at the quantiles of the training rows."""

    kind: ClassVar[str] = "number"
    knots: tuple[float, ...]

    @classmethod
    def learn(cls, cells: Sequence[Any], place: Place) -> NumberColumn:
        numbers = _numbers(cells, place)
        numbers = numbers[~np.isnan(numbers)]
        knots = np.unique(np.quantile(numbers, np.linspace(0, 1, KNOTS)))
        if len(knots) < 2:  # one number everywhere says nothing, but is no error
            knots = np.array([knots[0], knots[0] + 1])
        return cls(tuple(knots.tolist()))

    def encode(self, cells: Sequence[Any], place: Place) -> ArrayCells:
        numbers = _numbers(cells, place)
        return ArrayCells(numbers, ~np.isnan(numbers))

    def modality(self, d_model: int, hidden: int) -> Modality:
        return Number(d_model, list(self.knots))

    def describe(self) -> dict[str, Any]:
        return {"kind": self.kind, "knots": list(self.knots)}

    @classmethod
    def read(cls, described: Mapping[str, Any], folder: Path, number: int) -> NumberColumn:
        return cls(tuple(map(float, described["knots"])))

    def names(self, cell: Any, tokens: int) -> list[str]:
        return [f"{float(cell):g}"]


@dataclass(frozen=True)
class CategoryColumn:
    """The categories of the training rows; one that was not there counts as missing."""

    kind: ClassVar[str] = "category"
    categories: tuple[str, ...]

    @classmethod
    def learn(cls, cells: Sequence[Any], place: Place) -> CategoryColumn:
        return cls(tuple(sorted({str(cell) for cell in cells if not _is_missing(cell)})))

    def encode(self, cells: Sequence[Any], place: Place) -> ArrayCells:
        ids = {name: i for i, name in enumerate(self.categories)}
        found = [-1 if _is_missing(cell) else ids.get(str(cell), -1) for cell in cells]
        array = np.array(found, dtype=np.int64)
        return ArrayCells(array, array >= 0)

    def modality(self, d_model: int, hidden: int) -> Modality:
        return Category(d_model, len(self.categories))

    def describe(self) -> dict[str, Any]:
        return {"kind": self.kind, "categories": list(self.categories)}

    @classmethod
    def read(cls, described: Mapping[str, Any], folder: Path, number: int) -> CategoryColumn:
        return cls(tuple(map(str, described["categories"])))

    def names(self, cell: Any, tokens: int) -> list[str]:
        return [str(cell)]


@dataclass(frozen=True)
class ArrayCells:
    """One number a row."""

    values: np.ndarray
    present: np.ndarray

    def batch(self, rows: np.ndarray, rng: np.random.Generator | None) -> tuple[Tensor, ...]:
        return (torch.from_numpy(self.values[rows]),)


def texts_of(cells: Sequence[Any], place: Place) -> list[str | None]:
    """Strings; blank ones are missing."""
    texts: list[str | None] = []
    for i, cell in enumerate(cells):
        if _is_missing(cell) or (isinstance(cell, str) and not cell.strip()):
            texts.append(None)
        elif isinstance(cell, str):
            texts.append(cell)
        else:
            raise TypeError(f"{place(i)}: a text is {type(cell).__name__}; give str or None")
    return texts


def _numbers(cells: Sequence[Any], place: Place) -> np.ndarray:
    numbers = np.full(len(cells), np.nan)
    for i, cell in enumerate(cells):
        if _is_missing(cell):
            continue
        try:
            numbers[i] = float(cell)
        except (TypeError, ValueError):
            raise ValueError(f"{place(i)}: {cell!r:.40} is no number; give one or None") from None
        if not np.isfinite(numbers[i]):
            raise ValueError(f"{place(i)}: {cell!r:.40} is no finite number; give one or None")
    return numbers


def _is_missing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and np.isnan(cell))
