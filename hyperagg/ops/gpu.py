"""Triton kernels of the running sum and of windows; `registration` says what each one computes.

    h_t  =  a_t h_{t-1} + x_t * p_t                  y_t  =  n_t^-power h_t
    g_t  =  n_t^-power dy_t + conj(a_{t+1}) g_{t+1}   dx_t = g_t * p_t   da_t = g_t * conj(h_{t-1})

A program owns a stretch of a row's places and a block of channels, and goes through it in tiles.
Where rows are few they are cut: what each stretch adds and by what it multiplies what came before
is found first, then carried over from one to the next, then each is run from what was carried to
it. The host never waits: how rows are cut is worked out on the device, and the number of programs
follows from shapes; those that are too many find stretches of no tokens.

No sum is atomic, so results are the same bits every time. Sums are kept in float32, of float64 in
float64. A channel pair of a rotation is two tiles, of its real and of its imaginary parts.

Import this only where a tensor on a GPU asks for it: Triton is slow to import and optional.
Block sizes are not tuned: no GPU has timed them. One module, for the kernels share their tiles.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["scan", "scan_backward", "window", "window_backward"]

# Places and channels of a tile: sixteen numbers for each of the 128 threads of a program.
TILE_PLACES = 32
TILE_CHANNELS = 64
# Places of a stretch where rows are cut.
STRETCH = 256
# Programs that fill a large GPU; with so many rows and blocks of channels nothing is cut.
MANY_PROGRAMS = 1024


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
def _join_blocks(begins, h, begins_next, h_next):
    # Chosen, not multiplied by zero: what is not finite must not leave its block.
    return begins | begins_next, tl.where(begins_next != 0, h_next, h + h_next)


@triton.jit
def _row_at(tile, index, PLACES: tl.constexpr):
    place = tl.arange(0, PLACES)[:, None]
    return tl.sum(tl.where(place == index, tile, 0), 0)


@triton.jit
def _scale(number, POWER: tl.constexpr, WIDE: tl.constexpr):
    number = tl.maximum(number, 1).to(WIDE)
    if POWER == 0.5:
        scale = 1 / tl.sqrt(number)
    elif POWER == 1:
        scale = 1 / number
    else:
        scale = tl.exp(-POWER * tl.log(number))
    return scale


@triton.jit
def _channels(D, KIND: tl.constexpr, CHANNELS: tl.constexpr):
    column = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    if KIND == "rotation":
        column = 2 * column
    return column, column < D


@triton.jit
def _values(
    v,
    p,
    at,
    place,
    column,
    kept,
    seen,
    D,
    HAS_V: tl.constexpr,
    HAS_P: tl.constexpr,
    BACKWARD: tl.constexpr,
    POWER: tl.constexpr,
    WIDE: tl.constexpr,
):
    """What a step adds: x_t * p_t, or backward n_t^-power dy_t."""
    if HAS_V:
        tile = tl.load(v + at[:, None] * D + column[None, :], mask=kept, other=0).to(WIDE)
    else:
        tile = tl.where(kept, 0, 0).to(WIDE)
    if HAS_P:
        tile *= tl.load(p + place[:, None] * D + column[None, :], mask=kept, other=0)
    if BACKWARD and POWER != 0:
        tile *= _scale(seen + place + 1, POWER, WIDE)[:, None]
    return tile


@triton.jit
def _factors(a, gate, at, column, used, other, D, KIND: tl.constexpr, WIDE: tl.constexpr):
    """What a step leaves of the sum before it; `other` where it is not used."""
    if KIND == "gate":
        tile = tl.load(gate + at[:, None] * D + column[None, :], mask=used, other=0).to(WIDE)
    else:
        tile = tl.load(a + column[None, :] + 0 * at[:, None], mask=used, other=0).to(WIDE)
    return tl.where(used, tile, other)


@triton.jit
def _totals(
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
    column, inside = _channels(D, KIND, CHANNELS)
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
        values = _values(
            v, p, at, place, column, kept, seen, D,
            HAS_V, HAS_P, BACKWARD, POWER, WIDE,
        )  # fmt: skip
        if KIND == "sum":
            h += tl.sum(values, 0)
        else:
            used = kept
            if BACKWARD:
                used = kept & (place + 1 < length)[:, None]
                at += 1
            factors = _factors(a, gate, at, column, used, 1, D, KIND, WIDE)
            if KIND == "rotation":
                turns = _factors(a, gate, at, column + 1, used, 0, D, KIND, WIDE)
                if BACKWARD:
                    turns = -turns
                at, place = start + t, first + t
                imaginary = _values(
                    v, p, at, place, column + 1, kept, seen, D,
                    HAS_V, HAS_P, BACKWARD, POWER, WIDE,
                )  # fmt: skip
                factors, turns, values, imaginary = tl.associative_scan(
                    (factors, turns, values, imaginary), 0, _join_turns, reverse=BACKWARD
                )
                c, d = _row_at(factors, last, PLACES), _row_at(turns, last, PLACES)
                h, k = (
                    _row_at(values, last, PLACES) + c * h - d * k,
                    _row_at(imaginary, last, PLACES) + c * k + d * h,
                )
                q, r = c * q - d * r, c * r + d * q
            else:
                factors, values = tl.associative_scan((factors, values), 0, _join, reverse=BACKWARD)
                c = _row_at(factors, last, PLACES)
                h = _row_at(values, last, PLACES) + c * h
                q = c * q
    tl.store(total + s * D + column, h, mask=inside)
    if KIND != "sum":
        tl.store(product + s * D + column, q, mask=inside)
    if KIND == "rotation":
        tl.store(total + s * D + column + 1, k, mask=inside)
        tl.store(product + s * D + column + 1, r, mask=inside)


@triton.jit
def _carry(
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
    column, inside = _channels(D, KIND, CHANNELS)
    first, number = tl.load(firsts + row), tl.load(pieces + row)
    h = tl.load(begin + row * D + column, mask=inside, other=0)
    k = h
    if KIND == "rotation":
        k = tl.load(begin + row * D + column + 1, mask=inside, other=0)
    for i in range(number):
        at = (first + (number - 1 - i if BACKWARD else i)) * D + column
        tl.store(initial + at, h, mask=inside)
        added = tl.load(total + at, mask=inside, other=0)
        if KIND == "sum":
            h += added
        else:
            c = tl.load(product + at, mask=inside, other=0)
            if KIND == "rotation":
                tl.store(initial + at + 1, k, mask=inside)
                d = tl.load(product + at + 1, mask=inside, other=0)
                turned = tl.load(total + at + 1, mask=inside, other=0)
                h, k = c * h - d * k + added, c * k + d * h + turned
            else:
                h = c * h + added
    tl.store(end + row * D + column, h, mask=inside)
    if KIND == "rotation":
        tl.store(end + row * D + column + 1, k, mask=inside)


@triton.jit
def _scan(
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
    column, inside = _channels(D, KIND, CHANNELS)
    h = tl.load(initial + s * D + column, mask=inside, other=0)
    k = h
    if KIND == "rotation":
        k = tl.load(initial + s * D + column + 1, mask=inside, other=0)
    for i in range(tl.cdiv(count, PLACES)):
        t = i * PLACES + tl.arange(0, PLACES)
        at, place = start + t, first + t
        kept = (t < count)[:, None] & inside[None, :]
        sums = _values(
            x, p, at, place, column, kept, seen, D,
            True, HAS_P, False, POWER, WIDE,
        )  # fmt: skip
        out = y + at[:, None] * D + column[None, :]
        scale = tl.zeros((PLACES,), WIDE) + 1
        if POWER != 0:
            scale = _scale(seen + place + 1, POWER, WIDE)
        if KIND == "rotation":
            imaginary = _values(
                x, p, at, place, column + 1, kept, seen, D,
                True, HAS_P, False, POWER, WIDE,
            )  # fmt: skip
            c = _factors(a, gate, at, column, kept, 1, D, KIND, WIDE)
            d = _factors(a, gate, at, column + 1, kept, 0, D, KIND, WIDE)
            c, d, sums, imaginary = tl.associative_scan((c, d, sums, imaginary), 0, _join_turns)
            sums += c * h[None, :] - d * k[None, :]
            imaginary += c * k[None, :] + d * h[None, :]
            k = _row_at(imaginary, PLACES - 1, PLACES)
            imaginary *= scale[:, None]
            tl.store(out + 1, imaginary.to(y.dtype.element_ty), mask=kept)
        elif KIND == "sum":
            sums = tl.cumsum(sums, 0) + h[None, :]
        else:
            c = _factors(a, gate, at, column, kept, 1, D, KIND, WIDE)
            c, sums = tl.associative_scan((c, sums), 0, _join)
            sums += c * h[None, :]
        h = _row_at(sums, PLACES - 1, PLACES)
        sums *= scale[:, None]
        tl.store(out, sums.to(y.dtype.element_ty), mask=kept)
    if HAS_END:
        tl.store(end + s * D + column, h, mask=inside)
        if KIND == "rotation":
            tl.store(end + s * D + column + 1, k, mask=inside)


@triton.jit
def _scan_backward(
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
    column, inside = _channels(D, KIND, CHANNELS)
    g = tl.load(gradient + s * D + column, mask=inside, other=0)
    k = g
    if KIND == "rotation":
        k = tl.load(gradient + s * D + column + 1, mask=inside, other=0)
    a_grad = tl.zeros((CHANNELS,), WIDE)
    b_grad = tl.zeros((CHANNELS,), WIDE)
    tiles = tl.cdiv(count, PLACES)
    for i in range(tiles):
        t = (tiles - 1 - i) * PLACES + tl.arange(0, PLACES)
        at, place = start + t, first + t
        kept = (t < count)[:, None] & inside[None, :]
        here = at[:, None] * D + column[None, :]
        sums = _values(
            y_grad, y_grad, at, place, column, kept, seen, D,
            HAS_V, False, True, POWER, WIDE,
        )  # fmt: skip
        if KIND == "sum":
            sums = tl.cumsum(sums, 0, reverse=True) + g[None, :]
        else:
            follows = kept & (place + 1 < length)[:, None]
            later = kept & (place > 0)[:, None]
            begins = kept & (place == 0)[:, None]
            at_row = row * D + column[None, :] + 0 * at[:, None]
            earlier = tl.load(states + here - D, mask=later, other=0).to(WIDE)
            earlier += tl.load(initial + at_row, mask=begins, other=0)
            c = _factors(a, gate, at + 1, column, follows, 1, D, KIND, WIDE)
            if KIND == "rotation":
                turned = tl.load(states + here + 1 - D, mask=later, other=0).to(WIDE)
                turned += tl.load(initial + at_row + 1, mask=begins, other=0)
                imaginary = _values(
                    y_grad, y_grad, at, place, column + 1, kept, seen, D,
                    HAS_V, False, True, POWER, WIDE,
                )  # fmt: skip
                d = -_factors(a, gate, at + 1, column + 1, follows, 0, D, KIND, WIDE)
                c, d, sums, imaginary = tl.associative_scan(
                    (c, d, sums, imaginary), 0, _join_turns, reverse=True
                )
                sums += c * g[None, :] - d * k[None, :]
                imaginary += c * k[None, :] + d * g[None, :]
                k = _row_at(imaginary, 0, PLACES)
                tl.store(v_grad + here + 1, imaginary.to(v_grad.dtype.element_ty), mask=kept)
                a_grad += tl.sum(tl.where(kept, sums * earlier + imaginary * turned, 0), 0)
                b_grad += tl.sum(tl.where(kept, imaginary * earlier - sums * turned, 0), 0)
            else:
                c, sums = tl.associative_scan((c, sums), 0, _join, reverse=True)
                sums += c * g[None, :]
                if KIND == "gate":
                    opened = (sums * earlier).to(gate_grad.dtype.element_ty)
                    tl.store(gate_grad + here, opened, mask=kept)
                else:
                    a_grad += tl.sum(tl.where(kept, sums * earlier, 0), 0)
        g = _row_at(sums, 0, PLACES)
        tl.store(v_grad + here, sums.to(v_grad.dtype.element_ty), mask=kept)
    if KIND == "decay" or KIND == "rotation":
        tl.store(a_grads + s * D + column, a_grad, mask=inside)
    if KIND == "rotation":
        tl.store(a_grads + s * D + column + 1, b_grad, mask=inside)
    if HAS_END:
        tl.store(end + s * D + column, g, mask=inside)
        if KIND == "rotation":
            tl.store(end + s * D + column + 1, k, mask=inside)


@triton.jit
def _multiply_backward(
    v_grad,
    x,
    p,
    starts,
    lengths,
    x_grad,
    p_grads,
    R,
    P,
    D,
    group,
    WIDE: tl.constexpr,
    PLACES: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Gradients of x_t * p_t: a program owns places of p, for all rows of its group."""
    place = tl.program_id(0).to(tl.int64) * PLACES + tl.arange(0, PLACES)
    column, inside = _channels(D, "sum", CHANNELS)
    of_p = place[:, None] * D + column[None, :]
    on_p = (place < P)[:, None] & inside[None, :]
    factor = tl.load(p + of_p, mask=on_p, other=0)
    p_grad = tl.zeros((PLACES, CHANNELS), WIDE)
    begin = tl.program_id(2).to(tl.int64) * group
    for row in range(begin, tl.minimum(begin + group, R)):
        kept = on_p & (place < tl.load(lengths + row))[:, None]
        here = (tl.load(starts + row) + place)[:, None] * D + column[None, :]
        g = tl.load(v_grad + here, mask=kept, other=0)
        p_grad += g * tl.load(x + here, mask=kept, other=0).to(WIDE)
        tl.store(x_grad + here, (g * factor).to(x_grad.dtype.element_ty), mask=kept)
    tl.store(p_grads + tl.program_id(2).to(tl.int64) * P * D + of_p, p_grad, mask=on_p)


@triton.jit
def _window_blocks(
    v,
    p,
    before,
    lengths,
    rows,
    places,
    starts,
    counts,
    from_begin,
    from_end,
    size,
    D,
    HAS_P: tl.constexpr,
    BACKWARD: tl.constexpr,
    POWER: tl.constexpr,
    WIDE: tl.constexpr,
    PLACES: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Sums inside blocks of `size` places, from both ends; a stretch begins where a block does."""
    s = tl.program_id(0).to(tl.int64)
    row, first, start, count = (
        tl.load(rows + s),
        tl.load(places + s),
        tl.load(starts + s),
        tl.load(counts + s),
    )
    seen = tl.load(before + row)
    column, inside = _channels(D, "sum", CHANNELS)
    tiles = tl.cdiv(count, PLACES)
    h = tl.zeros((CHANNELS,), WIDE)
    k = tl.zeros((CHANNELS,), WIDE)
    for i in range(2 * tiles):
        ascending = i < tiles
        t = tl.where(ascending, i, 2 * tiles - 1 - i) * PLACES + tl.arange(0, PLACES)
        at, place = start + t, first + t
        kept = (t < count)[:, None] & inside[None, :]
        here = at[:, None] * D + column[None, :]
        terms = tl.load(v + here, mask=kept, other=0).to(WIDE)
        if HAS_P:
            terms *= tl.load(p + place[:, None] * D + column[None, :], mask=kept, other=0)
        if BACKWARD and POWER != 0:
            terms *= _scale(tl.minimum(seen + place + 1, size), POWER, WIDE)[:, None]
        if ascending:
            border = (place % size == 0)[:, None] & (column >= 0)[None, :]
            border, sums = tl.associative_scan((border.to(tl.int32), terms), 0, _join_blocks)
            sums = tl.where(border != 0, sums, sums + h[None, :])
            h = _row_at(sums, PLACES - 1, PLACES)
            tl.store(from_begin + here, sums, mask=kept)
        else:
            border = ((place + 1) % size == 0)[:, None] & (column >= 0)[None, :]
            border, sums = tl.associative_scan(
                (border.to(tl.int32), terms), 0, _join_blocks, reverse=True
            )
            sums = tl.where(border != 0, sums, sums + k[None, :])
            k = _row_at(sums, 0, PLACES)
            tl.store(from_end + here, sums, mask=kept)


@triton.jit
def _window_join(
    from_begin,
    from_end,
    before,
    lengths,
    rows,
    places,
    starts,
    counts,
    y,
    size,
    D,
    BACKWARD: tl.constexpr,
    POWER: tl.constexpr,
    WIDE: tl.constexpr,
    PLACES: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """A window is the end of one block and the beginning of the next, or a block."""
    s = tl.program_id(0).to(tl.int64)
    row, first, start, count = (
        tl.load(rows + s),
        tl.load(places + s),
        tl.load(starts + s),
        tl.load(counts + s),
    )
    length, seen = tl.load(lengths + row), tl.load(before + row)
    column, inside = _channels(D, "sum", CHANNELS)
    for i in range(tl.cdiv(count, PLACES)):
        t = i * PLACES + tl.arange(0, PLACES)
        place = first + t
        kept = (t < count)[:, None] & inside[None, :]
        here = (start + t)[:, None] * D + column[None, :]
        if BACKWARD:
            end = tl.minimum(place + size - 1, length - 1)
            crosses = kept & (place // size != end // size)[:, None]
            there = (start - first + end)[:, None] * D + column[None, :]
            sums = tl.load(from_end + here, mask=kept, other=0)
            sums += tl.load(from_begin + there, mask=crosses, other=0)
        else:
            begin = tl.maximum(place - size + 1, 0)
            crosses = kept & (place // size != begin // size)[:, None]
            there = (start - first + begin)[:, None] * D + column[None, :]
            sums = tl.load(from_begin + here, mask=kept, other=0)
            sums += tl.load(from_end + there, mask=crosses, other=0)
            if POWER != 0:
                sums *= _scale(tl.minimum(seen + place + 1, size), POWER, WIDE)[:, None]
        tl.store(y + here, sums.to(y.dtype.element_ty), mask=kept)


class _Stretches(NamedTuple):
    """Runs of places of rows, row by row: row, first place, first token, length of each (S,).

    Those beyond the last have no tokens. Of each row (R,), its first stretch and their number.
    """

    rows: Tensor
    places: Tensor
    starts: Tensor
    counts: Tensor
    firsts: Tensor
    pieces: Tensor

    @property
    def runs(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self[:4]


def _whole_rows(starts: Tensor, lengths: Tensor) -> _Stretches:
    row = torch.arange(len(starts), device=starts.device)
    return _Stretches(row, torch.zeros_like(row), starts, lengths, row, torch.ones_like(row))


def _cut_rows(starts: Tensor, lengths: Tensor, size: int, tokens: int) -> _Stretches:
    """Every row cut at the multiples of `size`; a row without tokens stays one stretch."""
    pieces = ((lengths + size - 1) // size).clamp(min=1)
    ends = pieces.cumsum(0)
    s = torch.arange(tokens // size + len(starts), device=starts.device)
    row = torch.searchsorted(ends, s, right=True).clamp(max=len(starts) - 1)
    firsts = ends - pieces
    place = (s - firsts[row]) * size
    counts = (lengths[row] - place).clamp(0, size)
    return _Stretches(row, place, starts[row] + place, counts, firsts, pieces)


def _blocks(d: int, kind: str) -> tuple[int, int]:
    """The channels of a tile, and how many tiles hold all of them."""
    width = d // 2 if kind == "rotation" else d
    channels = min(TILE_CHANNELS, triton.next_power_of_2(width))
    return channels, triton.cdiv(width, channels)


def _stretches(x: Tensor, starts: Tensor, lengths: Tensor, blocks: int) -> tuple[_Stretches, bool]:
    """How rows are cut, and whether they are."""
    if len(starts) * blocks >= MANY_PROGRAMS or len(x) <= STRETCH:
        return _whole_rows(starts, lengths), False
    return _cut_rows(starts, lengths, STRETCH, len(x)), True


def _wide(x: Tensor) -> tuple[torch.dtype, Any]:
    double = x.dtype == torch.float64
    return (torch.float64, tl.float64) if double else (torch.float32, tl.float32)


def _kind(decay: Tensor | None, gate: Tensor | None) -> str:
    if gate is not None:
        return "gate"
    if decay is not None:
        return "decay" if decay.ndim == 1 else "rotation"
    return "sum"


def scan(
    x: Tensor,
    p: Tensor | None,
    decay: Tensor | None,
    gate: Tensor | None,
    initial: Tensor | None,
    before: Tensor | None,
    starts: Tensor,
    lengths: Tensor,
    power: float,
    pooled: bool,
) -> tuple[Tensor, Tensor]:
    """`registration.scan`. Cost: reads x once, twice where rows are cut, and writes y twice."""
    wide, _ = _wide(x)
    y = x.new_empty(0, x.shape[1]) if pooled else torch.zeros_like(x)
    carried = _scan_into(
        None if pooled else y,
        *(x, p, decay, gate, initial, before, starts, lengths, power, wide),
    )
    return y, carried


def _scan_into(
    y: Tensor | None,
    x: Tensor,
    p: Tensor | None,
    decay: Tensor | None,
    gate: Tensor | None,
    initial: Tensor | None,
    before: Tensor | None,
    starts: Tensor,
    lengths: Tensor,
    power: float,
    wide: torch.dtype,
) -> Tensor:
    """Fills y, where there is one, at the tokens of rows; returns the last sums of rows."""
    rows, d = len(starts), x.shape[1]
    begin = x.new_zeros(rows, d, dtype=wide) if initial is None else initial
    if not rows or not x.numel():
        return begin.clone()
    kind, (_, accumulator) = _kind(decay, gate), _wide(x)
    channels, blocks = _blocks(d, kind)
    stretches, cut = _stretches(x, starts, lengths, blocks)
    seen = torch.zeros_like(lengths) if before is None else before
    inputs = (x, x if p is None else p, x if decay is None else decay, x if gate is None else gate)
    tile = dict(WIDE=accumulator, PLACES=TILE_PLACES, CHANNELS=channels)
    carried = torch.empty_like(begin)
    if cut or y is None:
        first, carried = _carried(
            *(x, p, decay, gate, seen, lengths, stretches, begin, power, False)
        )
    else:
        first = begin
    if y is not None:
        _scan[len(stretches.rows), blocks](
            *(*inputs, first, seen, *stretches.runs, y, carried, d),
            KIND=kind,
            HAS_P=p is not None,
            HAS_END=not cut,
            POWER=power,
            **tile,
        )
    return carried


def _carried(
    v: Tensor | None,
    p: Tensor | None,
    decay: Tensor | None,
    gate: Tensor | None,
    seen: Tensor,
    lengths: Tensor,
    stretches: _Stretches,
    begin: Tensor,
    power: float,
    backward: bool,
) -> tuple[Tensor, Tensor]:
    """What each stretch starts from (S, D), and what the rows end with (R, D)."""
    kind, number, d = _kind(decay, gate), len(stretches.rows), begin.shape[1]
    channels, blocks = _blocks(d, kind)
    total = begin.new_empty(number, d)
    product = begin.new_empty(0 if kind == "sum" else number, d)
    _totals[number, blocks](
        begin if v is None else v,
        begin if p is None else p,
        begin if decay is None else decay,
        begin if gate is None else gate,
        *(seen, lengths, *stretches.runs, total, product, d),
        KIND=kind,
        HAS_V=v is not None,
        HAS_P=p is not None,
        BACKWARD=backward,
        POWER=power,
        WIDE=_wide(begin)[1],
        PLACES=TILE_PLACES,
        CHANNELS=channels,
    )
    first, end = torch.empty_like(total), torch.empty_like(begin)
    _carry[len(lengths), blocks](
        *(total, product, stretches.firsts, stretches.pieces, begin, first, end, d),
        KIND=kind,
        BACKWARD=backward,
        CHANNELS=channels,
    )
    return first, end


def scan_backward(
    y_grad: Tensor | None,
    carried_grad: Tensor | None,
    x: Tensor,
    p: Tensor | None,
    decay: Tensor | None,
    gate: Tensor | None,
    initial: Tensor | None,
    before: Tensor | None,
    starts: Tensor,
    lengths: Tensor,
    y: Tensor,
    power: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """`registration.scan_backward`. Cost: reads y_grad once, twice where rows are cut; with p also
    writes and reads the gradients of the products once, in the wide type."""
    rows, d = len(starts), x.shape[1]
    wide, accumulator = _wide(x)
    kind = _kind(decay, gate)
    begin = x.new_zeros(rows, d, dtype=wide) if carried_grad is None else carried_grad
    gate_grad = x.new_empty(0, d) if gate is None else torch.zeros_like(gate)
    a_grad = x.new_zeros(0, dtype=wide) if decay is None else torch.zeros_like(decay)
    if not rows or not x.numel():
        p_grad = x.new_zeros(0 if p is None else len(p), d, dtype=wide)
        return torch.zeros_like(x), p_grad, a_grad, gate_grad, begin.clone()
    channels, blocks = _blocks(d, kind)
    stretches, cut = _stretches(x, starts, lengths, blocks)
    seen = torch.zeros_like(lengths) if before is None else before
    first_state = x.new_zeros(rows, d, dtype=wide) if initial is None else initial
    states = x
    if kind != "sum":
        states = y
        if power or len(y) != len(x) or y.dtype != wide:
            # y is not the running sum, or not all of its digits.
            states = torch.empty_like(x, dtype=wide)
            _scan_into(states, x, p, decay, gate, initial, before, starts, lengths, 0.0, wide)
    if cut:
        gradient, end = _carried(
            *(y_grad, None, decay, gate, seen, lengths, stretches, begin, power, True)
        )
    else:
        gradient, end = begin, torch.empty_like(begin)
    v_grad = torch.zeros_like(x) if p is None else torch.empty_like(x, dtype=wide)
    a_grads = x.new_empty(0 if decay is None else len(stretches.rows), d, dtype=wide)
    _scan_backward[len(stretches.rows), blocks](
        x if y_grad is None else y_grad,
        x if decay is None else decay,
        x if gate is None else gate,
        *(gradient, states, first_state, seen, lengths),
        *(*stretches.runs, v_grad, a_grads, gate_grad, end, d),
        KIND=kind,
        HAS_V=y_grad is not None,
        HAS_END=not cut,
        POWER=power,
        WIDE=accumulator,
        PLACES=TILE_PLACES,
        CHANNELS=channels,
    )
    if decay is not None:
        a_grad = a_grads.sum(0).view_as(decay)
    # `end` is the gradient of the first sum; a row without tokens has handed its own on.
    if kind == "gate":
        assert gate is not None
        opened = gate[starts.clamp(max=len(x) - 1)].to(wide)
        end = torch.where(lengths[:, None] > 0, end * opened, end)
    elif kind == "decay":
        assert decay is not None
        end = torch.where(lengths[:, None] > 0, end * decay, end)
    elif kind == "rotation":
        assert decay is not None
        pairs = end.view(rows, -1, 2)
        turned = torch.view_as_complex(pairs) * torch.view_as_complex(decay).conj()
        end = torch.where(lengths[:, None, None] > 0, torch.view_as_real(turned), pairs).flatten(1)
    if p is None:
        return v_grad, x.new_empty(0, d, dtype=wide), a_grad, gate_grad, end
    x_grad, p_grad = _product_grads(v_grad, x, p, starts, lengths)
    return x_grad, p_grad, a_grad, gate_grad, end


def _product_grads(
    v_grad: Tensor, x: Tensor, p: Tensor, starts: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of x_t * p_t; few places are shared out to groups of rows as well."""
    d = x.shape[1]
    channels, blocks = _blocks(d, "sum")
    places = triton.cdiv(len(p), TILE_PLACES)
    x_grad = torch.zeros_like(x)
    if not places:
        return x_grad, torch.zeros_like(p)
    groups = max(1, min(len(starts), MANY_PROGRAMS // (places * blocks)))
    group = triton.cdiv(len(starts), groups)
    p_grads = p.new_empty(groups, *p.shape)
    _multiply_backward[places, blocks, groups](
        *(v_grad, x, p, starts, lengths, x_grad, p_grads, len(starts), len(p), d, group),
        WIDE=_wide(x)[1],
        PLACES=TILE_PLACES,
        CHANNELS=channels,
    )
    return x_grad, p_grads.sum(0)


def window(
    x: Tensor,
    p: Tensor | None,
    before: Tensor | None,
    starts: Tensor,
    lengths: Tensor,
    size: int,
    power: float,
) -> Tensor:
    """`registration.window`. Cost: reads x twice; writes and reads two sums of its shape, in the
    wide type. Blocks of `size` places are summed from both ends, so nothing cancels."""
    return _window_into(torch.zeros_like(x), x, p, before, starts, lengths, size, power, False)


def window_backward(
    y_grad: Tensor,
    x: Tensor,
    p: Tensor | None,
    before: Tensor | None,
    starts: Tensor,
    lengths: Tensor,
    size: int,
    power: float,
) -> tuple[Tensor, Tensor]:
    """`registration.window_backward`: the same sums, towards the end of a row."""
    wide, _ = _wide(x)
    v_grad = torch.zeros_like(x, dtype=x.dtype if p is None else wide)
    _window_into(v_grad, y_grad, None, before, starts, lengths, size, power, True)
    if p is None:
        return v_grad, x.new_empty(0, x.shape[1], dtype=wide)
    if not len(starts) or not x.numel():
        return torch.zeros_like(x), torch.zeros_like(p)
    return _product_grads(v_grad, x, p, starts, lengths)


def _window_into(
    y: Tensor,
    v: Tensor,
    p: Tensor | None,
    before: Tensor | None,
    starts: Tensor,
    lengths: Tensor,
    size: int,
    power: float,
    backward: bool,
) -> Tensor:
    d = v.shape[1]
    if not len(starts) or not v.numel():
        return y
    wide, accumulator = _wide(v)
    stretches = _cut_rows(starts, lengths, size * max(1, STRETCH // size), len(v))
    channels, blocks = _blocks(d, "sum")
    seen = torch.zeros_like(lengths) if before is None else before
    from_begin, from_end = (torch.empty_like(v, dtype=wide) for _ in range(2))
    tile: dict[str, Any] = dict(
        BACKWARD=backward, POWER=power, WIDE=accumulator, PLACES=TILE_PLACES, CHANNELS=channels
    )
    _window_blocks[len(stretches.rows), blocks](
        *(v, v if p is None else p, seen, lengths, *stretches.runs, from_begin, from_end, size, d),
        HAS_P=p is not None,
        **tile,
    )
    _window_join[len(stretches.rows), blocks](
        *(from_begin, from_end, seen, lengths, *stretches.runs, y, size, d), **tile
    )
    return y
