"""Numba kernels of the prefix sum without decay, for float32 and bfloat16.

Memory bandwidth limits this scan, so the kernels are written for that. A chunk is summed in float32
and chunks are added in float64, which keeps the accuracy at half the arithmetic. The backward pass
also runs forwards, since processors prefetch rising addresses and not falling ones:

    g_t  =  g_first - sum_{s < t} n_s^-b dy_s

is computed in float64, whose 16 digits leave 7 in the difference. An absent argument is None, for
which Numba compiles a kernel of its own: a kernel for both cases is not vectorized.
"""

from __future__ import annotations

import numpy as np

from hyperagg._numba.cache import njit
from hyperagg._numba.prefetch import prefetch
from hyperagg.ops.cpu.intrinsics import at, narrow, scale_of, stream, widen

__all__ = ["CHUNK_SIZE", "chunk_sums", "prefix_sum", "prefix_sum_backward"]

# Positions per chunk: p and its gradient fit into a second-level cache at D = 256.
CHUNK_SIZE = 256
_PREFETCH_DISTANCE = 1024  # elements


@njit(nogil=True, cache=True, fastmath={"contract"})
def chunk_sums(first, last, v, p, tokens_before, positions, starts, lengths, norm_exponent, total):
    """Add n_t^-norm_exponent v_t * p_t of every chunk to its `total`."""
    d = v.shape[1]
    h = np.empty(d, dtype=np.float32)
    for s in range(first, last):
        start, position, before = starts[s], positions[s], tokens_before[s] + positions[s]
        for begin in range(0, lengths[s], CHUNK_SIZE):
            h[:] = 0
            for t in range(begin, min(lengths[s], begin + CHUNK_SIZE)):
                weight = np.float32(scale_of(before + t + 1, norm_exponent))
                for k in range(d):
                    h[k] += widen(v[start + t, k]) * at(p, position + t, k) * weight
            for k in range(d):
                total[s, k] += h[k]


@njit(nogil=True, cache=True, fastmath={"contract"})
def prefix_sum(
    first,
    last,
    x,
    p,
    initial,
    tokens_before,
    positions,
    starts,
    lengths,
    norm_exponent,
    y,
    streaming,
):
    """Run every chunk from its `initial` sum, and replace that by its last sum."""
    d = x.shape[1]
    initial_sum = np.empty(d, dtype=np.float32)
    h = np.empty(d, dtype=np.float32)
    row = np.empty(d, dtype=y.dtype)
    flat = y.reshape(-1)
    ahead = 1 + _PREFETCH_DISTANCE // (1 + d)
    longest = 0
    for s in range(first, last):
        longest = max(longest, lengths[s])
    # All rows pass a chunk of positions together, so that p stays in the cache.
    for begin in range(0, longest, CHUNK_SIZE):
        for s in range(first, last):
            n, start, position, before = (
                lengths[s],
                starts[s],
                positions[s],
                tokens_before[s] + positions[s],
            )
            if begin >= n:
                continue
            for k in range(d):
                initial_sum[k] = initial[s, k]
                h[k] = 0
            for t in range(begin, min(n, begin + CHUNK_SIZE)):
                weight = np.float32(scale_of(before + t + 1, norm_exponent))
                prefetch(x, start + t + ahead)
                if p is not None:
                    prefetch(p, position + t + ahead)
                for k in range(d):
                    h[k] += widen(x[start + t, k]) * at(p, position + t, k)
                    row[k] = narrow((initial_sum[k] + h[k]) * weight, row)
                if streaming:
                    stream(flat, (start + t) * d, row)
                else:
                    y[start + t] = row
            for k in range(d):
                initial[s, k] += h[k]


@njit(nogil=True, cache=True, fastmath={"contract"})
def prefix_sum_backward(
    first,
    last,
    y_grad,
    x,
    p,
    gradient,
    tokens_before,
    positions,
    starts,
    lengths,
    norm_exponent,
    x_grad,
    p_grad,
    streaming,
):
    """Run every chunk from the `gradient` of its first sum."""
    d = x.shape[1]
    g = np.empty(d, dtype=np.float64)
    row = np.empty(d, dtype=x_grad.dtype)
    flat = x_grad.reshape(-1)
    for s in range(first, last):
        start, position, before = starts[s], positions[s], tokens_before[s] + positions[s]
        g[:] = gradient[s]
        for t in range(lengths[s]):
            weight = scale_of(before + t + 1, norm_exponent) if y_grad is not None else 0.0
            for k in range(d):
                g_t = np.float32(g[k])
                row[k] = narrow(g_t * at(p, position + t, k), row)
                if p is not None:
                    p_grad[position + t, k] += g_t * widen(x[start + t, k])
                g[k] -= at(y_grad, start + t, k) * weight
            if streaming:
                stream(flat, (start + t) * d, row)
            else:
                x_grad[start + t] = row
