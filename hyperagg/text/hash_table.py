"""Hash tables from 64-bit hashes to token ids, and counts of hashes.

The tables use open addressing, are at most half full, and probe from the slot that the lowest bits
of the hash give. Slots are prefetched some hashes ahead, since in a table larger than the cache
every access waits for memory.
"""

from __future__ import annotations

import numpy as np

from hyperagg._numba.cache import njit
from hyperagg._numba.prefetch import prefetch

__all__ = ["HashCounter", "build_table", "find"]

_CHUNK = 1 << 18
_PREFETCH_DISTANCE = 16
_ONE = np.uint64(1)


def build_table(hashes: np.ndarray) -> np.ndarray:
    """Return a (slots, 2) table of hashes and their ids; ids start at 1, and 0 is an empty slot."""
    table = np.zeros((1 << max(4, int(2 * len(hashes)).bit_length()), 2), dtype=np.uint64)
    _fill_table(hashes, table)
    return table


class HashCounter:
    """Counts how often each hash occurs, and keeps its first occurrence."""

    def __init__(self) -> None:
        self._table, self._used = _new_counts(1 << 16), 0

    def add(self, hashes: np.ndarray, occurrences: np.ndarray) -> None:
        """Count further hashes.

        Args:
            hashes: (N,) uint64.
            occurrences: (N,) int64, a number for each of them, which `result` returns of the first.
        """
        for begin in range(0, len(hashes), _CHUNK):
            part = slice(begin, begin + _CHUNK)
            needed = self._used + len(hashes[part])
            if 2 * needed > len(self._table):
                small, self._table = self._table, _new_counts(1 << int(4 * needed).bit_length())
                _move(small, self._table)
            self._used += _count(hashes[part], occurrences[part], self._table)

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the count of each hash and its first occurrence, in no particular order."""
        counts, firsts = (np.empty(self._used, dtype=np.int64) for _ in range(2))
        _collect(self._table, counts, firsts)
        return counts, firsts


def _new_counts(slots: int) -> np.ndarray:
    """An empty table of hash, count and first occurrence per slot; count 0 is an empty slot."""
    return np.zeros((slots, 3), dtype=np.uint64)


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def find(table, key):
    """Return the id of a hash; 0 if the table does not hold it."""
    return np.int32(table[_slot(table, key), 1])


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def _slot(table, key):
    """The slot of a hash, or the empty slot where it would be inserted."""
    last = np.uint64(len(table) - 1)
    slot = key & last
    while table[slot, 1] and table[slot, 0] != key:
        slot = (slot + _ONE) & last
    return slot


@njit(nogil=True, cache=True)
def _fill_table(hashes, table):
    last = np.uint64(len(table) - 1)
    for i in range(len(hashes)):
        prefetch(table, hashes[min(i + _PREFETCH_DISTANCE, len(hashes) - 1)] & last)
        slot = _slot(table, hashes[i])
        table[slot, 0], table[slot, 1] = hashes[i], np.uint64(i + 1)


@njit(nogil=True, cache=True)
def _count(hashes, occurrences, table):
    """Count the hashes; return the number of new ones."""
    last, fresh = np.uint64(len(table) - 1), 0
    for i in range(len(hashes)):
        prefetch(table, hashes[min(i + _PREFETCH_DISTANCE, len(hashes) - 1)] & last)
        slot = _slot(table, hashes[i])
        if not table[slot, 1]:
            table[slot, 0], table[slot, 2] = hashes[i], np.uint64(occurrences[i])
            fresh += 1
        table[slot, 1] += _ONE
    return fresh


@njit(nogil=True, cache=True)
def _collect(table, counts, firsts):
    n = 0
    for i in range(len(table)):
        if table[i, 1]:
            counts[n], firsts[n] = table[i, 1], table[i, 2]
            n += 1


@njit(nogil=True, cache=True)
def _move(table, into):
    last = np.uint64(len(into) - 1)
    for i in range(len(table)):
        prefetch(into, table[min(i + _PREFETCH_DISTANCE, len(table) - 1), 0] & last)
        if table[i, 1]:
            slot = _slot(into, table[i, 0])
            for column in range(3):  # compiling the assignment of a row takes two seconds
                into[slot, column] = table[i, column]
