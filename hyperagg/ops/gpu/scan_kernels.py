"""The Triton kernels of the running sum.

    h_t  =  a_t h_{t-1} + x_t * p_t                  y_t  =  n_t^-power h_t
    g_t  =  n_t^-power dy_t + conj(a_{t+1}) g_{t+1}   dx_t = g_t * p_t   da_t = g_t * conj(h_{t-1})

A program owns a stretch of a row's places and a block of channels, and goes through it in tiles. A
channel pair of a rotation is two tiles, of its real and of its imaginary parts.
"""

from __future__ import annotations

import triton
import triton.language as tl

from hyperagg.ops.gpu.tiles import channels_of, row_at, scale_of, values_of

__all__ = ["carry", "run", "run_backward", "totals"]


@triton.jit
def _join(a, h, a_next, h_next):
    return a * a_next, a_next * h + h_next


@triton.jit
def _join_turns(a, b, h, k, a_next, b_next, h_next, k_next):
    return (
        a * a_next - b * b_next,
        a * b_next + b * a_next,
        a_next * h - b_next * k + h_next,
        a_next * k + b_next * h + k_next,
    )


@triton.jit
def _factors(a, gate, at, column, used, other, D, KIND: tl.constexpr, WIDE: tl.constexpr):
    """What a step leaves of the sum before it; `other` where it is not used."""
    if KIND == "gated":
        tile = tl.load(gate + at[:, None] * D + column[None, :], mask=used, other=0).to(WIDE)
    else:
        tile = tl.load(a + column[None, :] + 0 * at[:, None], mask=used, other=0).to(WIDE)
    return tl.where(used, tile, other)


@triton.jit
def totals(
    v,
    p,
    a,
    gate,
    before,
    lengths,
    rows,
    places,
    starts,
    counts,
    total,
    product,
    D,
    KIND: tl.constexpr,
    HAS_V: tl.constexpr,
    HAS_P: tl.constexpr,
    BACKWARD: tl.constexpr,
    POWER: tl.constexpr,
    WIDE: tl.constexpr,
    PLACES: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """What each stretch adds, and the factor by which it takes over what came before."""
    s = tl.program_id(0).to(tl.int64)
    row, first, start, count = (
        tl.load(rows + s),
        tl.load(places + s),
        tl.load(starts + s),
        tl.load(counts + s),
    )
    length, seen = tl.load(lengths + row), tl.load(before + row)
    column, inside = channels_of(D, KIND, CHANNELS)
    h = tl.zeros((CHANNELS,), WIDE)
    k = tl.zeros((CHANNELS,), WIDE)
    q = tl.zeros((CHANNELS,), WIDE) + 1
    r = tl.zeros((CHANNELS,), WIDE)
    last = 0 if BACKWARD else PLACES - 1
    tiles = tl.cdiv(count, PLACES)
    for i in range(tiles):
        t = (tiles - 1 - i if BACKWARD else i) * PLACES + tl.arange(0, PLACES)
        at, place = start + t, first + t
        kept = (t < count)[:, None] & inside[None, :]
        values = values_of(
            v, p, at, place, column, kept, seen, D,
            HAS_V, HAS_P, BACKWARD, POWER, WIDE,
        )  # fmt: skip
        if KIND == "prefix_sum":
            h += tl.sum(values, 0)
        else:
            used = kept
            if BACKWARD:
                used = kept & (place + 1 < length)[:, None]
                at += 1
            factors = _factors(a, gate, at, column, used, 1, D, KIND, WIDE)
            if KIND == "complex_decay":
                turns = _factors(a, gate, at, column + 1, used, 0, D, KIND, WIDE)
                if BACKWARD:
                    turns = -turns
                at, place = start + t, first + t
                imaginary = values_of(
                    v, p, at, place, column + 1, kept, seen, D,
                    HAS_V, HAS_P, BACKWARD, POWER, WIDE,
                )  # fmt: skip
                factors, turns, values, imaginary = tl.associative_scan(
                    (factors, turns, values, imaginary), 0, _join_turns, reverse=BACKWARD
                )
                c, d = row_at(factors, last, PLACES), row_at(turns, last, PLACES)
                h, k = (
                    row_at(values, last, PLACES) + c * h - d * k,
                    row_at(imaginary, last, PLACES) + c * k + d * h,
                )
                q, r = c * q - d * r, c * r + d * q
            else:
                factors, values = tl.associative_scan((factors, values), 0, _join, reverse=BACKWARD)
                c = row_at(factors, last, PLACES)
                h = row_at(values, last, PLACES) + c * h
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
    firsts,
    pieces,
    begin,
    initial,
    end,
    D,
    KIND: tl.constexpr,
    BACKWARD: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Hands the sum of each row from stretch to stretch: initial[s] is what stretch s starts
    from, end (R, D) what the row ends with after it began with `begin`."""
    row = tl.program_id(0).to(tl.int64)
    column, inside = channels_of(D, KIND, CHANNELS)
    first, number = tl.load(firsts + row), tl.load(pieces + row)
    h = tl.load(begin + row * D + column, mask=inside, other=0)
    k = h
    if KIND == "complex_decay":
        k = tl.load(begin + row * D + column + 1, mask=inside, other=0)
    for i in range(number):
        at = (first + (number - 1 - i if BACKWARD else i)) * D + column
        tl.store(initial + at, h, mask=inside)
        added = tl.load(total + at, mask=inside, other=0)
        if KIND == "prefix_sum":
            h += added
        else:
            c = tl.load(product + at, mask=inside, other=0)
            if KIND == "complex_decay":
                tl.store(initial + at + 1, k, mask=inside)
                d = tl.load(product + at + 1, mask=inside, other=0)
                turned = tl.load(total + at + 1, mask=inside, other=0)
                h, k = c * h - d * k + added, c * k + d * h + turned
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
    before,
    rows,
    places,
    starts,
    counts,
    y,
    end,
    D,
    KIND: tl.constexpr,
    HAS_P: tl.constexpr,
    HAS_END: tl.constexpr,
    POWER: tl.constexpr,
    WIDE: tl.constexpr,
    PLACES: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Runs every stretch from its `initial`; with HAS_END leaves its last sum in `end`."""
    s = tl.program_id(0).to(tl.int64)
    row, first, start, count = (
        tl.load(rows + s),
        tl.load(places + s),
        tl.load(starts + s),
        tl.load(counts + s),
    )
    seen = tl.load(before + row)
    column, inside = channels_of(D, KIND, CHANNELS)
    h = tl.load(initial + s * D + column, mask=inside, other=0)
    k = h
    if KIND == "complex_decay":
        k = tl.load(initial + s * D + column + 1, mask=inside, other=0)
    for i in range(tl.cdiv(count, PLACES)):
        t = i * PLACES + tl.arange(0, PLACES)
        at, place = start + t, first + t
        kept = (t < count)[:, None] & inside[None, :]
        sums = values_of(
            x, p, at, place, column, kept, seen, D,
            True, HAS_P, False, POWER, WIDE,
        )  # fmt: skip
        out = y + at[:, None] * D + column[None, :]
        scale = tl.zeros((PLACES,), WIDE) + 1
        if POWER != 0:
            scale = scale_of(seen + place + 1, POWER, WIDE)
        if KIND == "complex_decay":
            imaginary = values_of(
                x, p, at, place, column + 1, kept, seen, D,
                True, HAS_P, False, POWER, WIDE,
            )  # fmt: skip
            c = _factors(a, gate, at, column, kept, 1, D, KIND, WIDE)
            d = _factors(a, gate, at, column + 1, kept, 0, D, KIND, WIDE)
            c, d, sums, imaginary = tl.associative_scan((c, d, sums, imaginary), 0, _join_turns)
            sums += c * h[None, :] - d * k[None, :]
            imaginary += c * k[None, :] + d * h[None, :]
            k = row_at(imaginary, PLACES - 1, PLACES)
            imaginary *= scale[:, None]
            tl.store(out + 1, imaginary.to(y.dtype.element_ty), mask=kept)
        elif KIND == "prefix_sum":
            sums = tl.cumsum(sums, 0) + h[None, :]
        else:
            c = _factors(a, gate, at, column, kept, 1, D, KIND, WIDE)
            c, sums = tl.associative_scan((c, sums), 0, _join)
            sums += c * h[None, :]
        h = row_at(sums, PLACES - 1, PLACES)
        sums *= scale[:, None]
        tl.store(out, sums.to(y.dtype.element_ty), mask=kept)
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
    before,
    lengths,
    rows,
    places,
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
    POWER: tl.constexpr,
    WIDE: tl.constexpr,
    PLACES: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Runs every stretch back from its `gradient`; with HAS_END leaves its first g in `end`."""
    s = tl.program_id(0).to(tl.int64)
    row, first, start, count = (
        tl.load(rows + s),
        tl.load(places + s),
        tl.load(starts + s),
        tl.load(counts + s),
    )
    length, seen = tl.load(lengths + row), tl.load(before + row)
    column, inside = channels_of(D, KIND, CHANNELS)
    g = tl.load(gradient + s * D + column, mask=inside, other=0)
    k = g
    if KIND == "complex_decay":
        k = tl.load(gradient + s * D + column + 1, mask=inside, other=0)
    a_grad = tl.zeros((CHANNELS,), WIDE)
    b_grad = tl.zeros((CHANNELS,), WIDE)
    tiles = tl.cdiv(count, PLACES)
    for i in range(tiles):
        t = (tiles - 1 - i) * PLACES + tl.arange(0, PLACES)
        at, place = start + t, first + t
        kept = (t < count)[:, None] & inside[None, :]
        here = at[:, None] * D + column[None, :]
        sums = values_of(
            y_grad, y_grad, at, place, column, kept, seen, D,
            HAS_V, False, True, POWER, WIDE,
        )  # fmt: skip
        if KIND == "prefix_sum":
            sums = tl.cumsum(sums, 0, reverse=True) + g[None, :]
        else:
            follows = kept & (place + 1 < length)[:, None]
            later = kept & (place > 0)[:, None]
            begins = kept & (place == 0)[:, None]
            at_row = row * D + column[None, :] + 0 * at[:, None]
            earlier = tl.load(states + here - D, mask=later, other=0).to(WIDE)
            earlier += tl.load(initial + at_row, mask=begins, other=0)
            c = _factors(a, gate, at + 1, column, follows, 1, D, KIND, WIDE)
            if KIND == "complex_decay":
                turned = tl.load(states + here + 1 - D, mask=later, other=0).to(WIDE)
                turned += tl.load(initial + at_row + 1, mask=begins, other=0)
                imaginary = values_of(
                    y_grad, y_grad, at, place, column + 1, kept, seen, D,
                    HAS_V, False, True, POWER, WIDE,
                )  # fmt: skip
                d = -_factors(a, gate, at + 1, column + 1, follows, 0, D, KIND, WIDE)
                c, d, sums, imaginary = tl.associative_scan(
                    (c, d, sums, imaginary), 0, _join_turns, reverse=True
                )
                sums += c * g[None, :] - d * k[None, :]
                imaginary += c * k[None, :] + d * g[None, :]
                k = row_at(imaginary, 0, PLACES)
                tl.store(v_grad + here + 1, imaginary.to(v_grad.dtype.element_ty), mask=kept)
                a_grad += tl.sum(tl.where(kept, sums * earlier + imaginary * turned, 0), 0)
                b_grad += tl.sum(tl.where(kept, imaginary * earlier - sums * turned, 0), 0)
            else:
                c, sums = tl.associative_scan((c, sums), 0, _join, reverse=True)
                sums += c * g[None, :]
                if KIND == "gated":
                    opened = (sums * earlier).to(gate_grad.dtype.element_ty)
                    tl.store(gate_grad + here, opened, mask=kept)
                else:
                    a_grad += tl.sum(tl.where(kept, sums * earlier, 0), 0)
        g = row_at(sums, 0, PLACES)
        tl.store(v_grad + here, sums.to(v_grad.dtype.element_ty), mask=kept)
    if KIND == "decay" or KIND == "complex_decay":
        tl.store(a_grads + s * D + column, a_grad, mask=inside)
    if KIND == "complex_decay":
        tl.store(a_grads + s * D + column + 1, b_grad, mask=inside)
    if HAS_END:
        tl.store(end + s * D + column, g, mask=inside)
        if KIND == "complex_decay":
            tl.store(end + s * D + column + 1, k, mask=inside)
