"""Learns token vectors from texts without labels.

    X_dv  =  idf_v sum_t w_t / |x_d|      E_v  =  idf_v Q_v / |idf_v Q_v|
    Q     =  an orthonormal basis of the D leading right singular vectors of X, turned at random

The sum is over the occurrences t of token v in text d, the c-th of which has the weight w_t = 1/c,
and |x_d| makes the length of the text irrelevant. Tokens of the same texts have similar vectors
(latent semantic analysis), so what is learned about a token from few labels also holds for the
tokens that accompany it.

The basis is that of a randomized subspace iteration. The singular values are left out: a classifier
needs the rarer contrasts between texts as much as the common ones. The basis is turned, since
otherwise a few channels would have most of the variance, and the rates of the head and of the
positions are per row. All vectors have the same length, because long vectors of frequent tokens
made classifiers worse where labels are many.

Sources: Deerwester et al. 1990, "Indexing by latent semantic analysis"; Halko, Martinsson and Tropp
2011, "Finding structure with randomness".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from hyperagg._numba.cache import njit
from hyperagg._numba.threads import even_borders, parts, run
from hyperagg.text import Ragged, occurrence_weights

__all__ = ["pretrain_vectors"]

_MIN_DOCUMENTS = 3  # of a token
_MAX_TOKENS = 100_000
_ITERATIONS = 4
_ROWS_PER_BLOCK = 4096  # of sums of squares, so that its bits do not depend on the threads
_MIN_PIVOT = 1e-9  # relative to the mean of the diagonal


class _SparseMatrix(NamedTuple):
    """Rows of values and their columns; row i is from boundaries[i] to boundaries[i + 1]."""

    boundaries: np.ndarray
    columns: np.ndarray
    values: np.ndarray


def pretrain_vectors(
    rows: Ragged,
    vocab_size: int,
    d_model: int,
    seed: int,
    report: Callable[[float], object] = lambda fraction: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids of tokens and their vectors, learned from texts without labels.

    These are the 100,000 most frequent tokens of those that at least three texts have, but not
    all. The bits do not depend on the number of threads.

    Args:
        rows: the token ids of each text.
        vocab_size: the number of token ids.
        d_model: the dimension of the vectors.
        seed: determines the vectors.
        report: called with the fraction that is done.

    Returns:
        (K,) int64, ascending, and (K, D) float32, rows of length 1.

    Raises:
        ValueError: there are no such tokens.

    Cost: O(T D) for T tokens, and 16 bytes of memory per token.
    """
    weights = occurrence_weights(rows, vocab_size)
    frequencies = np.bincount(rows.token_ids[weights == 1], minlength=vocab_size)
    ids = np.flatnonzero((frequencies >= _MIN_DOCUMENTS) & (frequencies < len(rows)))
    if not len(ids):
        raise ValueError(
            f"unlabelled: expected texts with common words, but of {len(rows):,} texts no "
            f"{_MIN_DOCUMENTS} share a word that the others lack"
        )
    most_frequent = np.argsort(-frequencies[ids], kind="stable")[:_MAX_TOKENS]
    ids = np.sort(ids[most_frequent])
    idf = np.log(len(rows) / frequencies[ids])
    texts = _weighted(rows, weights, ids, idf, vocab_size)
    tokens = _SparseMatrix(*_transpose(*texts, len(ids)))
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
    basis = rng.standard_normal((len(ids), d_model), dtype=np.float32)
    for iteration in range(_ITERATIONS):
        report((iteration + 0.5) / (_ITERATIONS + 1))
        basis = _orthonormalize(_product(tokens, _product(texts, basis)))
    turn = _orthonormalize(rng.standard_normal((d_model, d_model), dtype=np.float32))
    vectors = _times(basis, turn.astype(np.float64))
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    # Tokens of a text that shares no token with another one may be orthogonal to the basis.
    found = norms[:, 0] > 0
    return ids[found], vectors[found] / norms[found]


def _weighted(
    rows: Ragged, weights: np.ndarray, ids: np.ndarray, idf: np.ndarray, vocab_size: int
) -> _SparseMatrix:
    """Return X with a column for each of these ids; a column may occur several times in a row."""
    columns = np.full(vocab_size, -1, dtype=np.int32)
    columns[ids] = np.arange(len(ids))
    columns = columns[rows.token_ids]
    known = columns >= 0
    before = np.concatenate([[0], np.cumsum(known)])
    columns = columns[known]
    values = weights[known] * idf.astype(np.float32)[columns]
    boundaries = before[rows.cu_seqlens]
    owners = np.repeat(np.arange(len(rows)), np.diff(boundaries))
    squares = np.bincount(owners, values.astype(np.float64) ** 2, minlength=len(rows))
    values /= np.sqrt(squares).astype(np.float32)[owners]
    return _SparseMatrix(boundaries, columns, values)


def _product(matrix: _SparseMatrix, dense: np.ndarray) -> np.ndarray:
    out = np.empty((len(matrix.boundaries) - 1, dense.shape[1]), dtype=np.float32)
    borders = even_borders(np.diff(matrix.boundaries) + 1, parts(len(matrix.values) * len(out[0])))
    run(_multiply, borders, *matrix, dense, out)
    return out


def _orthonormalize(matrix: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis of the columns, by Cholesky QR; dependent ones become 0."""
    rows, width = matrix.shape
    blocks = np.zeros((-(-rows // _ROWS_PER_BLOCK), width, width))
    borders = even_borders(np.ones(len(blocks)), parts(rows * width * width))
    run(_add_squares, borders, matrix, blocks)
    return _times(matrix, _inverse_factor(blocks.sum(0)))


def _times(matrix: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Return matrix @ factor. The bits of BLAS would depend on its number of threads."""
    out = np.empty((len(matrix), factor.shape[1]), dtype=np.float32)
    borders = even_borders(np.ones(len(matrix)), parts(len(matrix) * factor.size))
    run(_multiply_rows, borders, matrix, factor, out)
    return out


@njit(nogil=True, cache=True)
def _transpose(boundaries, columns, values, num_columns):
    """Return the arrays of the transposed matrix; the order within its rows is by column."""
    out_boundaries = np.zeros(num_columns + 1, dtype=np.int64)
    for column in columns:
        out_boundaries[column + 1] += 1
    for column in range(num_columns):
        out_boundaries[column + 1] += out_boundaries[column]
    ends = out_boundaries[:-1].copy()
    out_columns = np.empty(len(columns), dtype=np.int32)
    out_values = np.empty(len(columns), dtype=np.float32)
    for row in range(len(boundaries) - 1):
        for i in range(boundaries[row], boundaries[row + 1]):
            at = ends[columns[i]]
            out_columns[at], out_values[at] = row, values[i]
            ends[columns[i]] = at + 1
    return out_boundaries, out_columns, out_values


@njit(nogil=True, cache=True)
def _multiply(first, last, boundaries, columns, values, dense, out):
    width = dense.shape[1]
    for row in range(first, last):
        total = out[row]
        total[:] = 0
        for i in range(boundaries[row], boundaries[row + 1]):
            value, other = values[i], dense[columns[i]]
            for k in range(width):
                total[k] += value * other[k]


@njit(nogil=True, cache=True)
def _add_squares(first, last, matrix, out):
    width = matrix.shape[1]
    for block in range(first, last):
        total = out[block]
        begin = block * _ROWS_PER_BLOCK
        for row in range(begin, min(begin + _ROWS_PER_BLOCK, len(matrix))):
            values = matrix[row]
            for i in range(width):
                for j in range(i + 1):
                    total[i, j] += np.float64(values[i]) * np.float64(values[j])


@njit(nogil=True, cache=True)
def _multiply_rows(first, last, matrix, factor, out):
    height, width = factor.shape
    total = np.empty(width)
    for row in range(first, last):
        total[:] = 0
        for i in range(height):
            value = np.float64(matrix[row, i])
            for k in range(width):
                total[k] += value * factor[i, k]
        for k in range(width):
            out[row, k] = np.float32(total[k])


@njit(nogil=True, cache=True)
def _inverse_factor(squares):
    """Return the transposed inverse of the Cholesky factor L of a matrix, given its lower half."""
    width = len(squares)
    smallest = _MIN_PIVOT * np.trace(squares) / width
    factor = np.zeros_like(squares)
    inverse = np.zeros_like(squares)  # of the factor
    for j in range(width):
        pivot = squares[j, j]
        for k in range(j):
            pivot -= factor[j, k] * factor[j, k]
        if pivot <= smallest:  # a dependent column: the row of the inverse stays 0
            continue
        factor[j, j] = np.sqrt(pivot)
        for i in range(j + 1, width):
            total = squares[i, j]
            for k in range(j):
                total -= factor[i, k] * factor[j, k]
            factor[i, j] = total / factor[j, j]
        inverse[j, j] = 1 / factor[j, j]
        for i in range(j):
            total = 0.0
            for k in range(i, j):
                total -= factor[j, k] * inverse[k, i]
            inverse[j, i] = total / factor[j, j]
    return np.ascontiguousarray(inverse.T)
