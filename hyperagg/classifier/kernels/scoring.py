"""Computes the logits of a text classifier from arrays, with compiled kernels.

    s_k  =  sum of w_t e_t over the tokens of block k      c  =  sum_k p_k * s_k / sqrt(sum_t w_t^2)
    z    =  W c + b

w_t is the weight of a token's occurrence and k(t) the block of its position, as in `train_step`,
which trains these parameters.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from hyperagg._numba.cache import njit
from hyperagg._numba.prefetch import prefetch
from hyperagg._numba.threads import even_borders, parts, run
from hyperagg.text import Ragged
from hyperagg.text.scan import find_ids
from hyperagg.text.term_frequency import count_occurrence, table_size

__all__ = [
    "PREFETCH_DISTANCE",
    "ModelArrays",
    "add_tokens",
    "block_end",
    "block_of",
    "logits",
    "logits_of_text",
    "mix",
    "num_blocks_of",
    "scale_of",
    "score",
    "score_sums",
]

_F = np.float32

PREFETCH_DISTANCE = 8  # tokens


class ModelArrays(NamedTuple):
    """The parameters of a classifier, in the order in which the kernels take them.

    Attributes:
        embedding: (V, D) float32.
        positions: (blocks, D) float32.
        weight: (C, D) float32, the weights of the head.
        bias: (C,) float32, its bias.
        harmonic: whether the c-th occurrence of a token in a document has the weight 1/c instead
            of 1.
    """

    embedding: np.ndarray
    positions: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    harmonic: bool


@njit(nogil=True, cache=True, inline="always")
def block_of(position, blocks):
    """Return the block floor(log2(position + 1)) of a position; the last block has no end."""
    k = 0
    rest = position + 1
    while rest > 1 and k < blocks - 1:
        rest >>= 1
        k += 1
    return k


@njit(nogil=True, cache=True, inline="always")
def block_end(k, blocks, end):
    """Return the end of block k in a document of `end` tokens."""
    return end if k == blocks - 1 else min(end, (1 << (k + 1)) - 1)


@njit(nogil=True, cache=True, inline="always")
def num_blocks_of(n, blocks):
    """Return the number of blocks that n tokens occupy."""
    return block_of(n - 1, blocks) + 1 if n else 0


@njit(nogil=True, cache=True, inline="always")
def scale_of(n, squares, harmonic):
    """Return 1 / |w| of n tokens whose squared weights sum to `squares`."""
    if n == 0:
        return 1.0
    return 1 / math.sqrt(squares) if harmonic else 1 / n


@njit(nogil=True, cache=True, inline="always")
def mix(n, squares, harmonic, positions, sums, context):
    """Compute the context from the block sums of n tokens."""
    context[:] = _F(0)
    for k in range(num_blocks_of(n, len(positions))):
        total, factor = sums[k], positions[k]
        for j in range(len(context)):
            context[j] += _F(total[j]) * factor[j]
    scale = _F(scale_of(n, squares, harmonic))
    for j in range(len(context)):
        context[j] *= scale


@njit(nogil=True, cache=True, inline="always")
def score(context, weight, bias, logits):
    """Compute the logits from the context."""
    for c in range(len(logits)):
        row = weight[c]
        total = _F(0)
        for j in range(len(context)):
            total += row[j] * context[j]
        logits[c] = total + bias[c]


def logits(arrays: ModelArrays, rows: Ragged) -> np.ndarray:
    """Return the logits (B, C) float32 of rows of token ids. Cost: O(n D + C D) per row."""
    out = np.empty((len(rows), len(arrays.bias)), dtype=np.float32)
    arguments = rows.token_ids, rows.cu_seqlens, *arrays, out
    threads = parts(len(rows.token_ids) * arrays.positions.shape[1])
    if threads == 1:
        _score_documents(0, len(rows), *arguments)
    else:
        run(_score_documents, even_borders(rows.lengths, threads), *arguments)
    return out


def logits_of_text(
    arrays: ModelArrays, data: np.ndarray, table: np.ndarray, has_ngrams: bool
) -> np.ndarray:
    """Return the logits (1, C) float32 of one text, given as the bytes of `scan.text_to_bytes`.

    They have the same bits as those from token ids. A short text takes less time than the two
    calls of kernels that this replaces by one.
    """
    out = np.empty((1, len(arrays.bias)), dtype=np.float32)
    _score_text(data, table, has_ngrams, *arrays, out)
    return out


@njit(nogil=True, cache=True)
def _score_text(data, table, has_ngrams, embedding, positions, weight, bias, harmonic, out):
    # Constants would have types of their own, and the kernels would be compiled once more.
    first, last, with_owners = np.int64(0), np.int64(1), np.bool_(False)
    boundaries = np.zeros(2, dtype=np.int64)
    boundaries[1] = len(data)
    ids, boundaries, _, _ = find_ids(
        first, last, data, boundaries, table, has_ngrams, np.uint64(0), with_owners
    )
    _score_documents(
        first, last, ids, boundaries, embedding, positions, weight, bias, harmonic, out
    )


@njit(nogil=True, cache=True)
def _score_documents(
    first, last, token_ids, cu_seqlens, embedding, positions, weight, bias, harmonic, out
):
    longest = 0
    for document in range(first, last):
        longest = max(longest, cu_seqlens[document + 1] - cu_seqlens[document])
    size = table_size(min(longest, len(embedding)))
    keys, counts = np.empty(size, dtype=np.int32), np.empty(size, dtype=np.int64)
    # float64 keeps the error small for documents of any length.
    sums, squares = np.empty(positions.shape, dtype=np.float64), np.empty(1, dtype=np.float64)
    for document in range(first, last):
        ids = token_ids[cu_seqlens[document] : cu_seqlens[document + 1]]
        size = table_size(min(len(ids), len(embedding)))
        keys[:size] = -1
        sums[:] = 0.0
        squares[:] = 0.0
        add_tokens(ids, np.int64(0), embedding, harmonic, sums, squares, keys[:size], counts)
        score_sums(sums, squares, len(ids), harmonic, positions, weight, bias, out[document])


@njit(nogil=True, cache=True, fastmath={"contract"})
def add_tokens(ids, position, embedding, harmonic, sums, squares, keys, counts):
    """Add the tokens from `position` on to a document's block sums (blocks, D), to its sum of
    squared weights (1,), and to its counts, a table of `hyperagg.text.term_frequency`."""
    blocks, end = len(sums), position + len(ids)
    first = position
    while position < end:
        k = block_of(position, blocks)
        last = block_end(k, blocks, end)
        total = sums[k]
        for t in range(position - first, last - first):
            if t + PREFETCH_DISTANCE < len(ids):
                prefetch(embedding, ids[t + PREFETCH_DISTANCE])
            w = _F(1) / _F(count_occurrence(ids[t], keys, counts)) if harmonic else _F(1)
            squares[0] += w * w
            row = embedding[ids[t]]
            for j in range(len(total)):
                total[j] += w * row[j]
        position = last


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def score_sums(sums, squares, n, harmonic, positions, weight, bias, out):
    """Compute the logits (C,) of a document of n tokens from its sums."""
    context = np.empty(positions.shape[1], dtype=np.float32)
    mix(n, squares[0], harmonic, positions, sums, context)
    score(context, weight, bias, out)
