"""What the Triton kernels share: tiles of places and channels, and how rows are cut into stretches.

Block sizes are not tuned: no GPU has timed them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = [
    "Stretches",
    "blocks_of",
    "channels_of",
    "cut_rows",
    "product_grads",
    "row_at",
    "scale_of",
    "stretches_of",
    "values_of",
    "wide_of",
]

# Places and channels of a tile: sixteen numbers for each of the 128 threads of a program.
TILE_PLACES = 32
TILE_CHANNELS = 64
# Places of a stretch where rows are cut.
STRETCH = 256
# Programs that fill a large GPU; with so many rows and blocks of channels nothing is cut.
MANY_PROGRAMS = 1024


@triton.jit
def row_at(tile, index, PLACES: tl.constexpr):
    place = tl.arange(0, PLACES)[:, None]
    return tl.sum(tl.where(place == index, tile, 0), 0)


@triton.jit
def scale_of(number, POWER: tl.constexpr, WIDE: tl.constexpr):
    number = tl.maximum(number, 1).to(WIDE)
    if POWER == 0.5:
        scale = 1 / tl.sqrt(number)
    elif POWER == 1:
        scale = 1 / number
    else:
        scale = tl.exp(-POWER * tl.log(number))
    return scale


@triton.jit
def channels_of(D, KIND: tl.constexpr, CHANNELS: tl.constexpr):
    column = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    if KIND == "complex_decay":
        column = 2 * column
    return column, column < D


@triton.jit
def values_of(
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
        tile *= scale_of(seen + place + 1, POWER, WIDE)[:, None]
    return tile


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
    column, inside = channels_of(D, "prefix_sum", CHANNELS)
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


class Stretches(NamedTuple):
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


def whole_rows(starts: Tensor, lengths: Tensor) -> Stretches:
    row = torch.arange(len(starts), device=starts.device)
    return Stretches(row, torch.zeros_like(row), starts, lengths, row, torch.ones_like(row))


def cut_rows(starts: Tensor, lengths: Tensor, size: int, tokens: int) -> Stretches:
    """Every row cut at the multiples of `size`; a row without tokens stays one stretch."""
    pieces = ((lengths + size - 1) // size).clamp(min=1)
    ends = pieces.cumsum(0)
    s = torch.arange(tokens // size + len(starts), device=starts.device)
    row = torch.searchsorted(ends, s, right=True).clamp(max=len(starts) - 1)
    firsts = ends - pieces
    place = (s - firsts[row]) * size
    counts = (lengths[row] - place).clamp(0, size)
    return Stretches(row, place, starts[row] + place, counts, firsts, pieces)


def blocks_of(d: int, kind: str) -> tuple[int, int]:
    """The channels of a tile, and how many tiles hold all of them."""
    width = d // 2 if kind == "complex_decay" else d
    channels = min(TILE_CHANNELS, triton.next_power_of_2(width))
    return channels, triton.cdiv(width, channels)


def stretches_of(x: Tensor, starts: Tensor, lengths: Tensor, blocks: int) -> tuple[Stretches, bool]:
    """How rows are cut, and whether they are."""
    if len(starts) * blocks >= MANY_PROGRAMS or len(x) <= STRETCH:
        return whole_rows(starts, lengths), False
    return cut_rows(starts, lengths, STRETCH, len(x)), True


def wide_of(x: Tensor) -> tuple[torch.dtype, Any]:
    double = x.dtype == torch.float64
    return (torch.float64, tl.float64) if double else (torch.float32, tl.float32)


def product_grads(
    v_grad: Tensor, x: Tensor, p: Tensor, starts: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of x_t * p_t; few places are shared out to groups of rows as well."""
    d = x.shape[1]
    channels, blocks = blocks_of(d, "prefix_sum")
    places = triton.cdiv(len(p), TILE_PLACES)
    x_grad = torch.zeros_like(x)
    if not places:
        return x_grad, torch.zeros_like(p)
    groups = max(1, min(len(starts), MANY_PROGRAMS // (places * blocks)))
    group = triton.cdiv(len(starts), groups)
    p_grads = p.new_empty(groups, *p.shape)
    _multiply_backward[places, blocks, groups](
        *(v_grad, x, p, starts, lengths, x_grad, p_grads, len(starts), len(p), d, group),
        WIDE=wide_of(x)[1],
        PLACES=TILE_PLACES,
        CHANNELS=channels,
    )
    return x_grad, p_grads.sum(0)
