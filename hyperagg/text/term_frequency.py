"""Occurrence weights: the c-th occurrence of a token in a text weighs 1/c.

A text that contains a word ten times is not ten times as much about it. The occurrences of a token
together weigh 1 + 1/2 + ... + 1/c, which grows like the logarithm of c, and yet the weight of each
occurrence is known as soon as it is read.

The counts are kept in an open-addressing table of two arrays, whose length is a power of two.
"""

from __future__ import annotations

import numpy as np

from hyperagg._numba.cache import njit
from hyperagg._numba.threads import even_borders, parts, run
from hyperagg.text.ragged import Ragged

__all__ = [
    "clear_counts",
    "count_occurrence",
    "new_counts",
    "occurrence_weights",
    "remove_occurrences",
    "table_size",
    "token_counts",
]

_EMPTY, _ONE = np.int32(-1), np.int32(1)
_WORK_PER_TOKEN = 16  # in multiply-adds, approximately
_MULTIPLIER = np.uint32(2654435769)  # 2^32 / golden ratio spreads consecutive ids over the table


def occurrence_weights(rows: Ragged, vocabulary_size: int) -> np.ndarray:
    """Return the weight 1/c of every token, where c counts the occurrences of its id in its row.

    Args:
        rows: the token ids.
        vocabulary_size: the number of distinct ids.

    Returns:
        (T,) float32.

    Cost: O(T).

    Example:
        >>> rows = Ragged(np.array([3, 5, 3], np.int32), np.array([0, 3]))
        >>> occurrence_weights(rows, 6).tolist()
        [1.0, 1.0, 0.5]
    """
    out = np.empty(len(rows.token_ids), dtype=np.float32)
    ranges = even_borders(rows.lengths, parts(_WORK_PER_TOKEN * len(out)))
    run(_fill, ranges, rows.token_ids, rows.cu_seqlens, vocabulary_size, out)
    return out


def token_counts(
    rows: Ragged, vocabulary_size: int, chosen: np.ndarray | None = None
) -> np.ndarray:
    """Return (vocabulary_size,) int64, how often each id occurs in rows.

    Args:
        rows: the token ids.
        vocabulary_size: the number of distinct ids.
        chosen: the indices of the rows to count (default: all).

    Cost: O(T), without a copy of the ids.

    Example:
        >>> rows = Ragged(np.array([3, 5, 3], np.int32), np.array([0, 2, 3]))
        >>> token_counts(rows, 6).tolist(), token_counts(rows, 6, np.array([1])).tolist()
        ([0, 0, 0, 2, 0, 1], [0, 0, 0, 1, 0, 0])
    """
    counts = np.zeros(vocabulary_size, dtype=np.int64)
    if chosen is None:
        chosen = np.arange(len(rows))
    _count(chosen, rows.token_ids, rows.cu_seqlens, counts)
    return counts


def new_counts(distinct: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the keys and counts of an empty table for this number of distinct ids."""
    size = table_size(distinct)
    return np.full(size, _EMPTY), np.zeros(size, dtype=np.int32)


@njit(nogil=True, cache=True)
def table_size(distinct):
    """Return the smallest power of two that is at least 32 and at least four times `distinct`."""
    size = 32
    while size < 4 * distinct:
        size *= 2
    return size


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def count_occurrence(token, keys, counts):
    """Count one more occurrence of a token; return the number of its occurrences so far."""
    slot = _slot(token, keys)
    # Writing the key of a known token again costs less than a branch that cannot be predicted.
    keys[slot] = token
    counts[slot] += _ONE
    return counts[slot]


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def clear_counts(keys, counts):
    """Remove all tokens from a table."""
    keys[:] = _EMPTY
    counts[:] = 0


@njit(nogil=True, cache=True)
def remove_occurrences(token_ids, keys, counts):
    """Subtract one occurrence of each of these tokens from the counts."""
    for token in token_ids:
        counts[_slot(token, keys)] -= _ONE


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def _slot(token, keys):
    """The slot of a token, or the empty slot where it would be inserted."""
    last = np.uint32(len(keys) - 1)
    # The high bits of the product are the well-mixed ones.
    slot = ((np.uint32(token) * _MULTIPLIER) >> np.uint32(7)) & last
    while (keys[slot] != token) & (keys[slot] != _EMPTY):
        slot = (slot + np.uint32(1)) & last
    return slot


@njit(nogil=True, cache=True)
def _count(chosen, token_ids, cu_seqlens, counts):
    for row in chosen:
        for t in range(cu_seqlens[row], cu_seqlens[row + 1]):
            counts[token_ids[t]] += 1


@njit(nogil=True, cache=True)
def _fill(first, last, token_ids, cu_seqlens, vocabulary_size, out):
    longest = 0
    for row in range(first, last):
        longest = max(longest, cu_seqlens[row + 1] - cu_seqlens[row])
    size = table_size(min(longest, vocabulary_size))
    keys, counts = np.empty(size, dtype=np.int32), np.empty(size, dtype=np.int32)
    for row in range(first, last):
        begin, end = cu_seqlens[row], cu_seqlens[row + 1]
        size = table_size(min(end - begin, vocabulary_size))
        own_keys, own_counts = keys[:size], counts[:size]
        clear_counts(own_keys, own_counts)
        for t in range(begin, end):
            out[t] = np.float32(1) / np.float32(
                count_occurrence(token_ids[t], own_keys, own_counts)
            )
