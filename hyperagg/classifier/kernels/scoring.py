"""Logits of an aggregation classifier from arrays, by compiled kernels and without PyTorch.

    s_k  =  sum of w_t e_t over the block's tokens        c  =  sum_k p_k * s_k / sqrt(sum_t w_t^2)
    z    =  W c + b

with w_t the weight of a token's use and k(t) the block of its place, as in `fused_step`, which
learns what is used here.
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
    "AHEAD",
    "Weights",
    "add_tokens",
    "block_end",
    "block_of",
    "blocks_of",
    "logits",
    "logits_of_text",
    "mix",
    "scale_of",
    "score",
    "score_sums",
]

_F = np.float32

AHEAD = 8  # tokens whose rows are on their way while one is added up


class Weights(NamedTuple):
    """What a classifier has learned, in the order in which the kernels take it.

    Attributes:
        embedding: (V, D) float32.
        positions: (blocks, D).
        weight, bias: (C, D) and (C,), the head.
        harmonic: whether the c-th use of a token in a document weighs 1/c, and not 1.
    """

    embedding: np.ndarray
    positions: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    harmonic: bool

    @property
    def tables(self) -> dict[str, np.ndarray]:
        """The arrays, by name."""
        return {name: value for name, value in self._asdict().items() if name != "harmonic"}


@njit(nogil=True, cache=True, inline="always")
def block_of(place, blocks):
    """floor(log2(place + 1)), the last block taking all that is left."""
    k = 0
    rest = place + 1
    while rest > 1 and k < blocks - 1:
        rest >>= 1
        k += 1
    return k


@njit(nogil=True, cache=True, inline="always")
def block_end(k, blocks, end):
    """The place after the last of block k, in a document that ends at place `end`."""
    return end if k == blocks - 1 else min(end, (1 << (k + 1)) - 1)


@njit(nogil=True, cache=True, inline="always")
def blocks_of(n, blocks):
    """How many blocks n tokens fill or begin."""
    return block_of(n - 1, blocks) + 1 if n else 0


@njit(nogil=True, cache=True, inline="always")
def scale_of(n, squares, harmonic):
    """1 / |w| of n tokens whose weights have this sum of squares."""
    if n == 0:
        return 1.0
    return 1 / math.sqrt(squares) if harmonic else 1 / n


@njit(nogil=True, cache=True, inline="always")
def mix(n, squares, harmonic, positions, sums, context):
    """Fills the context from the block sums of n tokens."""
    context[:] = _F(0)
    for k in range(blocks_of(n, len(positions))):
        total, place = sums[k], positions[k]
        for j in range(len(context)):
            context[j] += _F(total[j]) * place[j]
    scale = _F(scale_of(n, squares, harmonic))
    for j in range(len(context)):
        context[j] *= scale


@njit(nogil=True, cache=True, inline="always")
def score(context, weight, bias, logits):
    for c in range(len(logits)):
        row = weight[c]
        total = _F(0)
        for j in range(len(context)):
            total += row[j] * context[j]
        logits[c] = total + bias[c]


def logits(weights: Weights, rows: Ragged) -> np.ndarray:
    """(B, C) float32, as the PyTorch module gives them but for rounding. Cost: O(n D + C D)."""
    out = np.empty((len(rows), len(weights.bias)), dtype=np.float32)
    arguments = rows.token_ids, rows.cu_seqlens, *weights, out
    threads = parts(len(rows.token_ids) * weights.positions.shape[1])
    if threads == 1:
        _score_documents(0, len(rows), *arguments)
    else:
        run(_score_documents, even_borders(rows.lengths, threads), *arguments)
    return out


def logits_of_text(
    weights: Weights, data: np.ndarray, table: np.ndarray, grams: bool
) -> np.ndarray:
    """(1, C) float32 of a text, given as `scan.text_to_bytes` it: the same as from its ids.

    Of a short text most is the way from Python to a kernel and back, which is here gone once.
    """
    out = np.empty((1, len(weights.bias)), dtype=np.float32)
    _score_text(data, table, grams, *weights, out)
    return out


@njit(nogil=True, cache=True)
def _score_text(data, table, grams, embedding, positions, weight, bias, harmonic, out):
    # Constants would have types of their own, and the kernels would be compiled once more.
    first, last, with_owners = np.int64(0), np.int64(1), np.bool_(False)
    borders = np.zeros(2, dtype=np.int64)
    borders[1] = len(data)
    ids, borders, _, _ = find_ids(
        first, last, data, borders, table, grams, np.uint64(0), with_owners
    )
    _score_documents(first, last, ids, borders, embedding, positions, weight, bias, harmonic, out)


@njit(nogil=True, cache=True)
def _score_documents(
    first, last, token_ids, cu_seqlens, embedding, positions, weight, bias, harmonic, out
):
    most = 0
    for document in range(first, last):
        most = max(most, cu_seqlens[document + 1] - cu_seqlens[document])
    size = table_size(min(most, len(embedding)))
    keys, counts = np.empty(size, dtype=np.int32), np.empty(size, dtype=np.int64)
    # In float64, so that a document may be of any length.
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
def add_tokens(ids, place, embedding, harmonic, sums, squares, keys, counts):
    """Adds tokens that stand from `place` on to a document's block sums (blocks, D), squared
    weights (1,) and uses, a table of `hyperagg.text.term_frequency`."""
    blocks, end = len(sums), place + len(ids)
    first = place
    while place < end:
        k = block_of(place, blocks)
        last = block_end(k, blocks, end)
        total = sums[k]
        for t in range(place - first, last - first):
            if t + AHEAD < len(ids):
                prefetch(embedding, ids[t + AHEAD])
            w = _F(1) / _F(count_occurrence(ids[t], keys, counts)) if harmonic else _F(1)
            squares[0] += w * w
            row = embedding[ids[t]]
            for j in range(len(total)):
                total[j] += w * row[j]
        place = last


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def score_sums(sums, squares, n, harmonic, positions, weight, bias, out):
    """Logits (C,) of a document of n tokens from its block sums and squared weights."""
    context = np.empty(positions.shape[1], dtype=np.float32)
    mix(n, squares[0], harmonic, positions, sums, context)
    score(context, weight, bias, out)
