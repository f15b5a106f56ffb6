"""Windows on a GPU; `registration.window` and `window_backward` say what each computes.

Blocks of `size` places are summed from both ends, so nothing cancels.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from hyperagg.ops.gpu import tiles
from hyperagg.ops.gpu.tiles import (
    blocks_of,
    channels_of,
    cut_rows,
    product_grads,
    row_at,
    scale_of,
    wide_of,
)

__all__ = ["window", "window_backward"]


@triton.jit
def _join_blocks(begins, h, begins_next, h_next):
    # Chosen, not multiplied by zero: what is not finite must not leave its block.
    return begins | begins_next, tl.where(begins_next != 0, h_next, h + h_next)


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
    column, inside = channels_of(D, "prefix_sum", CHANNELS)
    number = tl.cdiv(count, PLACES)
    h = tl.zeros((CHANNELS,), WIDE)
    k = tl.zeros((CHANNELS,), WIDE)
    for i in range(2 * number):
        ascending = i < number
        t = tl.where(ascending, i, 2 * number - 1 - i) * PLACES + tl.arange(0, PLACES)
        at, place = start + t, first + t
        kept = (t < count)[:, None] & inside[None, :]
        here = at[:, None] * D + column[None, :]
        terms = tl.load(v + here, mask=kept, other=0).to(WIDE)
        if HAS_P:
            terms *= tl.load(p + place[:, None] * D + column[None, :], mask=kept, other=0)
        if BACKWARD and POWER != 0:
            terms *= scale_of(tl.minimum(seen + place + 1, size), POWER, WIDE)[:, None]
        if ascending:
            border = (place % size == 0)[:, None] & (column >= 0)[None, :]
            border, sums = tl.associative_scan((border.to(tl.int32), terms), 0, _join_blocks)
            sums = tl.where(border != 0, sums, sums + h[None, :])
            h = row_at(sums, PLACES - 1, PLACES)
            tl.store(from_begin + here, sums, mask=kept)
        else:
            border = ((place + 1) % size == 0)[:, None] & (column >= 0)[None, :]
            border, sums = tl.associative_scan(
                (border.to(tl.int32), terms), 0, _join_blocks, reverse=True
            )
            sums = tl.where(border != 0, sums, sums + k[None, :])
            k = row_at(sums, 0, PLACES)
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
    column, inside = channels_of(D, "prefix_sum", CHANNELS)
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
                sums *= scale_of(tl.minimum(seen + place + 1, size), POWER, WIDE)[:, None]
        tl.store(y + here, sums.to(y.dtype.element_ty), mask=kept)


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
    wide, _ = wide_of(x)
    v_grad = torch.zeros_like(x, dtype=x.dtype if p is None else wide)
    _window_into(v_grad, y_grad, None, before, starts, lengths, size, power, True)
    if p is None:
        return v_grad, x.new_empty(0, x.shape[1], dtype=wide)
    if not len(starts) or not x.numel():
        return torch.zeros_like(x), torch.zeros_like(p)
    return product_grads(v_grad, x, p, starts, lengths)


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
    wide, accumulator = wide_of(v)
    stretches = cut_rows(starts, lengths, size * max(1, tiles.STRETCH // size), len(v))
    channels, blocks = blocks_of(d, "prefix_sum")
    seen = torch.zeros_like(lengths) if before is None else before
    from_begin, from_end = (torch.empty_like(v, dtype=wide) for _ in range(2))
    tile: dict[str, Any] = dict(
        BACKWARD=backward,
        POWER=power,
        WIDE=accumulator,
        PLACES=tiles.TILE_PLACES,
        CHANNELS=channels,
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
