"""Triton kernels of prefix sums.

    h_t  =  a_t h_{t-1} + x_t * p_t              y_t  =  n_t^-b h_t
    g_t  =  n_t^-b dy_t + conj(a_{t+1}) g_{t+1}  dx_t =  g_t * p_t    da_t = g_t * conj(h_{t-1})

A program owns a chunk of positions of a row and a block of channels, and runs through them in
tiles. Complex channels take two tiles, one of real and one of imaginary parts.
"""

from __future__ import annotations

import triton
import triton.language as tl

from hyperagg.ops.gpu.tiles import channels_of, row_at, scale_of, values_of

__all__ = ["carry", "run", "run_backward", "totals"]


@triton.jit
def _combine(a, h, a_next, h_next):
    return a * a_next, a_next * h + h_next


@triton.jit
def _combine_complex(a, b, h, k, a_next, b_next, h_next, k_next):
    return (
        a * a_next - b * b_next,
        a * b_next + b * a_next,
        a_next * h - b_next * k + h_next,
        a_next * k + b_next * h + k_next,
    )


@triton.jit
def _factors(a, gate, token, column, used, other, D, KIND: tl.constexpr, ACCUMULATOR: tl.constexpr):
    """The factors of the steps to `token`, or `other` where `used` is false."""
    if KIND == "gated":
        tile = tl.load(gate + token[:, None] * D + column[None, :], mask=used, other=0).to(
            ACCUMULATOR
        )
    else:
        tile = tl.load(a + column[None, :] + 0 * token[:, None], mask=used, other=0).to(ACCUMULATOR)
    return tl.where(used, tile, other)


@triton.jit
def totals(
    v,
    p,
    a,
    gate,
    tokens_before,
    lengths,
    rows,
    positions,
    starts,
    counts,
    total,
    product,
    D,
    KIND: tl.constexpr,
    HAS_V: tl.constexpr,
    HAS_P: tl.constexpr,
    BACKWARD: tl.constexpr,
    NORM_EXPONENT: tl.constexpr,
    ACCUMULATOR: tl.constexpr,
    POSITIONS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Compute what each chunk adds, and the factor by which it multiplies the sum before it."""
    s = tl.program_id(0).to(tl.int64)
    row, first, start, count = (
        tl.load(rows + s),
        tl.load(positions + s),
        tl.load(starts + s),
        tl.load(counts + s),
    )
    length, before = tl.load(lengths + row), tl.load(tokens_before + row)
    column, inside = channels_of(D, KIND, CHANNELS)
    h = tl.zeros((CHANNELS,), ACCUMULATOR)
    k = tl.zeros((CHANNELS,), ACCUMULATOR)
    q = tl.zeros((CHANNELS,), ACCUMULATOR) + 1
    r = tl.zeros((CHANNELS,), ACCUMULATOR)
    last = 0 if BACKWARD else POSITIONS - 1
    tiles = tl.cdiv(count, POSITIONS)
    for i in range(tiles):
        t = (tiles - 1 - i if BACKWARD else i) * POSITIONS + tl.arange(0, POSITIONS)
        token, position = start + t, first + t
        valid = (t < count)[:, None] & inside[None, :]
        values = values_of(
            v, p, token, position, column, valid, before, D,
            HAS_V, HAS_P, BACKWARD, NORM_EXPONENT, ACCUMULATOR,
        )  # fmt: skip
        if KIND == "prefix_sum":
            h += tl.sum(values, 0)
        else:
            used = valid
            if BACKWARD:
                used = valid & (position + 1 < length)[:, None]
                token += 1
            factors = _factors(a, gate, token, column, used, 1, D, KIND, ACCUMULATOR)
            if KIND == "complex_decay":
                imaginary_factors = _factors(
                    a, gate, token, column + 1, used, 0, D, KIND, ACCUMULATOR
                )
                if BACKWARD:
                    imaginary_factors = -imaginary_factors
                token, position = start + t, first + t
                imaginary = values_of(
                    v, p, token, position, column + 1, valid, before, D,
                    HAS_V, HAS_P, BACKWARD, NORM_EXPONENT, ACCUMULATOR,
                )  # fmt: skip
                factors, imaginary_factors, values, imaginary = tl.associative_scan(
                    (factors, imaginary_factors, values, imaginary),
                    0,
                    _combine_complex,
                    reverse=BACKWARD,
                )
                c, d = row_at(factors, last, POSITIONS), row_at(imaginary_factors, last, POSITIONS)
                h, k = (
                    row_at(values, last, POSITIONS) + c * h - d * k,
                    row_at(imaginary, last, POSITIONS) + c * k + d * h,
                )
                q, r = c * q - d * r, c * r + d * q
            else:
                factors, values = tl.associative_scan(
                    (factors, values), 0, _combine, reverse=BACKWARD
                )
                c = row_at(factors, last, POSITIONS)
                h = row_at(values, last, POSITIONS) + c * h
                q = c * q
    tl.store(total + s * D + column, h, mask=inside)
    if KIND != "prefix_sum":
        tl.store(product + s * D + column, q, mask=inside)
    if KIND == "complex_decay":
        tl.store(total + s * D + column + 1, k, mask=inside)
        tl.store(product + s * D + column + 1, r, mask=inside)


@triton.jit
def carry(
    total,
    product,
    first_chunks,
    num_chunks,
    begin,
    initial,
    end,
    D,
    KIND: tl.constexpr,
    BACKWARD: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Run over the chunks of each row: set initial[s], the sum that chunk s starts from.

    begin (R, D) is the initial sum of each row and end (R, D) its last sum.
    """
    row = tl.program_id(0).to(tl.int64)
    column, inside = channels_of(D, KIND, CHANNELS)
    first, number = tl.load(first_chunks + row), tl.load(num_chunks + row)
    h = tl.load(begin + row * D + column, mask=inside, other=0)
    k = h
    if KIND == "complex_decay":
        k = tl.load(begin + row * D + column + 1, mask=inside, other=0)
    for i in range(number):
        offset = (first + (number - 1 - i if BACKWARD else i)) * D + column
        tl.store(initial + offset, h, mask=inside)
        added = tl.load(total + offset, mask=inside, other=0)
        if KIND == "prefix_sum":
            h += added
        else:
            c = tl.load(product + offset, mask=inside, other=0)
            if KIND == "complex_decay":
                tl.store(initial + offset + 1, k, mask=inside)
                d = tl.load(product + offset + 1, mask=inside, other=0)
                added_imaginary = tl.load(total + offset + 1, mask=inside, other=0)
                h, k = c * h - d * k + added, c * k + d * h + added_imaginary
            else:
                h = c * h + added
    tl.store(end + row * D + column, h, mask=inside)
    if KIND == "complex_decay":
        tl.store(end + row * D + column + 1, k, mask=inside)


@triton.jit
def run(
    x,
    p,
    a,
    gate,
    initial,
    tokens_before,
    rows,
    positions,
    starts,
    counts,
    y,
    end,
    D,
    KIND: tl.constexpr,
    HAS_P: tl.constexpr,
    HAS_END: tl.constexpr,
    NORM_EXPONENT: tl.constexpr,
    ACCUMULATOR: tl.constexpr,
    POSITIONS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Run every chunk from its `initial` sum; with HAS_END store its last sum in `end`."""
    s = tl.program_id(0).to(tl.int64)
    row, first, start, count = (
        tl.load(rows + s),
        tl.load(positions + s),
        tl.load(starts + s),
        tl.load(counts + s),
    )
    before = tl.load(tokens_before + row)
    column, inside = channels_of(D, KIND, CHANNELS)
    h = tl.load(initial + s * D + column, mask=inside, other=0)
    k = h
    if KIND == "complex_decay":
        k = tl.load(initial + s * D + column + 1, mask=inside, other=0)
    for i in range(tl.cdiv(count, POSITIONS)):
        t = i * POSITIONS + tl.arange(0, POSITIONS)
        token, position = start + t, first + t
        valid = (t < count)[:, None] & inside[None, :]
        sums = values_of(
            x, p, token, position, column, valid, before, D,
            True, HAS_P, False, NORM_EXPONENT, ACCUMULATOR,
        )  # fmt: skip
        out = y + token[:, None] * D + column[None, :]
        scale = tl.zeros((POSITIONS,), ACCUMULATOR) + 1
        if NORM_EXPONENT != 0:
            scale = scale_of(before + position + 1, NORM_EXPONENT, ACCUMULATOR)
        if KIND == "complex_decay":
            imaginary = values_of(
                x, p, token, position, column + 1, valid, before, D,
                True, HAS_P, False, NORM_EXPONENT, ACCUMULATOR,
            )  # fmt: skip
            c = _factors(a, gate, token, column, valid, 1, D, KIND, ACCUMULATOR)
            d = _factors(a, gate, token, column + 1, valid, 0, D, KIND, ACCUMULATOR)
            c, d, sums, imaginary = tl.associative_scan(
                (c, d, sums, imaginary), 0, _combine_complex
            )
            sums += c * h[None, :] - d * k[None, :]
            imaginary += c * k[None, :] + d * h[None, :]
            k = row_at(imaginary, POSITIONS - 1, POSITIONS)
            imaginary *= scale[:, None]
            tl.store(out + 1, imaginary.to(y.dtype.element_ty), mask=valid)
        elif KIND == "prefix_sum":
            sums = tl.cumsum(sums, 0) + h[None, :]
        else:
            c = _factors(a, gate, token, column, valid, 1, D, KIND, ACCUMULATOR)
            c, sums = tl.associative_scan((c, sums), 0, _combine)
            sums += c * h[None, :]
        h = row_at(sums, POSITIONS - 1, POSITIONS)
        sums *= scale[:, None]
        tl.store(out, sums.to(y.dtype.element_ty), mask=valid)
    if HAS_END:
        tl.store(end + s * D + column, h, mask=inside)
        if KIND == "complex_decay":
            tl.store(end + s * D + column + 1, k, mask=inside)


@triton.jit
def run_backward(
    y_grad,
    a,
    gate,
    gradient,
    states,
    initial,
    tokens_before,
    lengths,
    rows,
    positions,
    starts,
    counts,
    v_grad,
    a_grads,
    gate_grad,
    end,
    D,
    KIND: tl.constexpr,
    HAS_V: tl.constexpr,
    HAS_END: tl.constexpr,
    NORM_EXPONENT: tl.constexpr,
    ACCUMULATOR: tl.constexpr,
    POSITIONS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Run every chunk back from its `gradient`; with HAS_END store its first g in `end`."""
    s = tl.program_id(0).to(tl.int64)
    row, first, start, count = (
        tl.load(rows + s),
        tl.load(positions + s),
        tl.load(starts + s),
        tl.load(counts + s),
    )
    length, before = tl.load(lengths + row), tl.load(tokens_before + row)
    column, inside = channels_of(D, KIND, CHANNELS)
    g = tl.load(gradient + s * D + column, mask=inside, other=0)
    k = g
    if KIND == "complex_decay":
        k = tl.load(gradient + s * D + column + 1, mask=inside, other=0)
    a_grad = tl.zeros((CHANNELS,), ACCUMULATOR)
    b_grad = tl.zeros((CHANNELS,), ACCUMULATOR)
    tiles = tl.cdiv(count, POSITIONS)
    for i in range(tiles):
        t = (tiles - 1 - i) * POSITIONS + tl.arange(0, POSITIONS)
        token, position = start + t, first + t
        valid = (t < count)[:, None] & inside[None, :]
        offset = token[:, None] * D + column[None, :]
        sums = values_of(
            y_grad, y_grad, token, position, column, valid, before, D,
            HAS_V, False, True, NORM_EXPONENT, ACCUMULATOR,
        )  # fmt: skip
        if KIND == "prefix_sum":
            sums = tl.cumsum(sums, 0, reverse=True) + g[None, :]
        else:
            has_next = valid & (position + 1 < length)[:, None]
            has_previous = valid & (position > 0)[:, None]
            is_first = valid & (position == 0)[:, None]
            row_offset = row * D + column[None, :] + 0 * token[:, None]
            previous = tl.load(states + offset - D, mask=has_previous, other=0).to(ACCUMULATOR)
            previous += tl.load(initial + row_offset, mask=is_first, other=0)
            c = _factors(a, gate, token + 1, column, has_next, 1, D, KIND, ACCUMULATOR)
            if KIND == "complex_decay":
                previous_imaginary = tl.load(
                    states + offset + 1 - D, mask=has_previous, other=0
                ).to(ACCUMULATOR)
                previous_imaginary += tl.load(initial + row_offset + 1, mask=is_first, other=0)
                imaginary = values_of(
                    y_grad, y_grad, token, position, column + 1, valid, before, D,
                    HAS_V, False, True, NORM_EXPONENT, ACCUMULATOR,
                )  # fmt: skip
                d = -_factors(a, gate, token + 1, column + 1, has_next, 0, D, KIND, ACCUMULATOR)
                c, d, sums, imaginary = tl.associative_scan(
                    (c, d, sums, imaginary), 0, _combine_complex, reverse=True
                )
                sums += c * g[None, :] - d * k[None, :]
                imaginary += c * k[None, :] + d * g[None, :]
                k = row_at(imaginary, 0, POSITIONS)
                tl.store(v_grad + offset + 1, imaginary.to(v_grad.dtype.element_ty), mask=valid)
                a_grad += tl.sum(
                    tl.where(valid, sums * previous + imaginary * previous_imaginary, 0), 0
                )
                b_grad += tl.sum(
                    tl.where(valid, imaginary * previous - sums * previous_imaginary, 0), 0
                )
            else:
                c, sums = tl.associative_scan((c, sums), 0, _combine, reverse=True)
                sums += c * g[None, :]
                if KIND == "gated":
                    gate_tile = (sums * previous).to(gate_grad.dtype.element_ty)
                    tl.store(gate_grad + offset, gate_tile, mask=valid)
                else:
                    a_grad += tl.sum(tl.where(valid, sums * previous, 0), 0)
        g = row_at(sums, 0, POSITIONS)
        tl.store(v_grad + offset, sums.to(v_grad.dtype.element_ty), mask=valid)
    if KIND == "decay" or KIND == "complex_decay":
        tl.store(a_grads + s * D + column, a_grad, mask=inside)
    if KIND == "complex_decay":
        tl.store(a_grads + s * D + column + 1, b_grad, mask=inside)
    if HAS_END:
        tl.store(end + s * D + column, g, mask=inside)
        if KIND == "complex_decay":
            tl.store(end + s * D + column + 1, k, mask=inside)
