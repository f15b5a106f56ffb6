"""Split rows into chunks of positions, and distribute chunks to threads.

The split depends on shapes alone, and a thread gets whole chunks, so the result does not depend on
the number of threads.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hyperagg._numba.threads import even_borders, parts

__all__ = ["Chunks", "split_rows", "thread_ranges", "thread_ranges_by_position", "whole_rows"]


class Chunks(NamedTuple):
    """Runs of positions of rows, sorted by position: row, first position, first token, length."""

    row: np.ndarray
    position: np.ndarray
    start: np.ndarray
    length: np.ndarray


def whole_rows(starts: np.ndarray, lengths: np.ndarray) -> Chunks:
    """Return one chunk per row."""
    return Chunks(np.arange(len(starts)), np.zeros_like(starts), starts, lengths)


def split_rows(starts: np.ndarray, lengths: np.ndarray, size: int) -> Chunks:
    """Return every row split at the multiples of `size`; an empty row stays one chunk."""
    counts = np.maximum(1, -(-lengths // size))
    row = np.repeat(np.arange(len(starts)), counts)
    index = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    order = np.argsort(index, kind="stable")
    row, position = row[order], index[order] * size
    length = np.minimum(size, lengths[row] - position)
    return Chunks(row, position, starts[row] + position, length)


def thread_ranges(costs: np.ndarray, d: int) -> np.ndarray:
    """Return the bounds of the chunks of each thread; chunk i has costs[i] tokens of d channels."""
    return even_borders(costs, parts(int(costs.sum()) * d))


def thread_ranges_by_position(chunks: Chunks, d: int) -> np.ndarray:
    """Return boundaries that give all chunks of a position, hence its row of p, to one thread."""
    _, counts = np.unique(chunks.position, return_counts=True)
    ends = np.cumsum(counts)
    if not len(ends):
        return np.array([0, 0])
    tokens = np.add.reduceat(chunks.length, ends - counts)
    return np.concatenate([[0], ends])[thread_ranges(tokens, d)]
