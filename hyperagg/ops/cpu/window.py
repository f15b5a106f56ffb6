"""Numba kernels of sliding windows.

    y_i  =  n_i^-b sum_{t = i - n_i + 1}^{i} x_t * p_t        n_i  =  min(size, i + 1)

The backward pass is the transpose of the sum, followed by the gradients of the products.
"""

from __future__ import annotations

import numpy as np

from hyperagg._numba.cache import njit
from hyperagg._numba.threads import run_on_team
from hyperagg.ops.cpu.chunking import split_rows, thread_ranges, thread_ranges_by_position
from hyperagg.ops.cpu.intrinsics import at, narrow, scale_of, widen
from hyperagg.ops.cpu.prefix_sum import CHUNK_SIZE

__all__ = ["multiply_backward", "window"]

_A = np.ndarray


def window(
    v: _A,
    p: _A | None,
    tokens_before: _A,
    starts: _A,
    lengths: _A,
    size: int,
    norm_exponent: float,
    y: _A,
    backward: bool,
) -> None:
    """Fill y_i = n_i^-b sum of v_t * p_t over the `size` newest positions, n_i = min(size, i + 1).

    With `backward` fill the transpose, y_t = sum of n_i^-b v_i over the `size` positions from t on;
    p must then be None. y is float32 or float64.

    Numerics: blocks of `size` positions are summed from both ends, so nothing cancels.
    Cost: reads v twice and writes y twice.
    """
    blocks = split_rows(starts, lengths, size * max(1, CHUNK_SIZE // size))
    row = blocks.row
    run_on_team(
        _window,
        thread_ranges(blocks.length, v.shape[1]),
        *(v, p, tokens_before[row], starts[row], lengths[row], blocks.position, blocks.length),
        *(size, norm_exponent, y, backward),
    )


def multiply_backward(
    v_grad: _A, x: _A, p: _A, starts: _A, lengths: _A, x_grad: _A, p_grad: _A
) -> None:
    """Fill the gradients of x and p from those of the products x_t * p_t."""
    chunks = split_rows(starts, lengths, CHUNK_SIZE)
    run_on_team(
        _multiply_backward,
        thread_ranges_by_position(chunks, x.shape[1]),
        *(v_grad, x, p, *chunks[1:], x_grad, p_grad),
    )


@njit(nogil=True, cache=True, fastmath={"contract"})
def _multiply_backward(first, last, v_grad, x, p, positions, starts, lengths, x_grad, p_grad):
    for s in range(first, last):
        for t in range(lengths[s]):
            token, position = starts[s] + t, positions[s] + t
            for k in range(x.shape[1]):
                x_grad[token, k] = narrow(v_grad[token, k] * p[position, k], x_grad)
                p_grad[position, k] += v_grad[token, k] * widen(x[token, k])


@njit(nogil=True, cache=True, fastmath={"contract"})
def _window(
    first,
    last,
    v,
    p,
    tokens_before,
    starts,
    lengths,
    positions,
    counts,
    size,
    norm_exponent,
    y,
    backward,
):
    h = np.empty(v.shape[1], dtype=np.float64)
    for s in range(first, last):
        n, start = lengths[s], starts[s]
        # The backward pass is the same from the other end: position t is token `end + sign * t`.
        end, sign = (start + n - 1, -1) if backward else (start, 1)
        weight, scale = 1.0, 1.0
        for block in range(positions[s], positions[s] + counts[s], size):
            # The part of a window in the previous block is summed from the end of that block and
            # stored in y, at the position whose window starts there.
            h[:] = 0.0
            for t in range(block - 1, max(block - size, -1), -1):
                if backward:
                    weight = scale_of(min(size, tokens_before[s] + n - t), norm_exponent)
                for k in range(len(h)):
                    h[k] += at(v, end + sign * t, k) * at(p, t, k) * weight
                if t + size - 1 < n:
                    out = y[end + sign * (t + size - 1)]
                    for k in range(len(h)):
                        out[k] = h[k]
            h[:] = 0.0
            for t in range(block, min(block + size, n)):
                if backward:
                    weight = scale_of(min(size, tokens_before[s] + n - t), norm_exponent)
                else:
                    scale = scale_of(min(size, tokens_before[s] + t + 1), norm_exponent)
                # At all other positions y is uninitialized.
                stored = block > 0 and t < block + size - 1
                out = y[end + sign * t]
                for k in range(len(h)):
                    h[k] += at(v, end + sign * t, k) * at(p, t, k) * weight
                    out[k] = ((out[k] if stored else 0.0) + h[k]) * scale
