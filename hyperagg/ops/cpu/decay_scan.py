"""Numba kernels of the prefix sum with a decay or a gate, and of every prefix sum in float64.

A decay is real or complex. A complex row has D / 2 numbers, channels 2k and 2k + 1. Loops write to
buffers that the kernel allocates itself and no argument can overlap: where a compiler must allow
for overlaps among many arrays, it does not vectorize.
"""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import overload

from hyperagg._numba.cache import njit
from hyperagg.ops.cpu.intrinsics import at, narrow, scale_of, stream, widen
from hyperagg.ops.cpu.prefix_sum import CHUNK_SIZE

__all__ = [
    "carry",
    "chunk_sums",
    "decaying_sum",
    "decaying_sum_backward",
    "totals",
    "totals_backward",
]

# Backward kernels run through tiles of so many tokens in the cache. A tile is read and written
# forwards, since processors prefetch rising addresses; falling ones cost twice as much.
_TILE = 32


def _read(rows, row, k, like):  # pragma: no cover
    raise NotImplementedError


@overload(_read, inline="always")
def _(rows, row, k, like):
    """Number k of a row, real or complex as `like`; one where there are no rows."""
    if isinstance(like, types.Complex):
        return lambda rows, row, k, like: complex(at(rows, row, 2 * k), at(rows, row, 2 * k + 1))
    return lambda rows, row, k, like: at(rows, row, k)


def _write(row, k, value):  # pragma: no cover
    raise NotImplementedError


@overload(_write, inline="always")
def _(row, k, value):
    if isinstance(value, types.Complex):

        def write(row, k, value):
            row[2 * k] = narrow(value.real, row)
            row[2 * k + 1] = narrow(value.imag, row)

        return write

    def write_real(row, k, value):
        row[k] = narrow(value, row)

    return write_real


def _multiply_channels(u, v):  # pragma: no cover
    raise NotImplementedError


@overload(_multiply_channels, inline="always")
def _(u, v):
    """The product channel by channel, also of complex numbers."""
    if isinstance(v, types.Complex):
        return lambda u, v: complex(u.real * v.real, u.imag * v.imag)
    return lambda u, v: u * v


def _conj(value):  # pragma: no cover
    raise NotImplementedError


@overload(_conj, inline="always")
def _(value):
    if isinstance(value, types.Complex):
        return lambda value: value.conjugate()
    return lambda value: value


def _factor(decay, gate, token, k):  # pragma: no cover
    raise NotImplementedError


@overload(_factor, inline="always")
def _(decay, gate, token, k):
    """The factor of the step to a token for number k."""
    if not isinstance(decay, types.NoneType):
        return lambda decay, gate, token, k: decay[k]
    if not isinstance(gate, types.NoneType):
        return lambda decay, gate, token, k: widen(gate[token, k])
    return lambda decay, gate, token, k: 1.0


@njit(nogil=True, cache=True, fastmath={"contract"})
def decaying_sum(
    first,
    last,
    x,
    p,
    decay,
    gate,
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
    h = np.empty(initial.shape[1], dtype=initial.dtype)
    row = np.empty(x.shape[1], dtype=y.dtype)
    flat = y.reshape(-1)
    longest = 0
    for s in range(first, last):
        longest = max(longest, lengths[s])
    # All rows pass a chunk of positions together, so that p stays in the cache.
    for begin in range(0, longest, CHUNK_SIZE):
        for s in range(first, last):
            n, before = lengths[s], tokens_before[s] + positions[s]
            if begin >= n:
                continue
            h[:] = initial[s]
            for t in range(begin, min(n, begin + CHUNK_SIZE)):
                token, position = starts[s] + t, positions[s] + t
                weight = scale_of(before + t + 1, norm_exponent)
                for k in range(len(h)):
                    term = _multiply_channels(_read(x, token, k, h[k]), _read(p, position, k, h[k]))
                    h[k] = _factor(decay, gate, token, k) * h[k] + term
                    _write(row, k, h[k] * weight)
                if streaming:
                    stream(flat, token * x.shape[1], row)
                else:
                    y[token] = row
            initial[s] = h


@njit(nogil=True, cache=True, fastmath={"contract"})
def chunk_sums(first, last, v, p, tokens_before, positions, starts, lengths, norm_exponent, total):
    """Add n_t^-norm_exponent v_t * p_t of every chunk to its `total`."""
    for s in range(first, last):
        h, before = total[s], tokens_before[s] + positions[s]
        for t in range(lengths[s]):
            weight = scale_of(before + t + 1, norm_exponent)
            for k in range(len(h)):
                h[k] += at(v, starts[s] + t, k) * at(p, positions[s] + t, k) * weight


@njit(nogil=True, cache=True, fastmath={"contract"})
def totals(
    first,
    last,
    v,
    p,
    decay,
    gate,
    tokens_before,
    positions,
    starts,
    lengths,
    norm_exponent,
    total,
    product,
):
    """Compute what every chunk adds on its own, and the product of its factors."""
    for s in range(first, last):
        h, q = total[s], product[s]
        for t in range(lengths[s]):
            token, position = starts[s] + t, positions[s] + t
            for k in range(len(h)):
                factor = _factor(decay, gate, token, k)
                term = _multiply_channels(_read(v, token, k, h[k]), _read(p, position, k, h[k]))
                h[k] = factor * h[k] + term
                q[k] = factor * q[k]


@njit(nogil=True, cache=True, fastmath={"contract"})
def totals_backward(
    first,
    last,
    v,
    p,
    decay,
    gate,
    tokens_before,
    positions,
    starts,
    lengths,
    norm_exponent,
    total,
    product,
):
    """Compute what every chunk adds to the gradient before its first token, and the same product.

    It runs forwards with the product up to each token, since falling addresses cost more.
    """
    for s in range(first, last):
        h, q, before = total[s], product[s], tokens_before[s] + positions[s]
        for t in range(lengths[s]):
            token, weight = starts[s] + t, 0.0
            if v is not None:
                weight = scale_of(before + t + 1, norm_exponent)
            for k in range(len(h)):
                q[k] = _conj(_factor(decay, gate, token, k)) * q[k]
                h[k] += q[k] * _read(v, token, k, h[k]) * weight


@njit(nogil=True, cache=True)
def carry(rows, total, product, sums, initial, backward):
    """Run over the chunks of each row: set initial[s], the sum that chunk s starts from.

    sums (R, D) holds the initial sums of the rows on entry and their last sums on return.
    """
    for i in range(len(rows)):
        s = len(rows) - 1 - i if backward else i
        h = sums[rows[s]]
        for k in range(len(h)):
            initial[s, k] = h[k]
            if product is not None:
                h[k] *= product[s, k]
            h[k] += total[s, k]


@njit(nogil=True, cache=True, fastmath={"contract"})
def decaying_sum_backward(
    first,
    last,
    y_grad,
    x,
    p,
    decay,
    gate,
    states,
    initial,
    gradient,
    tokens_before,
    rows,
    positions,
    starts,
    lengths,
    norm_exponent,
    x_grad,
    p_grad,
    decay_grads,
    gate_grad,
    streaming,
):
    """Run every chunk back from its `gradient`; replace that by the gradient of its first sum."""
    touched = 0.0
    g = np.empty(gradient.shape[1], dtype=gradient.dtype)
    g_t, decay_grad = np.empty_like(g), np.empty_like(g)
    tile = np.empty((_TILE, x.shape[1]), dtype=x_grad.dtype)
    gate_tile = np.empty((_TILE, x.shape[1]), dtype=x_grad.dtype)
    for s in range(first, last):
        n, before = lengths[s], tokens_before[s] + positions[s]
        g[:] = gradient[s]
        decay_grad[:] = 0
        for t in range(n - 1, -1, -1):
            token, position, weight = starts[s] + t, positions[s] + t, 0.0
            if t == n - 1 or t % _TILE == _TILE - 1:
                begin = token - t % _TILE
                if y_grad is not None:
                    touched += _touch(y_grad, begin, token)
                if p is not None:
                    touched += _touch(x, begin, token)
                if states is not None:
                    touched += _touch(states, begin, token)
                if gate is not None:
                    touched += _touch(gate, begin, token)
            if y_grad is not None:
                weight = scale_of(before + t + 1, norm_exponent)
            row, gate_row = tile[t % _TILE], gate_tile[t % _TILE]
            for k in range(len(g)):
                g_t[k] = g[k] + _read(y_grad, token, k, g[k]) * weight
                _write(row, k, _multiply_channels(g_t[k], _read(p, position, k, g[k])))
                g[k] = _conj(_factor(decay, gate, token, k)) * g_t[k]
            if p is not None:
                factor_grad = p_grad[position]
                for k in range(len(g)):
                    term = _multiply_channels(g_t[k], _read(x, token, k, g[k]))
                    _write(factor_grad, k, _read(p_grad, position, k, g[k]) + term)
            if states is not None:
                previous, previous_row = (states, token - 1) if position else (initial, rows[s])
                for k in range(len(g)):
                    step_grad = g_t[k] * _conj(_read(previous, previous_row, k, g[k]))
                    if decay is not None:
                        decay_grad[k] += step_grad
                    if gate is not None:
                        _write(gate_row, k, step_grad)
            if t % _TILE == 0:
                _write_tile(tile[: min(_TILE, n - t)], x_grad, token, streaming)
                if gate is not None:
                    _write_tile(gate_tile[: min(_TILE, n - t)], gate_grad, token, streaming)
        gradient[s] = g
        if decay is not None:
            decay_grads[s] = decay_grad
    return touched


@njit(nogil=True, cache=True, inline="always")
def _touch(rows, first, last):
    """Read one element of every cache line in rising order."""
    total = 0.0
    for row in range(first, last + 1):
        for k in range(0, rows.shape[1], 16):
            total += rows[row, k]
    return total


@njit(nogil=True, cache=True, inline="always")
def _write_tile(tile, out, token, streaming):
    flat = out.reshape(-1)
    for i in range(len(tile)):
        if streaming:
            stream(flat, (token + i) * out.shape[1], tile[i])
        else:
            out[token + i] = tile[i]
