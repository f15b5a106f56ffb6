"""Numba kernels of sums straight from token ids: no (B, N, D) tensor is ever made."""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import overload

from hyperagg._numba.cache import njit
from hyperagg._numba.prefetch import prefetch
from hyperagg._numba.threads import even_borders, parts, run
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
    """c_b = scale_b sum_t w_s embedding[token_ids_s] * p[position_ids_t], s = starts_b + t; (B, D).

    Numerics: products and sums in the type of `embedding`, in order of t.
    Cost: reads each used row once, O(n d); makes no (B, N, D) intermediate.
    """
    out = np.zeros((len(starts), embedding.shape[1]), dtype=embedding.dtype)
    work = int(lengths.sum()) * embedding.shape[1]
    borders = even_borders(lengths, parts(work))
    inputs = token_ids, embedding, starts, lengths, p, position_ids, weights, scale
    run(_forward, borders, *inputs, out)
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
    """Gradients of `aggregate_tokens`: the rows used (U,), their gradients (U, D), and p's (P, D).

    A row's tokens are brought together by a stable sort and summed by one thread.
    """
    total, d = int(lengths.sum()), embedding.shape[1]
    documents = np.repeat(np.arange(len(starts)), lengths)
    within = np.arange(total) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    flat = starts[documents] + within
    ids = token_ids[flat]
    token_weights = None if weights is None else weights[flat]
    places = within if position_ids is None else position_ids[within]
    grad = grad * scale[:, None]

    # NumPy sorts numbers of 16 bits by their digits, in a tenth of the time.
    few = len(embedding) <= 1 << 16
    order = np.argsort(ids.astype(np.uint16) if few else ids, kind="stable")
    sorted_ids = ids[order]
    first = np.flatnonzero(np.diff(sorted_ids, prepend=-1))
    rows, group_borders = sorted_ids[first], np.append(first, total)
    row_grads = np.zeros((len(rows), d), dtype=embedding.dtype)
    borders = even_borders(np.diff(group_borders), parts(total * d))
    run(
        _backward_rows,
        borders,
        grad,
        documents,
        places,
        order,
        group_borders,
        p,
        token_weights,
        row_grads,
    )

    p_grad = np.zeros((0, d) if p is None else p.shape, dtype=embedding.dtype)
    if p is not None:
        chunks = np.linspace(0, d, min(d, parts(total * d)) + 1).astype(np.int64)
        run(
            _backward_positions,
            chunks,
            grad,
            documents,
            places,
            ids,
            embedding,
            token_weights,
            p_grad,
        )
    return rows, row_grads, p_grad


def _place(position_ids, t):  # pragma: no cover
    raise NotImplementedError


@overload(_place, inline="always")
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
        # Four tokens at a time, in their order: h is read and written once for them.
        for t in range(0, n - 3, 4):
            for later in range(t + 4, min(t + 8, n)):
                prefetch(embedding, ids[later])
            i0, i1, i2, i3 = ids[t], ids[t + 1], ids[t + 2], ids[t + 3]
            p0, p1 = _place(position_ids, t), _place(position_ids, t + 1)
            p2, p3 = _place(position_ids, t + 2), _place(position_ids, t + 3)
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
            place, w = _place(position_ids, t), _weight(weights, s + t)
            for k in range(d):
                h[k] += embedding[ids[t], k] * at(p, place, k) * w
        for k in range(d):
            out[b, k] = h[k] * scale[b]


@njit(nogil=True, cache=True, fastmath={"contract"})
def _backward_rows(
    begin, end, grad, documents, places, order, group_borders, p, weights, row_grads
):
    d = grad.shape[1]
    total = np.empty(d, dtype=row_grads.dtype)
    for u in range(begin, end):
        total[:] = 0
        for i in range(group_borders[u], group_borders[u + 1]):
            t = order[i]
            document, place, w = documents[t], places[t], _weight(weights, t)
            for k in range(d):
                total[k] += grad[document, k] * at(p, place, k) * w
        row_grads[u] = total


@njit(nogil=True, cache=True, fastmath={"contract"})
def _backward_positions(begin, end, grad, documents, places, ids, embedding, weights, p_grad):
    # Summed in memory of the kernel's own: what could overlap its inputs is not vectorised.
    total = np.zeros((len(p_grad), end - begin), dtype=p_grad.dtype)
    for i in range(len(ids)):
        g, row = grad[documents[i], begin:end], embedding[ids[i], begin:end]
        out, w = total[places[i]], _weight(weights, i)
        for k in range(len(out)):
            out[k] += g[k] * row[k] * w
    p_grad[:, begin:end] = total
