"""Batches of rows, each of which has some of the modalities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hyperagg.multimodal.columns import Column, EncodedColumn
from hyperagg.multimodal.encoder import ModalityInput
from hyperagg.multimodal.table import Cells

__all__ = ["Rows", "encode_rows"]


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

    def take(self, indices: np.ndarray) -> Rows:
        """Return some of the rows."""
        subsets = {name: _Subset(column, indices) for name, column in self.columns.items()}
        return Rows(subsets, len(indices))

    def arrays(self) -> Iterator[np.ndarray]:
        """Yield everything that the rows consist of."""
        for column in self.columns.values():
            yield column.present
            yield from column.arrays()

    def batch(
        self,
        rows: np.ndarray,
        rng: np.random.Generator | None = None,
        dropout: float = 0.0,
        augment: bool = True,
    ) -> dict[str, ModalityInput]:
        """Return the inputs of each modality that at least one of the rows has.

        Args:
            rows: (B,) indices of the rows.
            rng: source of modality dropout and augmentation, for training; None: neither.
            dropout: fraction of the modalities that is dropped; every row keeps one.
            augment: whether images and audio are varied at random.
        """
        kept = np.stack([column.present[rows] for column in self.columns.values()], 1)
        if rng is not None and dropout:
            kept = drop_modalities(kept, dropout, rng)
        inputs = {}
        for mask, (name, column) in zip(kept.T, self.columns.items()):
            positions = np.flatnonzero(mask)
            if len(positions):
                values = column.batch(rows[positions], rng if augment else None)
                inputs[name] = ModalityInput(torch.from_numpy(positions), values)
        return inputs


def encode_rows(columns: Mapping[str, Column], cells: Cells) -> Rows:
    """Encode the cells of each column.

    Raises:
        ValueError: a row has no value in any column, or a column cannot encode a value.
    """
    encoded = {
        name: columns[name].encode(column, cells.cell_name(name))
        for name, column in cells.columns.items()
    }
    rows = Rows(encoded, cells.num_rows)
    empty = np.flatnonzero(~rows.present.any(1))
    if len(empty):
        raise ValueError(
            f"{cells.row_name(int(empty[0]))}: has no value in any of the columns "
            f"{', '.join(map(repr, encoded))} ({len(empty):,} of {cells.num_rows:,} rows); fill "
            "one of them, or remove the row"
        )
    return rows


class _Subset:
    """Some of the rows of an encoded column."""

    def __init__(self, column: EncodedColumn, indices: np.ndarray) -> None:
        self.column, self.indices = column, indices
        self.present = column.present[indices]

    def arrays(self) -> Iterator[np.ndarray]:
        yield self.indices
        yield from self.column.arrays()

    def batch(self, rows: np.ndarray, rng: np.random.Generator | None) -> tuple[Tensor, ...]:
        return self.column.batch(self.indices[rows], rng)


def drop_modalities(present: np.ndarray, dropout: float, rng: np.random.Generator) -> np.ndarray:
    """(B, M) bool: `present` without a random fraction of its entries; every row keeps one."""
    kept = present & (rng.random(present.shape) >= dropout)
    empty = np.flatnonzero(~kept.any(1) & present.any(1))
    choice = np.where(present[empty], rng.random((len(empty), present.shape[1])), -1).argmax(1)
    kept[empty, choice] = True
    return kept
