"""Rows of unequal length, end to end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Ragged"]


@dataclass(frozen=True)
class Ragged:
    """Rows of token ids of unequal length, end to end.

    `token_ids` (T,) int32 holds all rows; row i is token_ids[cu_seqlens[i]:cu_seqlens[i + 1]].
    """

    token_ids: np.ndarray
    cu_seqlens: np.ndarray

    def __len__(self) -> int:
        return len(self.cu_seqlens) - 1

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.cu_seqlens)

    def take(self, rows: np.ndarray) -> Ragged:
        """The named rows, in the order named. Cost: O(tokens taken)."""
        starts, lengths = self.cu_seqlens[rows], self.lengths[rows]
        borders = np.concatenate([[0], np.cumsum(lengths)])
        places = np.arange(borders[-1]) + np.repeat(starts - borders[:-1], lengths)
        return Ragged(self.token_ids[places], borders)

    def truncate(self, length: int) -> Ragged:
        """The first `length` tokens of every row."""
        lengths = np.minimum(self.lengths, length)
        borders = np.concatenate([[0], np.cumsum(lengths)])
        places = np.arange(borders[-1]) + np.repeat(self.cu_seqlens[:-1] - borders[:-1], lengths)
        return Ragged(self.token_ids[places], borders)

    def indicators(self, width: int) -> np.ndarray:
        """(rows, width) bool: which ids each row has."""
        out = np.zeros((len(self), width), dtype=bool)
        out[np.repeat(np.arange(len(self)), self.lengths), self.token_ids] = True
        return out

    def padded(self, length: int | None = None, front: bool = False) -> np.ndarray:
        """(rows, length) ids with 0 where a row is shorter; a longer row is cut where padding
        would go. `front` pads (and cuts) in front of the row, as Keras does."""
        lengths = self.lengths
        width = int(length if length is not None else lengths.max(initial=0))
        kept = np.minimum(lengths, width)
        skipped = lengths - kept if front else np.zeros_like(lengths)
        shift = width - kept if front else np.zeros_like(lengths)
        rows = np.repeat(np.arange(len(self)), kept)
        borders = np.concatenate([[0], np.cumsum(kept)])
        within = np.arange(borders[-1]) - np.repeat(borders[:-1], kept)
        out = np.zeros((len(self), width), dtype=self.token_ids.dtype)
        source = within + np.repeat(self.cu_seqlens[:-1] + skipped, kept)
        out[rows, within + np.repeat(shift, kept)] = self.token_ids[source]
        return out
