"""Rows of token ids of unequal length in one array."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Ragged"]


@dataclass(frozen=True)
class Ragged:
    """Hold rows of token ids of unequal length in one array.

    Row i is token_ids[cu_seqlens[i]:cu_seqlens[i + 1]].

    Args:
        token_ids: (T,) int32, the ids of all rows, one row after the other.
        cu_seqlens: (rows + 1,) int64, the cumulative lengths of the rows, starting with 0.

    Example:
        >>> rows = Ragged(np.array([4, 7, 5], np.int32), np.array([0, 2, 3]))
        >>> rows.padded().tolist()
        [[4, 7], [5, 0]]
    """

    token_ids: np.ndarray
    cu_seqlens: np.ndarray

    def __len__(self) -> int:
        return len(self.cu_seqlens) - 1

    @property
    def lengths(self) -> np.ndarray:
        """(rows,) the number of tokens per row."""
        return np.diff(self.cu_seqlens)

    def take(self, rows: np.ndarray) -> Ragged:
        """Return the rows with these indices, in this order. Cost: O(tokens taken)."""
        return self._prefixes(self.cu_seqlens[rows], self.lengths[rows])

    def truncate(self, length: int) -> Ragged:
        """Return the first `length` tokens of every row. Cost: O(tokens kept)."""
        return self._prefixes(self.cu_seqlens[:-1], np.minimum(self.lengths, length))

    def indicators(self, width: int) -> np.ndarray:
        """Return a (rows, width) bool array, True for the ids that a row contains."""
        out = np.zeros((len(self), width), dtype=bool)
        out[np.repeat(np.arange(len(self)), self.lengths), self.token_ids] = True
        return out

    def padded(self, length: int | None = None, front: bool = False) -> np.ndarray:
        """Return the rows as a (rows, length) array of ids, padded with 0.

        Args:
            length: the number of columns; longer rows are truncated. By default the length of the
                longest row.
            front: whether to pad and truncate at the front of a row, as Keras does, rather than at
                its end.
        """
        lengths = self.lengths
        width = int(length if length is not None else lengths.max(initial=0))
        kept = np.minimum(lengths, width)
        skipped = lengths - kept if front else np.zeros_like(lengths)
        shift = width - kept if front else np.zeros_like(lengths)
        out = np.zeros((len(self), width), dtype=self.token_ids.dtype)
        rows = np.repeat(np.arange(len(self)), kept)
        columns = _positions(kept) + np.repeat(shift, kept)
        out[rows, columns] = self._prefixes(self.cu_seqlens[:-1] + skipped, kept).token_ids
        return out

    def _prefixes(self, starts: np.ndarray, lengths: np.ndarray) -> Ragged:
        """Rows of these lengths that start at these indices of `token_ids`."""
        indices = _positions(lengths) + np.repeat(starts, lengths)
        return Ragged(self.token_ids[indices], np.concatenate([[0], np.cumsum(lengths)]))


def _positions(lengths: np.ndarray) -> np.ndarray:
    """0, 1, ... for every row of these lengths."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) - np.repeat(ends - lengths, lengths)
