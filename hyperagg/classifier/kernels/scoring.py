"""Computes the logits of a text classifier from arrays, with compiled kernels.

    s_k  =  sum of w_t e_t over the tokens of block k      c  =  sum_k p_k * s_k / sqrt(sum_t w_t^2)
    z    =  W c + b

w_t is the weight of a token's occurrence and k(t) the block of its position, as in `train_step`,
which trains these parameters.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import carray, types
from numba.extending import intrinsic

from hyperagg._numba.cache import njit
from hyperagg._numba.prefetch import prefetch
from hyperagg._numba.threads import even_borders, parts, run
from hyperagg.text import Ragged
from hyperagg.text.scan import find_ids
from hyperagg.text.term_frequency import clear_counts, count_occurrence, table_size

__all__ = [
    "PREFETCH_DISTANCE",
    "ModelArrays",
    "TextScorer",
    "add_tokens",
    "block_end",
    "block_of",
    "logits",
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


class TextScorer:
    """Computes the logits of single texts, in one call of a kernel.

    Taking an array costs a kernel about as much time as a word of the text. This one takes the
    addresses of the parameters, so it is for arrays of one memory layout and keeps them alive.

    Args:
        arrays: the parameters; `supports(arrays)` must be true.
    """

    def __init__(self, arrays: ModelArrays) -> None:
        self.arrays = arrays
        pointers = (array.ctypes.data for array in arrays[:4])
        self._num_classes = len(arrays.bias)
        self._parameters = np.array(
            [
                *pointers,
                *arrays.embedding.shape,
                len(arrays.positions),
                self._num_classes,
                arrays.harmonic,
            ],
            dtype=np.int64,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return TextScorer, (self.arrays,)  # a copy has arrays at other addresses

    @staticmethod
    def supports(arrays: ModelArrays) -> bool:
        """Return whether the arrays have the types and the memory layout that the kernel reads."""
        return all(
            array.dtype == np.float32 and array.flags.c_contiguous and array.flags.aligned
            for array in arrays[:4]
        )

    def __call__(
        self, data: np.ndarray, table: np.ndarray, features: int
    ) -> tuple[np.ndarray, int]:
        """Return the logits (1, C) float32 of a text, and the class with the greatest one.

        They have the same bits as those from token ids.

        Args:
            data: the bytes of the text, from `normalization.text_to_bytes`.
            table, features: the vocabulary, as in `scan.look_up`.
        """
        out = np.empty((1, self._num_classes), dtype=np.float32)
        return out, _score_text(data, table, features, self._parameters, out)


@intrinsic
def _pointer(_: Any, address: Any) -> Any:
    """The pointer to an address."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(types.voidptr))

    return types.voidptr(address), generate


@njit(nogil=True, cache=True)
def _score_text(data, table, features, parameters, out):
    vocab_size, d, blocks, classes = parameters[4], parameters[5], parameters[6], parameters[7]
    embedding = carray(_pointer(parameters[0]), (vocab_size, d), _F)
    positions = carray(_pointer(parameters[1]), (blocks, d), _F)
    weight = carray(_pointer(parameters[2]), (classes, d), _F)
    bias = carray(_pointer(parameters[3]), (classes,), _F)
    # Constants would have types of their own, and the kernels would be compiled once more.
    first, last, with_owners = np.int64(0), np.int64(1), np.bool_(False)
    boundaries = np.zeros(2, dtype=np.int64)
    boundaries[1] = len(data)
    context = np.zeros(4, dtype=np.uint64)
    ids, boundaries, _ = find_ids(
        first, last, data, boundaries, table, features, context, with_owners
    )
    harmonic = np.bool_(parameters[8] != 0)
    _score_documents(
        first, last, ids, boundaries, embedding, positions, weight, bias, harmonic, out
    )
    # As np.argmax: the first of the greatest, where NaN is greater than any number.
    best = 0
    for c in range(1, classes):
        if out[0, c] > out[0, best] or (np.isnan(out[0, c]) and not np.isnan(out[0, best])):
            best = c
    return best


@njit(nogil=True, cache=True)
def _score_documents(
    first, last, token_ids, cu_seqlens, embedding, positions, weight, bias, harmonic, out
):
    longest = 0
    for document in range(first, last):
        longest = max(longest, cu_seqlens[document + 1] - cu_seqlens[document])
    size = table_size(min(longest, len(embedding)))
    keys, counts = np.empty(size, dtype=np.int32), np.empty(size, dtype=np.int32)
    # float64 keeps the error small for documents of any length.
    sums, squares = np.empty(positions.shape, dtype=np.float64), np.empty(1, dtype=np.float64)
    for document in range(first, last):
        ids = token_ids[cu_seqlens[document] : cu_seqlens[document + 1]]
        size = table_size(min(len(ids), len(embedding)))
        own_keys, own_counts = keys[:size], counts[:size]
        clear_counts(own_keys, own_counts)
        sums[:] = 0.0
        squares[:] = 0.0
        add_tokens(ids, np.int64(0), embedding, harmonic, sums, squares, own_keys, own_counts)
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
