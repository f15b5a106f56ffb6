"""Numba kernels of the running sum in which nothing fades, for float32 and bfloat16.

Here a scan is nothing but traffic, so these are written for that. A stretch is summed in float32
and stretches in float64, which costs no digits and half the arithmetic. Backward goes forwards
too, since processors fetch ahead of rising addresses and not of falling ones:

    g_t  =  g_first - sum_{s < t} n_s^-power dy_s

is taken in float64, whose sixteen digits leave the difference its seven. What is absent comes as
None, for which Numba compiles a kernel of its own: with both cases in one, neither is vectorised.
"""

from __future__ import annotations

import numpy as np

from hyperagg._numba.cache import njit
from hyperagg._numba.prefetch import prefetch
from hyperagg.ops.cpu.intrinsics import at, narrow, scale_of, stream, widen

__all__ = ["STRETCH", "running_sum", "running_sum_backward", "sums"]

# Places in a stretch: its p and the gradient of its p fit into a second-level cache at D = 256.
STRETCH = 256
_AHEAD = 1024  # numbers


@njit(nogil=True, cache=True, fastmath={"contract"})
def sums(first, last, v, p, before, places, starts, lengths, power, total):
    """Adds every stretch's n_t^-power v_t * p_t to its `total`."""
    d = v.shape[1]
    h = np.empty(d, dtype=np.float32)
    for s in range(first, last):
        start, place, seen = starts[s], places[s], before[s] + places[s]
        for begin in range(0, lengths[s], STRETCH):
            h[:] = 0
            for t in range(begin, min(lengths[s], begin + STRETCH)):
                weight = np.float32(scale_of(seen + t + 1, power))
                for k in range(d):
                    h[k] += widen(v[start + t, k]) * at(p, place + t, k) * weight
            for k in range(d):
                total[s, k] += h[k]


@njit(nogil=True, cache=True, fastmath={"contract"})
def running_sum(first, last, x, p, initial, before, places, starts, lengths, power, y, streaming):
    """Runs every stretch from its `initial`, in which it leaves its last sum."""
    d = x.shape[1]
    earlier = np.empty(d, dtype=np.float32)
    h = np.empty(d, dtype=np.float32)
    row = np.empty(d, dtype=y.dtype)
    flat = y.reshape(-1)
    ahead = 1 + _AHEAD // (1 + d)
    longest = 0
    for s in range(first, last):
        longest = max(longest, lengths[s])
    # Whole rows go through the places together, so that p is still in the cache for the next row.
    for begin in range(0, longest, STRETCH):
        for s in range(first, last):
            n, start, place, seen = lengths[s], starts[s], places[s], before[s] + places[s]
            if begin >= n:
                continue
            for k in range(d):
                earlier[k] = initial[s, k]
                h[k] = 0
            for t in range(begin, min(n, begin + STRETCH)):
                weight = np.float32(scale_of(seen + t + 1, power))
                prefetch(x, start + t + ahead)
                if p is not None:
                    prefetch(p, place + t + ahead)
                for k in range(d):
                    h[k] += widen(x[start + t, k]) * at(p, place + t, k)
                    row[k] = narrow((earlier[k] + h[k]) * weight, row)
                if streaming:
                    stream(flat, (start + t) * d, row)
                else:
                    y[start + t] = row
            for k in range(d):
                initial[s, k] += h[k]


@njit(nogil=True, cache=True, fastmath={"contract"})
def running_sum_backward(
    first,
    last,
    y_grad,
    x,
    p,
    gradient,
    before,
    places,
    starts,
    lengths,
    power,
    x_grad,
    p_grad,
    streaming,
):
    """Runs every stretch from the `gradient` of its first sum."""
    d = x.shape[1]
    g = np.empty(d, dtype=np.float64)
    row = np.empty(d, dtype=x_grad.dtype)
    flat = x_grad.reshape(-1)
    for s in range(first, last):
        start, place, seen = starts[s], places[s], before[s] + places[s]
        g[:] = gradient[s]
        for t in range(lengths[s]):
            weight = scale_of(seen + t + 1, power) if y_grad is not None else 0.0
            for k in range(d):
                here = np.float32(g[k])
                row[k] = narrow(here * at(p, place + t, k), row)
                if p is not None:
                    p_grad[place + t, k] += here * widen(x[start + t, k])
                g[k] -= at(y_grad, start + t, k) * weight
            if streaming:
                stream(flat, (start + t) * d, row)
            else:
                x_grad[start + t] = row
