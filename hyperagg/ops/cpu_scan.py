"""Numba kernels of the running sum, with decays, rotations and gates, and of windows.

    h_t  =  a_t h_{t-1} + x_t * p_t        y_t  =  n_t^-power h_t

Backward is the same recurrence from the end, in which the gradients of x, p and a are by-products:

    g_t  =  n_t^-power dy_t + conj(a_{t+1}) g_{t+1}   dx_t = g_t * p_t   dp_t = sum_rows g_t * x_t
    da_t =  g_t * conj(h_{t-1})

Where there are few rows, a row is cut into stretches of places: what each adds and leaves is found
first, then carried over from one to the next, then each is run from what was carried to it. The
gradient of p always goes by stretches: a stretch of p belongs to one thread, for all rows. How
rows are cut depends on shapes alone, so the bits do not depend on the number of threads.

Sums are kept in float64, those in which nothing fades as `cpu_sum` says; bfloat16 passes through
as the 16 bits it is. What is absent comes as
None, for which Numba compiles a kernel of its own. A decay is a real vector, a rotation a complex
one. What a loop writes is memory of its kernel's own, which no argument can overlap; a compiler
that has to allow for overlaps among many arrays does not vectorise.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, types
from numba.extending import overload

from hyperagg.ops import cpu_sum
from hyperagg.ops.cpu_numbers import at, can_stream, narrow, scale_of, stream, widen
from hyperagg.ops.cpu_sum import STRETCH
from hyperagg.threads import even_borders, parts, run

__all__ = ["multiply_backward", "scan", "scan_backward", "window"]

# With this many rows there is enough to deal out without cutting them.
MANY_ROWS = 8
# Tokens that are gone through backwards in the cache: read into it and written out of it forwards,
# since processors fetch ahead of rising addresses. Falling ones cost twice as much.
_TILE = 32
# Numbers below which cutting costs more than it gives.
LARGE = 1 << 18

_A = np.ndarray


class Stretches(NamedTuple):
    """Runs of places of rows, in order of place: row, first place, first token, length of each."""

    row: np.ndarray
    place: np.ndarray
    start: np.ndarray
    length: np.ndarray


def whole_rows(starts: np.ndarray, lengths: np.ndarray) -> Stretches:
    return Stretches(np.arange(len(starts)), np.zeros_like(starts), starts, lengths)


def cut_rows(starts: np.ndarray, lengths: np.ndarray, size: int) -> Stretches:
    """Every row cut at the multiples of `size`; a row without tokens stays one stretch."""
    pieces = np.maximum(1, -(-lengths // size))
    row = np.repeat(np.arange(len(starts)), pieces)
    piece = np.arange(len(row)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    order = np.argsort(piece, kind="stable")
    row, place = row[order], piece[order] * size
    return Stretches(row, place, starts[row] + place, np.minimum(size, lengths[row] - place))


def scan(
    x: _A,
    p: _A | None,
    decay: _A | None,
    gate: _A | None,
    initial: _A,
    before: _A,
    starts: _A,
    lengths: _A,
    power: float,
    y: _A | None,
    carried: _A,
) -> None:
    """Fills y (T, D), where there is one, and the last sums of every row (R, D).

    Args:
        x: (T, D) tokens; uint16 stands for bfloat16.
        p: (P, D) position vectors.
        decay: (D,) real or (D / 2,) complex.
        gate: (T, D).
        initial: (R, D) sums of the tokens before the first.
        before: (R,) their number.
        starts, lengths: (R,) the tokens of each row.
        power: of the number of tokens that a sum is divided by.

    Cost: reads x once, twice where rows are cut, and writes y once.
    """
    many, small = len(starts) >= MANY_ROWS, int(lengths.sum()) * x.shape[1] < LARGE
    stretches = (whole_rows if many or small else _cut)(starts, lengths)
    running = _precise(initial, decay)
    if y is not None and (many or small):
        _run(x, p, decay, gate, running, before, stretches, power, y)
    else:
        total, product = _totals_of(x, x, p, decay, gate, before, stretches, 0.0, False)
        first = np.empty_like(total)
        _carry(stretches.row, total, product, running, first, False)
        if y is not None:
            _run(x, p, decay, gate, first, before, stretches, power, y)
    carried[:] = running.view(np.float64)


def scan_backward(
    y_grad: _A | None,
    carried_grad: _A,
    x: _A,
    p: _A | None,
    decay: _A | None,
    gate: _A | None,
    states: _A | None,
    initial: _A,
    before: _A,
    starts: _A,
    lengths: _A,
    power: float,
    x_grad: _A,
    p_grad: _A,
    decay_grad: _A,
    gate_grad: _A | None,
    initial_grad: _A,
) -> None:
    """Fills the gradients of `scan`'s inputs; `states` are its h (T, D), for what fades them.

    p_grad and decay_grad must be zero. Cost: reads y_grad twice and x once, writes x_grad once.
    """
    running = _precise(carried_grad, decay)
    if small := int(lengths.sum()) * x.shape[1] < LARGE:
        stretches, first = whole_rows(starts, lengths), running
        shares = np.array([0, len(starts)])
    else:
        stretches = _cut(starts, lengths)
        total, product = _totals_of(x, y_grad, None, decay, gate, before, stretches, power, True)
        first = np.empty_like(total)
        _carry(stretches.row, total, product, running, first, True)
        shares = _shares_of_places(stretches, x.shape[1])
    seen = before[stretches.row]
    if not small and decay is None and gate is None and x.dtype != np.float64:
        placed = (first + total, seen, *stretches[1:], power, x_grad, p_grad, can_stream(x_grad))
        run(cpu_sum.running_sum_backward, shares, y_grad, x, p, *placed)
    else:
        decay_grads = np.zeros((len(first), len(decay_grad)), first.dtype)
        run(
            _scan_backward,
            shares,
            *(y_grad, x, p, decay, gate, states, initial, first, seen, *stretches, power),
            *(x_grad, p_grad, decay_grads, gate_grad, can_stream(x_grad)),
        )
        decay_grad[:] = decay_grads.sum(0)
    initial_grad[:] = running.view(np.float64)


def multiply_backward(
    v_grad: _A, x: _A, p: _A, starts: _A, lengths: _A, x_grad: _A, p_grad: _A
) -> None:
    """Fills the gradients of x_t * p_t by themselves."""
    stretches = _cut(starts, lengths)
    shares = _shares_of_places(stretches, x.shape[1])
    run(_multiply_backward, shares, v_grad, x, p, *stretches[1:], x_grad, p_grad)


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
        _shares(blocks.length, v.shape[1]),
        *(v, p, before[row], starts[row], lengths[row], blocks.place, blocks.length),
        *(size, power, y, backward),
    )


def _cut(starts: _A, lengths: _A) -> Stretches:
    return cut_rows(starts, lengths, STRETCH)


def _shares(costs: _A, d: int) -> _A:
    return even_borders(costs, parts(int(costs.sum()) * d))


def _shares_of_places(stretches: Stretches, d: int) -> _A:
    """Whole places to a thread, so that each row of the gradient of p has one owner."""
    _, counts = np.unique(stretches.place, return_counts=True)
    ends = np.cumsum(counts)
    if not len(ends):
        return np.array([0, 0])
    tokens = np.add.reduceat(stretches.length, ends - counts)
    return np.concatenate([[0], ends])[_shares(tokens, d)]


def _precise(sums: _A, decay: _A | None) -> _A:
    """A copy in float64, or in complex128 where a rotation turns pairs of channels."""
    turning = decay is not None and np.iscomplexobj(decay)
    return sums.astype(np.float64).view(np.complex128 if turning else np.float64)


def _run(
    x: _A,
    p: _A | None,
    decay: _A | None,
    gate: _A | None,
    first: _A,
    before: _A,
    stretches: Stretches,
    power: float,
    y: _A,
) -> None:
    """Runs every stretch from its `first` sum, in which it leaves its last."""
    shares, seen = _shares(stretches.length, x.shape[1]), before[stretches.row]
    placed = (first, seen, *stretches[1:], power, y, can_stream(y))
    if decay is None and gate is None and x.dtype != np.float64:
        run(cpu_sum.running_sum, shares, x, p, *placed)
    else:
        run(_scan, shares, x, p, decay, gate, *placed)


def _totals_of(
    x: _A,
    v: _A | None,
    p: _A | None,
    decay: _A | None,
    gate: _A | None,
    before: _A,
    stretches: Stretches,
    power: float,
    backward: bool,
) -> tuple[_A, _A | None]:
    """What each stretch adds (S, D), and the factor by which it takes over what came before."""
    total = _precise(np.zeros((len(stretches.row), x.shape[1])), decay)
    shares, seen = _shares(stretches.length, x.shape[1]), before[stretches.row]
    if decay is not None or gate is not None:
        product = np.ones_like(total)
        placed = (seen, *stretches[1:], power, total, product)
        run(_totals_backward if backward else _totals, shares, v, p, decay, gate, *placed)
        return total, product
    if v is not None:
        kernel = _sums if x.dtype == np.float64 else cpu_sum.sums
        run(kernel, shares, v, p, seen, *stretches[1:], power, total)
    return total, None


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


def _add(row, k, value):  # pragma: no cover
    raise NotImplementedError


@overload(_add, inline="always")
def _(row, k, value):
    if isinstance(value, types.Complex):

        def add(row, k, value):
            row[2 * k] += value.real
            row[2 * k + 1] += value.imag

        return add

    def add_real(row, k, value):
        row[k] += value

    return add_real


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
def _scan(
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
def _sums(first, last, v, p, before, places, starts, lengths, power, total):
    """Adds every stretch's n_t^-power v_t * p_t to its `total`."""
    for s in range(first, last):
        h, seen = total[s], before[s] + places[s]
        for t in range(lengths[s]):
            weight = scale_of(seen + t + 1, power)
            for k in range(len(h)):
                h[k] += at(v, starts[s] + t, k) * at(p, places[s] + t, k) * weight


@njit(nogil=True, cache=True, fastmath={"contract"})
def _totals(first, last, v, p, decay, gate, before, places, starts, lengths, power, total, product):
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
def _totals_backward(
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
def _carry(rows, total, product, carried, initial, backward):
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
def _scan_backward(
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
                    _add(factor_grad, k, _each(here[k], _read(x, token, k, g[k])))
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
