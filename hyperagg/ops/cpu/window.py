"""Numba kernels of the sum over the newest places.

    y_i  =  n_i^-power sum_{t = i - n_i + 1}^{i} x_t * p_t        n_i  =  min(size, i + 1)

Its backward pass is its transpose, and then the gradients of the products by themselves.
"""

from __future__ import annotations

import numpy as np

from hyperagg._numba.cache import njit
from hyperagg._numba.threads import run
from hyperagg.ops.cpu.chunking import cut_rows, shares, shares_of_places
from hyperagg.ops.cpu.intrinsics import at, narrow, scale_of, widen
from hyperagg.ops.cpu.prefix_sum import STRETCH

__all__ = ["multiply_backward", "window"]

_A = np.ndarray


def window(
    v: _A,
    p: _A | None,
    before: _A,
    starts: _A,
    lengths: _A,
    size: int,
    power: float,
    y: _A,
    backward: bool,
) -> None:
    """y_i = n_i^-power sum of v_t * p_t over the `size` newest places, n_i = min(size, i + 1).

    `backward` is its transpose: y_t = sum of n_i^-power v_i over the `size` places from t on; p
    must then be absent. y is float32 or float64; blocks of `size` places are summed from both
    ends, so nothing cancels. Cost: reads v twice and writes y twice.
    """
    blocks = cut_rows(starts, lengths, size * max(1, STRETCH // size))
    row = blocks.row
    run(
        _window,
        shares(blocks.length, v.shape[1]),
        *(v, p, before[row], starts[row], lengths[row], blocks.place, blocks.length),
        *(size, power, y, backward),
    )


def multiply_backward(
    v_grad: _A, x: _A, p: _A, starts: _A, lengths: _A, x_grad: _A, p_grad: _A
) -> None:
    """Fills the gradients of x_t * p_t by themselves."""
    stretches = cut_rows(starts, lengths, STRETCH)
    run(
        _multiply_backward,
        shares_of_places(stretches, x.shape[1]),
        *(v_grad, x, p, *stretches[1:], x_grad, p_grad),
    )


@njit(nogil=True, cache=True, fastmath={"contract"})
def _multiply_backward(first, last, v_grad, x, p, places, starts, lengths, x_grad, p_grad):
    for s in range(first, last):
        for t in range(lengths[s]):
            token, place = starts[s] + t, places[s] + t
            for k in range(x.shape[1]):
                x_grad[token, k] = narrow(v_grad[token, k] * p[place, k], x_grad)
                p_grad[place, k] += v_grad[token, k] * widen(x[token, k])


@njit(nogil=True, cache=True, fastmath={"contract"})
def _window(first, last, v, p, before, starts, lengths, places, counts, size, power, y, backward):
    h = np.empty(v.shape[1], dtype=np.float64)
    for s in range(first, last):
        n, start = lengths[s], starts[s]
        # Backward is the same from the other end: place t stands at `end + sign t`.
        end, sign = (start + n - 1, -1) if backward else (start, 1)
        weight, scale = 1.0, 1.0
        for block in range(places[s], places[s] + counts[s], size):
            # What a window takes of the block before is summed from that block's end and waits
            # in y, at the place whose window begins there.
            h[:] = 0.0
            for t in range(block - 1, max(block - size, -1), -1):
                if backward:
                    weight = scale_of(min(size, before[s] + n - t), power)
                for k in range(len(h)):
                    h[k] += at(v, end + sign * t, k) * at(p, t, k) * weight
                if t + size - 1 < n:
                    out = y[end + sign * (t + size - 1)]
                    for k in range(len(h)):
                        out[k] = h[k]
            h[:] = 0.0
            for t in range(block, min(block + size, n)):
                if backward:
                    weight = scale_of(min(size, before[s] + n - t), power)
                else:
                    scale = scale_of(min(size, before[s] + t + 1), power)
                # The others find nothing waiting in y, but what memory held before.
                waiting = block > 0 and t < block + size - 1
                out = y[end + sign * t]
                for k in range(len(h)):
                    h[k] += at(v, end + sign * t, k) * at(p, t, k) * weight
                    out[k] = ((out[k] if waiting else 0.0) + h[k]) * scale
