"""Tables of 64-bit hashes: which id each has, and how often each comes.

Open addressing, at most half full, and a hash is sought from the slot of its lowest bits on. Slots
are fetched some hashes ahead, since in a table larger than the cache each is a wait for memory.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from hyperagg._numba.prefetch import prefetch

__all__ = ["build_table", "find", "tally"]

_CHUNK = 1 << 18
_AHEAD = 16  # hashes whose slots are on their way while one is dealt with
_ONE = np.uint64(1)


def build_table(hashes: np.ndarray) -> np.ndarray:
    """(slots, 2) of hashes and their ids, which count from 1; 0 is an empty slot."""
    table = np.zeros((1 << max(4, int(2 * len(hashes)).bit_length()), 2), dtype=np.uint64)
    _fill_table(hashes, table)
    return table


def tally(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How often each hash but 0 comes, and where first: counts and first places, in that order."""
    table, used = _new_counts(1 << 16), 0
    for begin in range(0, len(hashes), _CHUNK):
        part = hashes[begin : begin + _CHUNK]
        if 2 * (used + len(part)) > len(table):
            small, table = table, _new_counts(1 << int(4 * (used + len(part))).bit_length())
            _move(small, table)
        used += _tally(part, begin, table)
    counts, firsts = (np.empty(used, dtype=np.int64) for _ in range(2))
    _collect(table, counts, firsts)
    return counts, firsts


def _new_counts(slots: int) -> np.ndarray:
    """Slot -> hash, count, first place; 0 of them: empty."""
    return np.zeros((slots, 3), dtype=np.uint64)


@njit(nogil=True, cache=True, inline="always")
def find(table, key):
    """The id of a hash; 0 if there is none."""
    return np.int32(table[_slot(table, key), 1])


@njit(nogil=True, cache=True, inline="always")
def _slot(table, key):
    """Where a hash is, or would be."""
    last = np.uint64(len(table) - 1)
    slot = key & last
    while table[slot, 1] and table[slot, 0] != key:
        slot = (slot + _ONE) & last
    return slot


@njit(nogil=True, cache=True)
def _fill_table(hashes, table):
    last = np.uint64(len(table) - 1)
    for i in range(len(hashes)):
        prefetch(table, hashes[min(i + _AHEAD, len(hashes) - 1)] & last)
        slot = _slot(table, hashes[i])
        table[slot, 0], table[slot, 1] = hashes[i], np.uint64(i + 1)


@njit(nogil=True, cache=True)
def _tally(hashes, begin, table):
    last, fresh = np.uint64(len(table) - 1), 0
    for i in range(len(hashes)):
        prefetch(table, hashes[min(i + _AHEAD, len(hashes) - 1)] & last)
        if hashes[i] == 0:
            continue
        slot = _slot(table, hashes[i])
        if not table[slot, 1]:
            table[slot, 0], table[slot, 2] = hashes[i], np.uint64(begin + i)
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
        prefetch(into, table[min(i + _AHEAD, len(table) - 1), 0] & last)
        if table[i, 1]:
            into[_slot(into, table[i, 0])] = table[i]
