"""Numba kernels of the short causal convolution: weighted sums of the K latest tokens per channel.

    y_t = sum_j w_j * x_{t-j}    dx_s = sum_j w_j * dy_{s+j}    dw_j = sum_t dy_t * x_{t-j}

over the j < K for which token t has so many tokens of its own sequence before it. In PyTorch each
term is a pass over all tokens, and backward three of them; here all terms of a token are in the
first-level cache. A task is a block of tokens of one row. dw is summed in float32 over a block, and
over the blocks in order, so the bits do not depend on the number of threads.

bfloat16 is passed as uint16.
"""

from __future__ import annotations

import numpy as np

from hyperagg._numba.cache import njit
from hyperagg._numba.threads import even_borders, parts, run_on_team
from hyperagg.ops.cpu.intrinsics import narrow, widen

__all__ = ["short_convolution", "short_convolution_backward"]

BLOCK_SIZE = 128


def short_convolution(x: np.ndarray, w: np.ndarray, preceding: np.ndarray, y: np.ndarray) -> None:
    """Fill y (B, N, C).

    Args:
        x: (B, K - 1 + N, C) inputs, of which the first K - 1 of each row precede its tokens.
        w: (K, C) float32 weights.
        preceding: (B, N) int64, the number of inputs of the same sequence before each token; (0, 0)
            if all of them are.
    """
    batch, n, channels = y.shape
    run_on_team(_forward, _ranges(batch, n, len(w) * channels), x, w, preceding, y)


def short_convolution_backward(
    y_grad: np.ndarray,
    x: np.ndarray,
    w: np.ndarray,
    preceding: np.ndarray,
    x_grad: np.ndarray,
    w_grad: np.ndarray,
) -> None:
    """Fill the gradients of x and w of `short_convolution`."""
    batch, joined, channels = x.shape
    ranges = _ranges(batch, joined, 2 * len(w) * channels)
    block_grads = np.zeros((int(ranges[-1]), *w.shape), dtype=np.float32)
    run_on_team(_backward, ranges, y_grad, x, w, preceding, x_grad, block_grads)
    w_grad[:] = block_grads.sum(0)


def _ranges(batch: int, n: int, work_per_token: int) -> np.ndarray:
    """The blocks of each thread, of at most BLOCK_SIZE tokens each."""
    blocks = batch * -(-n // BLOCK_SIZE)
    return even_borders(np.ones(blocks), parts(batch * n * work_per_token))


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def _add_product(w, x, out):
    # Over slices: Numba allows for negative indices into a row of a larger array.
    for c in range(len(out)):
        out[c] += w[c] * widen(x[c])


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def _add_products(x, y, out):
    for c in range(len(out)):
        out[c] += widen(x[c]) * widen(y[c])


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def _store(row, out):
    for c in range(len(out)):
        out[c] = narrow(row[c], out)


@njit(nogil=True, cache=True, fastmath={"contract"})
def _forward(first, last, x, w, preceding, y):
    _, n, channels = y.shape
    size = len(w)
    blocks = -(-n // BLOCK_SIZE)
    total = np.empty(channels, dtype=np.float32)
    for task in range(first, last):
        row, begin = task // blocks, task % blocks * BLOCK_SIZE
        for t in range(begin, min(n, begin + BLOCK_SIZE)):
            terms = size
            if len(preceding):
                terms = min(size, preceding[row, t] + 1)
            total[:] = 0
            for j in range(terms):
                _add_product(w[j], x[row, t + size - 1 - j], total)
            _store(total, y[row, t])


@njit(nogil=True, cache=True, fastmath={"contract"})
def _backward(first, last, y_grad, x, w, preceding, x_grad, block_grads):
    _, n, channels = y_grad.shape
    joined, size = x.shape[1], len(w)
    blocks = -(-joined // BLOCK_SIZE)
    total = np.empty(channels, dtype=np.float32)
    for task in range(first, last):
        row, begin = task // blocks, task % blocks * BLOCK_SIZE
        for s in range(begin, min(joined, begin + BLOCK_SIZE)):
            total[:] = 0
            for j in range(size):
                t = s - (size - 1) + j
                if t < 0 or t >= n or (len(preceding) and preceding[row, t] < j):
                    continue
                _add_product(w[j], y_grad[row, t], total)
                _add_products(y_grad[row, t], x[row, s], block_grads[task, j])
            _store(total, x_grad[row, s])
