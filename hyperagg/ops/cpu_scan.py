"""Numba kernels of the running sum, with decays, rotations and gates.

    h_t  =  a_t h_{t-1} + x_t * p_t        y_t  =  n_t^-power h_t

Backward is the same recurrence from the end, in which the gradients of x, p and a are by-products:

    g_t  =  n_t^-power dy_t + a_{t+1} g_{t+1}      dx_t = g_t * p_t     dp_t = sum_rows g_t * x_t
    da_t =  g_t * h_{t-1}

Where there are few rows, a row is cut into stretches of places: what each adds and leaves is found
first, then carried over from one to the next, then each is run from what was carried to it. The
gradient of p always goes by stretches: a stretch of p belongs to one thread, for all rows. How
rows are cut depends on shapes alone, so the bits do not depend on the number of threads.

Sums are kept in float64 whatever the input type; bfloat16 passes through as the 16 bits it is.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit, types
from numba.extending import overload

from hyperagg.ops.threads import even_borders, parts, run

__all__ = [
    "DECAY",
    "GATE",
    "ROTATION",
    "SUM",
    "multiply_backward",
    "scan",
    "scan_backward",
    "window",
]

SUM, DECAY, ROTATION, GATE, ALONE = range(5)
# Places in a stretch: its p and the gradient of its p fit into a second-level cache at D = 256.
STRETCH = 128
# With this many rows there is enough to deal out without cutting them.
MANY_ROWS = 8
# Tokens that are brought into the cache together before they are gone through backwards.
_TOUCHED = 16
# Numbers below which cutting costs more than it gives.
LARGE = 1 << 16


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
    x: np.ndarray,
    p: np.ndarray,
    kind: int,
    a: np.ndarray,
    gate: np.ndarray,
    initial: np.ndarray,
    before: np.ndarray,
    starts: np.ndarray,
    lengths: np.ndarray,
    head: int,
    power: float,
    y: np.ndarray,
    carried: np.ndarray,
) -> None:
    """Fills y (T, D), where it has rows, and the last sums of every row (R, D).

    Args:
        x: (T, D) tokens; uint16 stands for bfloat16.
        p: (P, D) position vectors, or (0, D) for none.
        kind: SUM; DECAY, by a (D,); ROTATION, by a (D,) of real and imaginary parts in turn;
            GATE, by gate (T, D).
        initial: (R, D) sums of the tokens before the first.
        before: (R,) their number.
        starts, lengths: (R,) the tokens of each row.
        head: how many first tokens of a row see one another.
        power: of the number of tokens that a sum is divided by.

    Cost: reads x once, twice where rows are cut, and writes y once.
    """
    d = x.shape[1]
    carried[:] = initial
    cut = len(starts) < MANY_ROWS and not head and int(lengths.sum()) * d >= LARGE
    if not cut:
        stretches = whole_rows(starts, lengths)
        first = initial.astype(np.float64)
    else:
        stretches = cut_rows(starts, lengths, STRETCH)
        total, product = _totals_of(x, p, kind, a, gate, before, stretches, power, False)
        first = np.empty_like(total)
        _carry(kind, stretches.row, total, product, carried, first, False)
        if not len(y):
            return
    run(
        _scan,
        _shares(stretches.length, d),
        *(x, p, kind, a, gate, first, before[stretches.row], *stretches[1:], head, power, y),
    )
    if not cut:
        carried[:] = first


def scan_backward(
    y_grad: np.ndarray,
    carried_grad: np.ndarray,
    x: np.ndarray,
    p: np.ndarray,
    kind: int,
    a: np.ndarray,
    gate: np.ndarray,
    states: np.ndarray,
    initial: np.ndarray,
    before: np.ndarray,
    starts: np.ndarray,
    lengths: np.ndarray,
    head: int,
    power: float,
    x_grad: np.ndarray,
    p_grad: np.ndarray,
    a_grad: np.ndarray,
    gate_grad: np.ndarray,
    initial_grad: np.ndarray,
) -> None:
    """Fills the gradients of `scan`'s inputs; `states` are its h (T, D), read where kind has an a.

    p_grad must be zero. Cost: reads y_grad twice and x once, writes x_grad once.
    """
    d = x.shape[1]
    initial_grad[:] = carried_grad
    if head or int(lengths.sum()) * d < LARGE:
        stretches = whole_rows(starts, lengths)
        shares = np.array([0, len(starts)])
        first = carried_grad.astype(np.float64)
    else:
        stretches = cut_rows(starts, lengths, STRETCH)
        total, product = _totals_of(y_grad, p[:0], kind, a, gate, before, stretches, power, True)
        first = np.empty_like(total)
        _carry(kind, stretches.row, total, product, initial_grad, first, True)
        # Whole places to a thread, so that each row of p_grad has one owner.
        _, counts = np.unique(stretches.place, return_counts=True)
        tokens = np.add.reduceat(stretches.length, np.cumsum(counts) - counts)
        shares = np.concatenate([[0], np.cumsum(counts)])[_shares(tokens, d)]
    a_grads = np.zeros((len(stretches.row), len(a)))
    run(
        _scan_backward,
        shares,
        *(y_grad, x, p, kind, a, gate, states, initial, first, before[stretches.row]),
        *(*stretches, head, power, x_grad, p_grad, a_grads, gate_grad),
    )
    a_grad[:] = a_grads.sum(0)
    if len(stretches.row) == len(starts):
        initial_grad[stretches.row] = first


def multiply_backward(
    v_grad: np.ndarray,
    x: np.ndarray,
    p: np.ndarray,
    starts: np.ndarray,
    lengths: np.ndarray,
    x_grad: np.ndarray,
    p_grad: np.ndarray,
) -> None:
    """Gradients of x_t * p_t by themselves: a scan back that forgets every step at once."""
    rows, d = len(starts), x.shape[1]
    nothing, zeros, numbers = p[:0], np.zeros((rows, d), p.dtype), np.zeros(rows, np.int64)
    scan_backward(
        *(v_grad, zeros, x, p, ALONE, nothing.reshape(-1), x[:0], nothing, zeros, numbers),
        *(starts, lengths, 0, 0.0, x_grad, p_grad, nothing.reshape(-1), x_grad[:0], zeros.copy()),
    )


def window(
    v: np.ndarray,
    p: np.ndarray,
    before: np.ndarray,
    starts: np.ndarray,
    lengths: np.ndarray,
    size: int,
    power: float,
    y: np.ndarray,
    backward: bool,
) -> None:
    """y_i = n_i^-power sum of v_t * p_t over the `size` newest places, n_i = min(size, i + 1).

    `backward` is its transpose: y_t = sum of n_i^-power v_i over the `size` places from t on; p
    must then be empty. y is float32 or float64; blocks of `size` places are summed from both ends,
    so nothing cancels. Cost: reads v twice and writes y twice.
    """
    blocks = cut_rows(starts, lengths, size * max(1, STRETCH // size))
    row = blocks.row
    run(
        _window,
        _shares(blocks.length, v.shape[1]),
        *(v, p, before[row], starts[row], lengths[row], blocks.place, blocks.length),
        *(size, power, y, backward),
    )


def _shares(costs: np.ndarray, d: int) -> np.ndarray:
    return even_borders(costs, parts(int(costs.sum()) * d))


def _totals_of(
    v: np.ndarray,
    p: np.ndarray,
    kind: int,
    a: np.ndarray,
    gate: np.ndarray,
    before: np.ndarray,
    stretches: Stretches,
    power: float,
    backward: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """What each stretch adds (S, D), and the factor by which it takes over what came before."""
    d = p.shape[1]
    total = np.zeros((len(stretches.row), d))
    product = np.ones((len(total) if kind != SUM else 0, d))
    if kind == ALONE:
        return total, np.zeros_like(total)
    if kind == DECAY:
        product[:] = a.astype(np.float64) ** stretches.length[:, None]
    elif kind == ROTATION:
        turns = a.astype(np.float64).view(np.complex128) ** stretches.length[:, None]
        product[:] = turns.view(np.float64)
    if len(v) or kind == GATE:
        run(
            _totals,
            _shares(stretches.length, d),
            *(v, p, kind, a, gate, before[stretches.row], *stretches[1:], power, backward),
            *(total, product),
        )
    return total, product


def _widen(value):  # pragma: no cover
    raise NotImplementedError


@overload(_widen, inline="always")
def _(value):
    if isinstance(value, types.Integer):
        return lambda value: np.uint32(np.uint32(value) << np.uint32(16)).view(np.float32)
    return lambda value: value


def _narrow(value, like):  # pragma: no cover
    raise NotImplementedError


@overload(_narrow, inline="always")
def _(value, like):
    if isinstance(like.dtype, types.Integer):

        def to_bfloat16(value, like):
            bits = np.float32(value).view(np.uint32)
            if bits & np.uint32(0x7FFFFFFF) > np.uint32(0x7F800000):
                return np.uint16(0x7FC0)  # rounding could carry a NaN over into infinity
            round_to_even = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
            return np.uint16((bits + round_to_even) >> np.uint32(16))

        return to_bfloat16
    if like.dtype is types.float32:
        return lambda value, like: np.float32(value)
    return lambda value, like: value


@njit(nogil=True, cache=True, inline="always")
def _scale(number, power):
    if power == 0 or number < 1:
        return 1.0
    if power == 0.5:
        return 1 / math.sqrt(number)
    return 1 / number**power


@njit(nogil=True, cache=True, inline="always")
def _rotate(h, a, sign):
    for k in range(0, len(h), 2):
        re, im = a[k], sign * a[k + 1]
        real, imaginary = h[k], h[k + 1]
        h[k] = re * real - im * imaginary
        h[k + 1] = re * imaginary + im * real


@njit(nogil=True, cache=True, inline="always")
def _fade(h, kind, a, gate, at, sign):
    """h times what the step to token `at` leaves of it; sign -1 takes the conjugate."""
    if kind == DECAY:
        for k in range(len(h)):
            h[k] *= a[k]
    elif kind == GATE:
        opened = gate[at]
        for k in range(len(h)):
            h[k] *= _widen(opened[k])
    elif kind == ROTATION:
        _rotate(h, a, sign)
    elif kind == ALONE:
        h[:] = 0.0


@njit(nogil=True, cache=True, inline="always")
def _add(h, token, p, place, weight):
    if len(p):
        factor = p[place]
        for k in range(len(h)):
            h[k] += _widen(token[k]) * factor[k]
    else:
        for k in range(len(h)):
            h[k] += _widen(token[k]) * weight


@njit(nogil=True, cache=True, fastmath={"contract"})
def _scan(
    first, last, x, p, kind, a, gate, initial, before, places, starts, lengths, head, power, y
):
    """Runs every stretch from its `initial`, in which it leaves its last sum."""
    longest = 0
    for s in range(first, last):
        longest = max(longest, lengths[s])
    # Whole rows go through the places together, so that p is still in the cache for the next row.
    for begin in range(0, longest, STRETCH):
        for s in range(first, last):
            n, start, h = lengths[s], starts[s], initial[s]
            seen = before[s] + places[s]
            for t in range(begin, min(n, begin + STRETCH)):
                token = x[start + t]
                _fade(h, kind, a, gate, start + t, 1)
                if len(y) == 0 or t < head:
                    _add(h, token, p, places[s] + t, 1.0)
                else:
                    out = y[start + t]
                    scale = _scale(seen + t + 1, power)
                    if len(p):
                        factor = p[places[s] + t]
                        for k in range(len(h)):
                            h[k] += _widen(token[k]) * factor[k]
                            out[k] = _narrow(h[k] * scale, out)
                    else:
                        for k in range(len(h)):
                            h[k] += _widen(token[k])
                            out[k] = _narrow(h[k] * scale, out)
                if len(y) and t == min(head, n) - 1:
                    scale = _scale(seen + t + 1, power)
                    for i in range(t + 1):
                        out = y[start + i]
                        for k in range(len(h)):
                            out[k] = _narrow(h[k] * scale, out)


@njit(nogil=True, cache=True, fastmath={"contract"})
def _totals(
    first,
    last,
    v,
    p,
    kind,
    a,
    gate,
    before,
    places,
    starts,
    lengths,
    power,
    backward,
    total,
    product,
):
    """What every stretch adds by itself; of a gate also the product over the stretch."""
    for s in range(first, last):
        h, n = total[s], lengths[s]
        for i in range(n):
            # A sum has no order, so that it can be read forwards.
            t = n - 1 - i if backward and kind != SUM else i
            at = starts[s] + t
            if kind == GATE:
                _fade(product[s], kind, a, gate, at, 1)
            if not backward:
                _fade(h, kind, a, gate, at, 1)
            if len(v):
                weight = _scale(before[s] + places[s] + t + 1, power) if backward else 1.0
                _add(h, v[at], p, places[s] + t, weight)
                if backward:
                    _fade(h, kind, a, gate, at, -1)


@njit(nogil=True, cache=True)
def _carry(kind, rows, total, product, carried, initial, backward):
    """Hands the sum of each row from stretch to stretch: initial[s] is what stretch s starts from,
    and carried (R, D), given what the rows start from, becomes what they end with."""
    d = total.shape[1]
    running = carried.astype(np.float64)
    for i in range(len(rows)):
        s = len(rows) - 1 - i if backward else i
        h = running[rows[s]]
        initial[s] = h
        if kind == ROTATION:
            _rotate(h, product[s], -1 if backward else 1)
        elif kind != SUM:
            for k in range(d):
                h[k] *= product[s, k]
        for k in range(d):
            h[k] += total[s, k]
    for r in range(len(carried)):
        for k in range(d):
            carried[r, k] = running[r, k]


@njit(nogil=True, cache=True, fastmath={"contract"})
def _scan_backward(
    first,
    last,
    y_grad,
    x,
    p,
    kind,
    a,
    gate,
    states,
    initial,
    gradient,
    before,
    rows,
    places,
    starts,
    lengths,
    head,
    power,
    x_grad,
    p_grad,
    a_grads,
    gate_grad,
):
    """Runs every stretch back from its `gradient`, in which it leaves that of its first sum."""
    d = x.shape[1]
    touched = 0.0
    wide = np.empty(d, dtype=p_grad.dtype)
    earlier = np.empty(d, dtype=np.float64)
    for s in range(first, last):
        n, start, g = lengths[s], starts[s], gradient[s]
        seen = before[s] + places[s]
        for t in range(n - 1, -1, -1):
            at = start + t
            if (n - 1 - t) % _TOUCHED == 0:
                ahead = max(0, t + 1 - _TOUCHED)
                touched += _touch(x_grad, start + ahead, at + 1)
                if len(y_grad):
                    touched += _touch(y_grad, start + ahead, at + 1)
                if len(p):
                    touched += _touch(x, start + ahead, at + 1)
                    touched += _touch(p, places[s] + ahead, places[s] + t + 1)
                    touched += _touch(p_grad, places[s] + ahead, places[s] + t + 1)
                if kind != SUM and kind != ALONE:
                    touched += _touch(states, start + ahead, at + 1)
                if kind == GATE:
                    touched += _touch(gate, start + ahead, at + 1)
                    touched += _touch(gate_grad, start + ahead, at + 1)
            if len(y_grad):
                if t >= head:
                    _add(g, y_grad[at], p[:0], 0, _scale(seen + t + 1, power))
                elif t == min(head, n) - 1:
                    for i in range(t + 1):
                        _add(g, y_grad[start + i], p[:0], 0, _scale(seen + t + 1, power))
            out = x_grad[at]
            for k in range(d):
                wide[k] = g[k]
            if len(p):
                token, factor, factor_grad = x[at], p[places[s] + t], p_grad[places[s] + t]
                for k in range(d):
                    out[k] = _narrow(wide[k] * factor[k], out)
                for k in range(d):
                    factor_grad[k] += wide[k] * _widen(token[k])
            else:
                for k in range(d):
                    out[k] = _narrow(wide[k], out)
            if kind in (SUM, ALONE):
                _fade(g, kind, a, gate, at, -1)
                continue
            if places[s] + t:
                state = states[at - 1]
                for k in range(d):
                    earlier[k] = state[k]
            else:
                for k in range(d):
                    earlier[k] = initial[rows[s], k]
            if kind == DECAY:
                for k in range(d):
                    a_grads[s, k] += g[k] * earlier[k]
            elif kind == GATE:
                opened_grad = gate_grad[at]
                for k in range(d):
                    opened_grad[k] = _narrow(g[k] * earlier[k], opened_grad)
            else:
                for k in range(0, d, 2):
                    a_grads[s, k] += g[k] * earlier[k] + g[k + 1] * earlier[k + 1]
                    a_grads[s, k + 1] += g[k + 1] * earlier[k] - g[k] * earlier[k + 1]
            _fade(g, kind, a, gate, at, -1)
    return touched


@njit(nogil=True, cache=True, inline="always")
def _touch(rows, first, last):
    """Reads a number of every cache line, in rising order.

    Processors fetch ahead of rising addresses; falling ones cost four times as much.
    """
    total = 0.0
    for at in range(first, last):
        row = rows[at]
        for k in range(0, len(row), 16):
            total += row[k]
    return total


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
                    weight = _scale(min(size, before[s] + n - t), power)
                _add(h, v[end + sign * t], p, t, weight)
                if t + size - 1 < n:
                    out = y[end + sign * (t + size - 1)]
                    for k in range(len(h)):
                        out[k] = h[k]
            h[:] = 0.0
            for t in range(block, min(block + size, n)):
                if backward:
                    weight = _scale(min(size, before[s] + n - t), power)
                else:
                    scale = _scale(min(size, before[s] + t + 1), power)
                _add(h, v[end + sign * t], p, t, weight)
                out = y[end + sign * t]
                if block and t < block + size - 1:
                    for k in range(len(h)):
                        out[k] = (out[k] + h[k]) * scale
                else:
                    for k in range(len(h)):
                        out[k] = h[k] * scale
