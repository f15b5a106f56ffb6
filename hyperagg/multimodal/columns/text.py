"""Columns of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from hyperagg.multimodal.columns.base import RowName, is_missing
from hyperagg.multimodal.modalities.base import Modality
from hyperagg.multimodal.modalities.tabular import Words
from hyperagg.text import Ragged, Tokenizer, WordTokenizer, read_tokenizer

__all__ = ["TextColumn"]

MAX_WORDS, MAX_NGRAMS = 30_000, 30_000
# With more texts than this, a word counts only if it occurs at least twice.
MAX_TEXTS_WITH_RARE_WORDS = 1000


@dataclass(frozen=True)
class TextColumn:
    """Words and n-grams of the training texts."""

    kind: ClassVar[str] = "text"
    tokenizer: Tokenizer

    @classmethod
    def fit(cls, cells: Sequence[Any], row_name: RowName) -> TextColumn:
        texts = [text for text in _checked_texts(cells, row_name) if text is not None]
        min_count = 2 if len(texts) > MAX_TEXTS_WITH_RARE_WORDS else 1
        return cls(WordTokenizer.train(texts, MAX_WORDS, min_count, MAX_NGRAMS))

    def encode(self, cells: Sequence[Any], row_name: RowName) -> EncodedTexts:
        texts = _checked_texts(cells, row_name)
        rows = self.tokenizer.encode([text or "" for text in texts])
        return EncodedTexts(rows, rows.lengths > 0)

    def make_modality(self, d_model: int, hidden_dim: int) -> Modality:
        return Words(d_model, len(self.tokenizer))

    def to_config(self) -> dict[str, Any]:
        return {"kind": self.kind}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> TextColumn:
        """Besides the kind, `config` has the JSON text of the tokenizer's file as "tokenizer"."""
        return cls(read_tokenizer(config["tokenizer"]))

    def token_names(self, cell: Any, num_tokens: int) -> list[str]:
        vocabulary = self.tokenizer.vocabulary
        return [vocabulary[i] for i in self.tokenizer.encode([cell]).token_ids]


@dataclass(frozen=True)
class EncodedTexts:
    rows: Ragged
    present: np.ndarray

    def batch(self, rows: np.ndarray, rng: np.random.Generator | None) -> tuple[Tensor, ...]:
        own = self.rows.take(rows)
        return torch.from_numpy(own.token_ids), torch.from_numpy(own.cu_seqlens)

    def arrays(self) -> Iterator[np.ndarray]:
        yield self.rows.token_ids
        yield self.rows.cu_seqlens


def _checked_texts(cells: Sequence[Any], row_name: RowName) -> list[str | None]:
    """Strings; blank ones are missing."""
    texts: list[str | None] = []
    for i, cell in enumerate(cells):
        if is_missing(cell) or (isinstance(cell, str) and not cell.strip()):
            texts.append(None)
        elif isinstance(cell, str):
            texts.append(cell)
        else:
            raise TypeError(f"{row_name(i)}: {cell!r:.40}: expected a str or None")
    return texts
