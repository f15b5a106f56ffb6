"""Numba kernels of sums straight from token ids: no (B, N, D) tensor is ever made."""

from __future__ import annotations

import numpy as np
from numba import njit

from hyperagg.ops.threads import even_borders, parts, run

__all__ = ["aggregate_tokens", "aggregate_tokens_backward"]


def aggregate_tokens(
    token_ids: np.ndarray,
    embedding: np.ndarray,
    starts: np.ndarray,
    lengths: np.ndarray,
    p: np.ndarray,
    position_ids: np.ndarray,
    scale: np.ndarray,
) -> np.ndarray:
    """c_b = scale_b sum_t embedding[token_ids[starts_b + t]] * p[position_ids[t]]; (B, D).

    Numerics: products and sums in the type of `embedding`, in order of t.
    Cost: reads each used row once, O(n d); makes no (B, N, D) intermediate.
    """
    out = np.zeros((len(starts), embedding.shape[1]), dtype=embedding.dtype)
    work = int(lengths.sum()) * embedding.shape[1]
    borders = even_borders(lengths, parts(work))
    run(_forward, borders, token_ids, embedding, starts, lengths, p, position_ids, scale, out)
    return out


def aggregate_tokens_backward(
    grad: np.ndarray,
    token_ids: np.ndarray,
    embedding: np.ndarray,
    starts: np.ndarray,
    lengths: np.ndarray,
    p: np.ndarray,
    position_ids: np.ndarray,
    scale: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients of `aggregate_tokens`: the rows used (U,), their gradients (U, D), and p's (P, D).

    A row's tokens are brought together by a stable sort and summed by one thread.
    """
    total, d = int(lengths.sum()), embedding.shape[1]
    documents = np.repeat(np.arange(len(starts)), lengths)
    within = np.arange(total) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    ids = token_ids[starts[documents] + within]
    places = position_ids[within] if len(position_ids) else within
    grad = grad * scale[:, None]

    # NumPy sorts numbers of 16 bits by their digits, in a tenth of the time.
    few = len(embedding) <= 1 << 16
    order = np.argsort(ids.astype(np.uint16) if few else ids, kind="stable")
    sorted_ids = ids[order]
    first = np.flatnonzero(np.diff(sorted_ids, prepend=-1))
    rows, group_borders = sorted_ids[first], np.append(first, total)
    row_grads = np.zeros((len(rows), d), dtype=embedding.dtype)
    borders = even_borders(np.diff(group_borders), parts(total * d))
    run(_backward_rows, borders, grad, documents, places, order, group_borders, p, row_grads)

    p_grad = np.zeros_like(p)
    if len(p):
        chunks = np.linspace(0, d, min(d, parts(total * d)) + 1).astype(np.int64)
        run(_backward_positions, chunks, grad, documents, places, ids, embedding, p_grad)
    return rows, row_grads, p_grad


@njit(nogil=True, cache=True)
def _forward(begin, end, token_ids, embedding, starts, lengths, p, position_ids, scale, out):
    d = embedding.shape[1]
    for b in range(begin, end):
        context = out[b]
        for t in range(lengths[b]):
            row = embedding[token_ids[starts[b] + t]]
            if len(p) == 0:
                for k in range(d):
                    context[k] += row[k]
            else:
                place = p[position_ids[t]] if len(position_ids) else p[t]
                for k in range(d):
                    context[k] += row[k] * place[k]
        for k in range(d):
            context[k] *= scale[b]


@njit(nogil=True, cache=True)
def _backward_rows(begin, end, grad, documents, places, order, group_borders, p, row_grads):
    d = grad.shape[1]
    for u in range(begin, end):
        out = row_grads[u]
        for i in range(group_borders[u], group_borders[u + 1]):
            g = grad[documents[order[i]]]
            if len(p) == 0:
                for k in range(d):
                    out[k] += g[k]
            else:
                place = p[places[order[i]]]
                for k in range(d):
                    out[k] += g[k] * place[k]


@njit(nogil=True, cache=True, fastmath={"contract"})
def _backward_positions(begin, end, grad, documents, places, ids, embedding, p_grad):
    # Summed in memory of the kernel's own: what could overlap its inputs is not vectorised.
    total = np.zeros((len(p_grad), end - begin), dtype=p_grad.dtype)
    for i in range(len(ids)):
        g, row = grad[documents[i], begin:end], embedding[ids[i], begin:end]
        out = total[places[i]]
        for k in range(len(out)):
            out[k] += g[k] * row[k]
    p_grad[:, begin:end] = total
