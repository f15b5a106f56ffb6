"""The running sum on CPUs, with decays, rotations and gates: what runs which kernel on which rows.

    h_t  =  a_t h_{t-1} + x_t * p_t        y_t  =  n_t^-power h_t

Backward is the same recurrence from the end, in which the gradients of x, p and a are by-products:

    g_t  =  n_t^-power dy_t + conj(a_{t+1}) g_{t+1}   dx_t = g_t * p_t   dp_t = sum_rows g_t * x_t
    da_t =  g_t * conj(h_{t-1})

Where there are few rows, a row is cut into stretches of places: what each adds and leaves is found
first, then carried over from one to the next, then each is run from what was carried to it. The
gradient of p always goes by stretches: a stretch of p belongs to one thread, for all rows. How
rows are cut depends on shapes alone, so the bits do not depend on the number of threads.

Sums are kept in float64, those in which nothing fades as `cpu_sum` says; bfloat16 passes through
as the 16 bits it is. What is absent comes as None, for which Numba compiles a kernel of its own.
"""

from __future__ import annotations

import numpy as np

from hyperagg._numba.threads import run
from hyperagg.ops.cpu import decay_scan as cpu_fading
from hyperagg.ops.cpu import prefix_sum as cpu_sum
from hyperagg.ops.cpu.chunking import Stretches, cut_rows, shares, shares_of_places, whole_rows
from hyperagg.ops.cpu.intrinsics import can_stream

__all__ = ["scan", "scan_backward"]

# With this many rows there is enough to deal out without cutting them.
MANY_ROWS = 8
# Numbers below which cutting costs more than it gives.
LARGE = 1 << 18

_A = np.ndarray


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
        cpu_fading.carry(stretches.row, total, product, running, first, False)
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
        borders = np.array([0, len(starts)])
    else:
        stretches = _cut(starts, lengths)
        total, product = _totals_of(x, y_grad, None, decay, gate, before, stretches, power, True)
        first = np.empty_like(total)
        cpu_fading.carry(stretches.row, total, product, running, first, True)
        borders = shares_of_places(stretches, x.shape[1])
    seen = before[stretches.row]
    if not small and decay is None and gate is None and x.dtype != np.float64:
        placed = (first + total, seen, *stretches[1:], power, x_grad, p_grad, can_stream(x_grad))
        run(cpu_sum.running_sum_backward, borders, y_grad, x, p, *placed)
    else:
        decay_grads = np.zeros((len(first), len(decay_grad)), first.dtype)
        run(
            cpu_fading.fading_sum_backward,
            borders,
            *(y_grad, x, p, decay, gate, states, initial, first, seen, *stretches, power),
            *(x_grad, p_grad, decay_grads, gate_grad, can_stream(x_grad)),
        )
        decay_grad[:] = decay_grads.sum(0)
    initial_grad[:] = running.view(np.float64)


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
    borders, seen = shares(stretches.length, x.shape[1]), before[stretches.row]
    placed = (first, seen, *stretches[1:], power, y, can_stream(y))
    if decay is None and gate is None and x.dtype != np.float64:
        run(cpu_sum.running_sum, borders, x, p, *placed)
    else:
        run(cpu_fading.fading_sum, borders, x, p, decay, gate, *placed)


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
    borders, seen = shares(stretches.length, x.shape[1]), before[stretches.row]
    if decay is not None or gate is not None:
        product = np.ones_like(total)
        placed = (seen, *stretches[1:], power, total, product)
        kernel = cpu_fading.totals_backward if backward else cpu_fading.totals
        run(kernel, borders, v, p, decay, gate, *placed)
        return total, product
    if v is not None:
        kernel = (cpu_fading if x.dtype == np.float64 else cpu_sum).sums
        run(kernel, borders, v, p, seen, *stretches[1:], power, total)
    return total, None


def _cut(starts: _A, lengths: _A) -> Stretches:
    return cut_rows(starts, lengths, cpu_sum.STRETCH)
