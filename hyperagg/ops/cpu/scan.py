"""Prefix sums on CPUs, with or without decays and gates: selects the kernel and splits the rows.

    h_t  =  a_t h_{t-1} + x_t * p_t        y_t  =  n_t^-b h_t

The backward pass is the same recurrence from the end, with the other gradients as by-products:

    g_t  =  n_t^-b dy_t + conj(a_{t+1}) g_{t+1}
    dx_t =  g_t * p_t    dp_t = sum over rows g_t * x_t    da_t = g_t * conj(h_{t-1})

Where there are few rows, each is split into chunks of positions. A first pass computes what a chunk
adds and by which factor it multiplies the sum before it, `carry` runs over the chunks, and a second
pass runs each chunk from its initial sum. The backward pass is always split: one thread owns a
chunk of p, for all rows. The split depends on shapes alone, so the bits do not depend on the number
of threads.

Sums are float64, except where `prefix_sum` says otherwise. bfloat16 is passed as uint16. An absent
argument is None, for which Numba compiles a kernel of its own.
"""

from __future__ import annotations

import numpy as np

from hyperagg._numba.threads import run_on_team
from hyperagg.ops.cpu import decay_scan, prefix_sum
from hyperagg.ops.cpu.chunking import (
    Chunks,
    split_rows,
    thread_ranges,
    thread_ranges_by_position,
    whole_rows,
)
from hyperagg.ops.cpu.intrinsics import can_stream

__all__ = ["scan", "scan_backward"]

# So many rows keep the threads busy without a split.
MIN_ROWS_WHOLE = 8
# The number of elements below which a split costs more than it saves.
MIN_SIZE_TO_SPLIT = 1 << 18

_A = np.ndarray


def scan(
    x: _A,
    p: _A | None,
    decay: _A | None,
    gate: _A | None,
    initial: _A,
    tokens_before: _A,
    starts: _A,
    lengths: _A,
    norm_exponent: float,
    y: _A | None,
    sums: _A,
) -> None:
    """Fill y (T, D), unless it is None, and the last sums of every row (R, D).

    Args:
        x: (T, D) tokens.
        p: (P, D) position vectors.
        decay: (D,) real or (D / 2,) complex factors.
        gate: (T, D) factors.
        initial: (R, D) sums of the tokens before the first.
        tokens_before: (R,) the number of those tokens.
        starts, lengths: (R,) the first token and the number of tokens of each row.
        norm_exponent: b.

    Cost: reads x once, or twice where rows are split, and writes y once.
    """
    small = int(lengths.sum()) * x.shape[1] < MIN_SIZE_TO_SPLIT
    whole = small or len(starts) >= MIN_ROWS_WHOLE
    chunks = (whole_rows if whole else _split)(starts, lengths)
    row_sums = _to_float64(initial, decay)
    if y is not None and whole:
        _run(x, p, decay, gate, row_sums, tokens_before, chunks, norm_exponent, y)
    else:
        total, product = _totals(x, x, p, decay, gate, tokens_before, chunks, 0.0, False)
        chunk_initial = np.empty_like(total)
        decay_scan.carry(chunks.row, total, product, row_sums, chunk_initial, False)
        if y is not None:
            _run(x, p, decay, gate, chunk_initial, tokens_before, chunks, norm_exponent, y)
    sums[:] = row_sums.view(np.float64)


def scan_backward(
    y_grad: _A | None,
    sums_grad: _A,
    x: _A,
    p: _A | None,
    decay: _A | None,
    gate: _A | None,
    states: _A | None,
    initial: _A,
    tokens_before: _A,
    starts: _A,
    lengths: _A,
    norm_exponent: float,
    x_grad: _A,
    p_grad: _A,
    decay_grad: _A,
    gate_grad: _A | None,
    initial_grad: _A,
) -> None:
    """Fill the gradients of the inputs of `scan`.

    `states` are its h (T, D), which only the gradients of a decay and a gate need. p_grad and
    decay_grad must be zero on entry.

    Cost: reads y_grad twice and x once, and writes x_grad once.
    """
    row_grads = _to_float64(sums_grad, decay)
    small = int(lengths.sum()) * x.shape[1] < MIN_SIZE_TO_SPLIT
    if small:
        chunks, chunk_grads = whole_rows(starts, lengths), row_grads
        ranges = np.array([0, len(starts)])
    else:
        chunks = _split(starts, lengths)
        total, product = _totals(
            x, y_grad, None, decay, gate, tokens_before, chunks, norm_exponent, True
        )
        chunk_grads = np.empty_like(total)
        decay_scan.carry(chunks.row, total, product, row_grads, chunk_grads, True)
        ranges = thread_ranges_by_position(chunks, x.shape[1])
    before = tokens_before[chunks.row]
    streaming = can_stream(x_grad)
    if not small and decay is None and gate is None and x.dtype != np.float64:
        run_on_team(
            prefix_sum.prefix_sum_backward,
            ranges,
            *(y_grad, x, p, chunk_grads + total, before, *chunks[1:], norm_exponent),
            *(x_grad, p_grad, streaming),
        )
    else:
        decay_grads = np.zeros((len(chunk_grads), len(decay_grad)), chunk_grads.dtype)
        run_on_team(
            decay_scan.decaying_sum_backward,
            ranges,
            *(y_grad, x, p, decay, gate, states, initial, chunk_grads, before),
            *(*chunks, norm_exponent, x_grad, p_grad, decay_grads, gate_grad, streaming),
        )
        decay_grad[:] = decay_grads.sum(0)
    initial_grad[:] = row_grads.view(np.float64)


def _to_float64(sums: _A, decay: _A | None) -> _A:
    """Copy to float64, or to complex128 for a complex decay."""
    is_complex = decay is not None and np.iscomplexobj(decay)
    return sums.astype(np.float64).view(np.complex128 if is_complex else np.float64)


def _run(
    x: _A,
    p: _A | None,
    decay: _A | None,
    gate: _A | None,
    initial: _A,
    tokens_before: _A,
    chunks: Chunks,
    norm_exponent: float,
    y: _A,
) -> None:
    """Run every chunk from its `initial` sum, which the kernel replaces by its last sum."""
    ranges = thread_ranges(chunks.length, x.shape[1])
    rest = (initial, tokens_before[chunks.row], *chunks[1:], norm_exponent, y, can_stream(y))
    if decay is None and gate is None and x.dtype != np.float64:
        run_on_team(prefix_sum.prefix_sum, ranges, x, p, *rest)
    else:
        run_on_team(decay_scan.decaying_sum, ranges, x, p, decay, gate, *rest)


def _totals(
    x: _A,
    v: _A | None,
    p: _A | None,
    decay: _A | None,
    gate: _A | None,
    tokens_before: _A,
    chunks: Chunks,
    norm_exponent: float,
    backward: bool,
) -> tuple[_A, _A | None]:
    """What each chunk adds, (chunks, D), and by which factor it multiplies the sum before it."""
    total = _to_float64(np.zeros((len(chunks.row), x.shape[1])), decay)
    ranges = thread_ranges(chunks.length, x.shape[1])
    before = tokens_before[chunks.row]
    if decay is not None or gate is not None:
        product = np.ones_like(total)
        kernel = decay_scan.totals_backward if backward else decay_scan.totals
        rest = (before, *chunks[1:], norm_exponent, total, product)
        run_on_team(kernel, ranges, v, p, decay, gate, *rest)
        return total, product
    if v is not None:
        kernel = (decay_scan if x.dtype == np.float64 else prefix_sum).chunk_sums
        run_on_team(kernel, ranges, v, p, before, *chunks[1:], norm_exponent, total)
    return total, None


def _split(starts: _A, lengths: _A) -> Chunks:
    return split_rows(starts, lengths, prefix_sum.CHUNK_SIZE)
