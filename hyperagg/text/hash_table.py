"""Hash tables from 64-bit hashes to token ids, and counts of hashes.

The tables use open addressing, are at most half full, and probe from the slot that the lowest bits
of the hash give. Slots are prefetched some hashes ahead, since in a table larger than the cache
every access waits for memory.
"""

from __future__ import annotations

import numpy as np

from hyperagg._numba.cache import njit
from hyperagg._numba.prefetch import prefetch

__all__ = ["build_table", "count", "find", "merge_counts", "new_counts", "reserve"]

_FEWEST_SLOTS = 1 << 16
_PREFETCH_DISTANCE = 16
_ONE = np.uint64(1)


def build_table(hashes: np.ndarray) -> np.ndarray:
    """Return a (slots, 2) table of hashes and their ids; ids start at 1, and 0 is an empty slot."""
    table = np.zeros((1 << max(4, int(2 * len(hashes)).bit_length()), 2), dtype=np.uint64)
    _fill_table(hashes, table)
    return table


def new_counts() -> np.ndarray:
    """Return an empty table of hash, count and first occurrence per slot; count 0 is an empty slot.

    It is as `reserve` and `count` take it, and they keep the number of its hashes.
    """
    return np.zeros((_FEWEST_SLOTS, 3), dtype=np.uint64)


def merge_counts(tables: list[tuple[np.ndarray, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the counts of the distinct hashes of tables, and their first occurrences.

    Args:
        tables: each with the number of its hashes. The largest one is changed.

    Returns:
        (N,) int64 and (N,) int64, in no particular order.
    """
    (total, used), *others = sorted(tables, key=lambda each: -each[1])
    for table, _ in others:
        total, used = _merge(table, total, used)
    counts, firsts = (np.empty(used, dtype=np.int64) for _ in range(2))
    _collect(total, counts, firsts)
    return counts, firsts


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


@njit(nogil=True, cache=True, no_cpython_wrapper=True)
def reserve(table, used, more):
    """Return a table of counts with the hashes of this one and slots for so many more."""
    if 2 * (used + more) <= len(table):
        return table
    slots = len(table)
    while slots < 4 * (used + more):
        slots *= 2
    grown = np.zeros((slots, 3), dtype=np.uint64)
    _merge_into(table, grown)
    return grown


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def count(table, key, number, first):
    """Add to the count of a hash whose first occurrence is not after `first`; return the number of
    new hashes, 0 or 1. The table must have a free slot."""
    slot = _slot(table, key)
    fresh = table[slot, 1] == 0
    if fresh or first < table[slot, 2]:
        table[slot, 0], table[slot, 2] = key, first
    table[slot, 1] += number
    return np.int64(fresh)


@njit(nogil=True, cache=True)
def _merge(table, into, used):
    found = 0
    for i in range(len(table)):
        found += table[i, 1] > 0
    into = reserve(into, used, found)
    return into, used + _merge_into(table, into)


@njit(nogil=True, cache=True, no_cpython_wrapper=True)
def _merge_into(table, into):
    last, fresh = np.uint64(len(into) - 1), 0
    for i in range(len(table)):
        prefetch(into, table[min(i + _PREFETCH_DISTANCE, len(table) - 1), 0] & last)
        if table[i, 1]:
            fresh += count(into, table[i, 0], table[i, 1], table[i, 2])
    return fresh


@njit(nogil=True, cache=True)
def _collect(table, counts, firsts):
    n = 0
    for i in range(len(table)):
        if table[i, 1]:
            counts[n], firsts[n] = table[i, 1], table[i, 2]
            n += 1
