"""Numba kernels of the running sum with decays, rotations and gates, and of all in float64.

A decay is a real vector, a rotation a complex one. What a loop writes is memory of its kernel's
own, which no argument can overlap; a compiler that has to allow for overlaps among many arrays
does not vectorise.
"""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import overload

from hyperagg._numba.cache import njit
from hyperagg.ops.cpu.intrinsics import at, narrow, scale_of, stream, widen
from hyperagg.ops.cpu.prefix_sum import STRETCH

__all__ = ["carry", "fading_sum", "fading_sum_backward", "sums", "totals", "totals_backward"]

# Tokens that are gone through backwards in the cache: read into it and written out of it forwards,
# since processors fetch ahead of rising addresses. Falling ones cost twice as much.
_TILE = 32


# A number of a row, real or, under a rotation, complex: channels 2k and 2k + 1.


def _read(rows, row, k, like):  # pragma: no cover
    raise NotImplementedError


@overload(_read, inline="always")
def _(rows, row, k, like):
    """Number k of a row, real or complex as `like` is; ones if there are no rows."""
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


def _each(u, v):  # pragma: no cover
    raise NotImplementedError


@overload(_each, inline="always")
def _(u, v):
    """Product of the channels, each by itself."""
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
    """What the step to a token leaves of number k."""
    if not isinstance(decay, types.NoneType):
        return lambda decay, gate, token, k: decay[k]
    if not isinstance(gate, types.NoneType):
        return lambda decay, gate, token, k: widen(gate[token, k])
    return lambda decay, gate, token, k: 1.0


@njit(nogil=True, cache=True, fastmath={"contract"})
def fading_sum(
    first,
    last,
    x,
    p,
    decay,
    gate,
    initial,
    before,
    places,
    starts,
    lengths,
    power,
    y,
    streaming,
):
    """Runs every stretch from its `initial`, in which it leaves its last sum."""
    h = np.empty(initial.shape[1], dtype=initial.dtype)
    row = np.empty(x.shape[1], dtype=y.dtype)
    flat = y.reshape(-1)
    longest = 0
    for s in range(first, last):
        longest = max(longest, lengths[s])
    # Whole rows go through the places together, so that p is still in the cache for the next row.
    for begin in range(0, longest, STRETCH):
        for s in range(first, last):
            n, seen = lengths[s], before[s] + places[s]
            if begin >= n:
                continue
            h[:] = initial[s]
            for t in range(begin, min(n, begin + STRETCH)):
                token, place = starts[s] + t, places[s] + t
                weight = scale_of(seen + t + 1, power)
                for k in range(len(h)):
                    term = _each(_read(x, token, k, h[k]), _read(p, place, k, h[k]))
                    h[k] = _factor(decay, gate, token, k) * h[k] + term
                    _write(row, k, h[k] * weight)
                if streaming:
                    stream(flat, token * x.shape[1], row)
                else:
                    y[token] = row
            initial[s] = h


@njit(nogil=True, cache=True, fastmath={"contract"})
def sums(first, last, v, p, before, places, starts, lengths, power, total):
    """Adds every stretch's n_t^-power v_t * p_t to its `total`."""
    for s in range(first, last):
        h, seen = total[s], before[s] + places[s]
        for t in range(lengths[s]):
            weight = scale_of(seen + t + 1, power)
            for k in range(len(h)):
                h[k] += at(v, starts[s] + t, k) * at(p, places[s] + t, k) * weight


@njit(nogil=True, cache=True, fastmath={"contract"})
def totals(first, last, v, p, decay, gate, before, places, starts, lengths, power, total, product):
    """What every stretch adds by itself, and the product of its factors."""
    for s in range(first, last):
        h, q = total[s], product[s]
        for t in range(lengths[s]):
            token, place = starts[s] + t, places[s] + t
            for k in range(len(h)):
                factor = _factor(decay, gate, token, k)
                term = _each(_read(v, token, k, h[k]), _read(p, place, k, h[k]))
                h[k] = factor * h[k] + term
                q[k] = factor * q[k]


@njit(nogil=True, cache=True, fastmath={"contract"})
def totals_backward(
    first, last, v, p, decay, gate, before, places, starts, lengths, power, total, product
):
    """What every stretch hands on to the sum before its first token, and the same product.

    Forwards, by the product up to each token, since falling addresses cost more.
    """
    for s in range(first, last):
        h, q, seen = total[s], product[s], before[s] + places[s]
        for t in range(lengths[s]):
            token, weight = starts[s] + t, 0.0
            if v is not None:
                weight = scale_of(seen + t + 1, power)
            for k in range(len(h)):
                q[k] = _conj(_factor(decay, gate, token, k)) * q[k]
                h[k] += q[k] * _read(v, token, k, h[k]) * weight


@njit(nogil=True, cache=True)
def carry(rows, total, product, carried, initial, backward):
    """Hands the sum of each row from stretch to stretch: initial[s] is what stretch s starts from,
    and carried (R, D), given what the rows start from, becomes what they end with."""
    for i in range(len(rows)):
        s = len(rows) - 1 - i if backward else i
        h = carried[rows[s]]
        for k in range(len(h)):
            initial[s, k] = h[k]
            if product is not None:
                h[k] *= product[s, k]
            h[k] += total[s, k]


@njit(nogil=True, cache=True, fastmath={"contract"})
def fading_sum_backward(
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
    before,
    rows,
    places,
    starts,
    lengths,
    power,
    x_grad,
    p_grad,
    decay_grads,
    gate_grad,
    streaming,
):
    """Runs every stretch back from its `gradient`, in which it leaves that of its first sum."""
    touched = 0.0
    g = np.empty(gradient.shape[1], dtype=gradient.dtype)
    here, decay_grad = np.empty_like(g), np.empty_like(g)
    tile = np.empty((_TILE, x.shape[1]), dtype=x_grad.dtype)
    gate_tile = np.empty((_TILE, x.shape[1]), dtype=x_grad.dtype)
    for s in range(first, last):
        n, seen = lengths[s], before[s] + places[s]
        g[:] = gradient[s]
        decay_grad[:] = 0
        for t in range(n - 1, -1, -1):
            token, place, weight = starts[s] + t, places[s] + t, 0.0
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
                weight = scale_of(seen + t + 1, power)
            row, gate_row = tile[t % _TILE], gate_tile[t % _TILE]
            for k in range(len(g)):
                here[k] = g[k] + _read(y_grad, token, k, g[k]) * weight
                _write(row, k, _each(here[k], _read(p, place, k, g[k])))
                g[k] = _conj(_factor(decay, gate, token, k)) * here[k]
            if p is not None:
                factor_grad = p_grad[place]
                for k in range(len(g)):
                    term = _each(here[k], _read(x, token, k, g[k]))
                    _write(factor_grad, k, _read(p_grad, place, k, g[k]) + term)
            if states is not None:
                earlier, at_row = (states, token - 1) if place else (initial, rows[s])
                for k in range(len(g)):
                    step_grad = here[k] * _conj(_read(earlier, at_row, k, g[k]))
                    if decay is not None:
                        decay_grad[k] += step_grad
                    if gate is not None:
                        _write(gate_row, k, step_grad)
            if t % _TILE == 0:
                _put(tile[: min(_TILE, n - t)], x_grad, token, streaming)
                if gate is not None:
                    _put(gate_tile[: min(_TILE, n - t)], gate_grad, token, streaming)
        gradient[s] = g
        if decay is not None:
            decay_grads[s] = decay_grad
    return touched


@njit(nogil=True, cache=True, inline="always")
def _touch(rows, first, last):
    """Reads a number of every cache line, in rising order."""
    total = 0.0
    for row in range(first, last + 1):
        for k in range(0, rows.shape[1], 16):
            total += rows[row, k]
    return total


@njit(nogil=True, cache=True, inline="always")
def _put(tile, out, token, streaming):
    flat = out.reshape(-1)
    for i in range(len(tile)):
        if streaming:
            stream(flat, (token + i) * out.shape[1], tile[i])
        else:
            out[token + i] = tile[i]
