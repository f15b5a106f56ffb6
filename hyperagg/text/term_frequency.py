"""How much each use of a token counts: the c-th use in a text counts 1/c.

A text that says a word ten times is not ten times as much about it. The uses of a token together
count 1 + 1/2 + ... + 1/c, about the logarithm of c, and yet each is known as it is read.

The uses so far are kept in an open-addressing table of two arrays, as long as a power of two.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from hyperagg.text.ragged import Ragged

__all__ = ["count_use", "forget_uses", "new_counts", "occurrence_weights", "table_size"]

_EMPTY = np.int32(-1)
_MIXER = np.uint32(2654435769)  # 2^32 / golden ratio: neighbouring ids fall far apart


def occurrence_weights(rows: Ragged, vocabulary: int) -> np.ndarray:
    """(T,) float32: 1 for the first use of an id in its row, 1/2 for the second ... Cost: O(T).

    `vocabulary` is how many ids there are.
    """
    out = np.empty(len(rows.token_ids), dtype=np.float32)
    keys, counts = new_counts(min(vocabulary, int(rows.lengths.max(initial=0))))
    _fill(rows.token_ids, rows.cu_seqlens, vocabulary, keys, counts, out)
    return out


def new_counts(distinct: int) -> tuple[np.ndarray, np.ndarray]:
    """An empty table that has room for so many ids."""
    size = table_size(distinct)
    return np.full(size, _EMPTY), np.zeros(size, dtype=np.int64)


@njit(nogil=True, cache=True)
def table_size(distinct):
    """The least power of two that is at least twice `distinct`, and at least 16."""
    size = 16
    while size < 2 * distinct:
        size *= 2
    return size


@njit(nogil=True, cache=True, inline="always")
def count_use(token, keys, counts):
    """Counts one more use of a token; returns how many there were with it."""
    slot = _slot(token, keys)
    if keys[slot] == _EMPTY:
        keys[slot] = token
        counts[slot] = 0
    counts[slot] += 1
    return counts[slot]


@njit(nogil=True, cache=True)
def forget_uses(token_ids, keys, counts):
    """Takes back the count of one use of each of these tokens."""
    for token in token_ids:
        counts[_slot(token, keys)] -= 1


@njit(nogil=True, cache=True, inline="always")
def _slot(token, keys):
    """Where a token is counted, or the empty place where it would be."""
    last = np.uint32(len(keys) - 1)
    # The high bits of the product are the mixed ones.
    slot = ((np.uint32(token) * _MIXER) >> np.uint32(7)) & last
    while keys[slot] != token and keys[slot] != _EMPTY:
        slot = (slot + np.uint32(1)) & last
    return slot


@njit(nogil=True, cache=True)
def _fill(token_ids, cu_seqlens, vocabulary, keys, counts, out):
    for row in range(len(cu_seqlens) - 1):
        begin, end = cu_seqlens[row], cu_seqlens[row + 1]
        size = table_size(min(vocabulary, end - begin))
        keys[:size] = _EMPTY
        for t in range(begin, end):
            out[t] = np.float32(1) / np.float32(count_use(token_ids[t], keys[:size], counts))
