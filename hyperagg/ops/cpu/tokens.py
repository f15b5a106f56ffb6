"""Numba kernels of pooled sums directly from token ids, without a (B, N, D) tensor."""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import overload

from hyperagg._numba.cache import njit
from hyperagg._numba.prefetch import prefetch
from hyperagg._numba.threads import even_borders, parts, run_on_team
from hyperagg.ops.cpu.intrinsics import at

__all__ = ["aggregate_tokens", "aggregate_tokens_backward"]


def aggregate_tokens(
    token_ids: np.ndarray,
    embedding: np.ndarray,
    starts: np.ndarray,
    lengths: np.ndarray,
    p: np.ndarray | None,
    position_ids: np.ndarray | None,
    weights: np.ndarray | None,
    scale: np.ndarray,
) -> np.ndarray:
    """Return c_b = scale_b sum_t w_s embedding[token_ids_s] * p[position_ids_t], s = starts_b + t.

    Numerics: products and sums in the type of `embedding`, in the order of t.
    Cost: O(n d); reads the embedding row of each token once.
    """
    out = np.zeros((len(starts), embedding.shape[1]), dtype=embedding.dtype)
    work = int(lengths.sum()) * embedding.shape[1]
    ranges = even_borders(lengths, parts(work))
    inputs = token_ids, embedding, starts, lengths, p, position_ids, weights, scale
    run_on_team(_forward, ranges, *inputs, out)
    return out


def aggregate_tokens_backward(
    grad: np.ndarray,
    token_ids: np.ndarray,
    embedding: np.ndarray,
    starts: np.ndarray,
    lengths: np.ndarray,
    p: np.ndarray | None,
    position_ids: np.ndarray | None,
    weights: np.ndarray | None,
    scale: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the ids that occur (U,), the gradients of their rows (U, D), and that of p (P, D).

    A stable sort brings the occurrences of an id together, and one thread sums them.
    """
    total, d = int(lengths.sum()), embedding.shape[1]
    token_rows = np.repeat(np.arange(len(starts)), lengths)
    position_in_row = np.arange(total) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    flat = starts[token_rows] + position_in_row
    ids = token_ids[flat]
    token_weights = None if weights is None else weights[flat]
    positions = position_in_row if position_ids is None else position_ids[position_in_row]
    grad = grad * scale[:, None]

    # NumPy has a radix sort for 16 bits, which takes a tenth of the time.
    fits_16_bits = len(embedding) <= 1 << 16
    order = np.argsort(ids.astype(np.uint16) if fits_16_bits else ids, kind="stable")
    sorted_ids = ids[order]
    first = np.flatnonzero(np.diff(sorted_ids, prepend=-1))
    row_ids, group_bounds = sorted_ids[first], np.append(first, total)
    row_grads = np.zeros((len(row_ids), d), dtype=embedding.dtype)
    ranges = even_borders(np.diff(group_bounds), parts(total * d))
    run_on_team(
        _backward_rows,
        ranges,
        grad,
        token_rows,
        positions,
        order,
        group_bounds,
        p,
        token_weights,
        row_grads,
    )

    p_grad = np.zeros((0, d) if p is None else p.shape, dtype=embedding.dtype)
    if p is not None:
        channel_ranges = np.linspace(0, d, min(d, parts(total * d)) + 1).astype(np.int64)
        run_on_team(
            _backward_positions,
            channel_ranges,
            grad,
            token_rows,
            positions,
            ids,
            embedding,
            token_weights,
            p_grad,
        )
    return row_ids, row_grads, p_grad


def _position(position_ids, t):  # pragma: no cover
    raise NotImplementedError


@overload(_position, inline="always")
def _(position_ids, t):
    if isinstance(position_ids, types.NoneType):
        return lambda position_ids, t: t
    return lambda position_ids, t: position_ids[t]


def _weight(weights, t):  # pragma: no cover
    raise NotImplementedError


@overload(_weight, inline="always")
def _(weights, t):
    if isinstance(weights, types.NoneType):
        return lambda weights, t: np.float32(1)
    return lambda weights, t: weights[t]


@njit(nogil=True, cache=True, fastmath={"contract"})
def _forward(
    begin, end, token_ids, embedding, starts, lengths, p, position_ids, weights, scale, out
):
    d = embedding.shape[1]
    h = np.empty(d, dtype=embedding.dtype)
    for b in range(begin, end):
        h[:] = 0
        s, n = starts[b], lengths[b]
        ids = token_ids[s : s + n]
        # Four tokens at a time, in their order, so that h is read and written once for them.
        for t in range(0, n - 3, 4):
            for later in range(t + 4, min(t + 8, n)):
                prefetch(embedding, ids[later])
            i0, i1, i2, i3 = ids[t], ids[t + 1], ids[t + 2], ids[t + 3]
            p0, p1 = _position(position_ids, t), _position(position_ids, t + 1)
            p2, p3 = _position(position_ids, t + 2), _position(position_ids, t + 3)
            w0, w1 = _weight(weights, s + t), _weight(weights, s + t + 1)
            w2, w3 = _weight(weights, s + t + 2), _weight(weights, s + t + 3)
            for k in range(d):
                h[k] = (
                    h[k]
                    + embedding[i0, k] * at(p, p0, k) * w0
                    + embedding[i1, k] * at(p, p1, k) * w1
                    + embedding[i2, k] * at(p, p2, k) * w2
                    + embedding[i3, k] * at(p, p3, k) * w3
                )
        for t in range(n - n % 4, n):
            position, w = _position(position_ids, t), _weight(weights, s + t)
            for k in range(d):
                h[k] += embedding[ids[t], k] * at(p, position, k) * w
        for k in range(d):
            out[b, k] = h[k] * scale[b]


@njit(nogil=True, cache=True, fastmath={"contract"})
def _backward_rows(
    begin, end, grad, token_rows, positions, order, group_bounds, p, weights, row_grads
):
    d = grad.shape[1]
    total = np.empty(d, dtype=row_grads.dtype)
    for u in range(begin, end):
        total[:] = 0
        for i in range(group_bounds[u], group_bounds[u + 1]):
            t = order[i]
            row, position, w = token_rows[t], positions[t], _weight(weights, t)
            for k in range(d):
                total[k] += grad[row, k] * at(p, position, k) * w
        row_grads[u] = total


@njit(nogil=True, cache=True, fastmath={"contract"})
def _backward_positions(begin, end, grad, token_rows, positions, ids, embedding, weights, p_grad):
    # A buffer of the kernel cannot overlap its inputs, so the loop is vectorized.
    total = np.zeros((len(p_grad), end - begin), dtype=p_grad.dtype)
    for i in range(len(ids)):
        g, row = grad[token_rows[i], begin:end], embedding[ids[i], begin:end]
        out, w = total[positions[i]], _weight(weights, i)
        for k in range(len(out)):
            out[k] += g[k] * row[k] * w
    p_grad[:, begin:end] = total
