"""Batches of rows that have some of the modalities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from hyperagg.multimodal.columns.base import EncodedColumn
from hyperagg.multimodal.encoder import ModalityInput

__all__ = ["Rows"]


@dataclass(frozen=True)
class Rows:
    """Encoded rows.

    Args:
        columns: the encoded cells by column.
        num_rows: the number of rows.
    """

    columns: Mapping[str, EncodedColumn]
    num_rows: int

    def __len__(self) -> int:
        return self.num_rows

    @property
    def present(self) -> np.ndarray:
        """(rows, M) bool: which modalities each row has."""
        return np.stack([column.present for column in self.columns.values()], 1)

    def batch(
        self,
        rows: np.ndarray,
        rng: np.random.Generator | None = None,
        dropout: float = 0.0,
        augment: bool = True,
    ) -> dict[str, ModalityInput]:
        """What the named rows have.

        Args:
            rows: (B,) their numbers.
            rng: for training: modalities are dropped, and what is left is varied.
            dropout: the share of modalities that is dropped; every row keeps one.
            augment: whether pictures and sounds are varied.
        """
        kept = np.stack([column.present[rows] for column in self.columns.values()], 1)
        if rng is not None and dropout:
            kept = dropped(kept, dropout, rng)
        given = {}
        for own, (name, column) in zip(kept.T, self.columns.items()):
            at = np.flatnonzero(own)
            if len(at):
                values = column.batch(rows[at], rng if augment else None)
                given[name] = ModalityInput(torch.from_numpy(at), values)
        return given


def dropped(present: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """(B, M) bool: of what is present some is dropped, but never all that a row has."""
    kept = present & (rng.random(present.shape) >= share)
    bare = np.flatnonzero(~kept.any(1) & present.any(1))
    choice = np.where(present[bare], rng.random((len(bare), present.shape[1])), -1).argmax(1)
    kept[bare, choice] = True
    return kept
