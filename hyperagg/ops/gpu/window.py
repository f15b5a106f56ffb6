"""Sliding windows on a GPU; `registration.window` and `window_backward` define them.

Blocks of `size` positions are summed from both ends, so nothing cancels.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from hyperagg.ops.gpu import tiles
from hyperagg.ops.gpu.tiles import (
    accumulator_types,
    blocks_of,
    channels_of,
    product_grads,
    row_at,
    scale_of,
    split_rows,
)

__all__ = ["window", "window_backward"]


@triton.jit
def _combine_blocks(begins, h, begins_next, h_next):
    # Selected and not multiplied by zero, so that NaN and infinity stay in their block.
    return begins | begins_next, tl.where(begins_next != 0, h_next, h + h_next)


@triton.jit
def _window_blocks(
    v,
    p,
    tokens_before,
    lengths,
    rows,
    positions,
    starts,
    counts,
    from_begin,
    from_end,
    size,
    D,
    HAS_P: tl.constexpr,
    BACKWARD: tl.constexpr,
    NORM_EXPONENT: tl.constexpr,
    ACCUMULATOR: tl.constexpr,
    POSITIONS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Sum blocks of `size` positions from both ends; every chunk starts at a block."""
    s = tl.program_id(0).to(tl.int64)
    row, first, start, count = (
        tl.load(rows + s),
        tl.load(positions + s),
        tl.load(starts + s),
        tl.load(counts + s),
    )
    before = tl.load(tokens_before + row)
    column, inside = channels_of(D, "prefix_sum", CHANNELS)
    number = tl.cdiv(count, POSITIONS)
    h = tl.zeros((CHANNELS,), ACCUMULATOR)
    k = tl.zeros((CHANNELS,), ACCUMULATOR)
    for i in range(2 * number):
        ascending = i < number
        t = tl.where(ascending, i, 2 * number - 1 - i) * POSITIONS + tl.arange(0, POSITIONS)
        token, position = start + t, first + t
        valid = (t < count)[:, None] & inside[None, :]
        offset = token[:, None] * D + column[None, :]
        terms = tl.load(v + offset, mask=valid, other=0).to(ACCUMULATOR)
        if HAS_P:
            terms *= tl.load(p + position[:, None] * D + column[None, :], mask=valid, other=0)
        if BACKWARD and NORM_EXPONENT != 0:
            terms *= scale_of(tl.minimum(before + position + 1, size), NORM_EXPONENT, ACCUMULATOR)[
                :, None
            ]
        if ascending:
            boundary = (position % size == 0)[:, None] & (column >= 0)[None, :]
            boundary, sums = tl.associative_scan((boundary.to(tl.int32), terms), 0, _combine_blocks)
            sums = tl.where(boundary != 0, sums, sums + h[None, :])
            h = row_at(sums, POSITIONS - 1, POSITIONS)
            tl.store(from_begin + offset, sums, mask=valid)
        else:
            boundary = ((position + 1) % size == 0)[:, None] & (column >= 0)[None, :]
            boundary, sums = tl.associative_scan(
                (boundary.to(tl.int32), terms), 0, _combine_blocks, reverse=True
            )
            sums = tl.where(boundary != 0, sums, sums + k[None, :])
            k = row_at(sums, 0, POSITIONS)
            tl.store(from_end + offset, sums, mask=valid)


@triton.jit
def _window_join(
    from_begin,
    from_end,
    tokens_before,
    lengths,
    rows,
    positions,
    starts,
    counts,
    y,
    size,
    D,
    BACKWARD: tl.constexpr,
    NORM_EXPONENT: tl.constexpr,
    ACCUMULATOR: tl.constexpr,
    POSITIONS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Add the end of one block and the start of the next, or take a whole block."""
    s = tl.program_id(0).to(tl.int64)
    row, first, start, count = (
        tl.load(rows + s),
        tl.load(positions + s),
        tl.load(starts + s),
        tl.load(counts + s),
    )
    length, before = tl.load(lengths + row), tl.load(tokens_before + row)
    column, inside = channels_of(D, "prefix_sum", CHANNELS)
    for i in range(tl.cdiv(count, POSITIONS)):
        t = i * POSITIONS + tl.arange(0, POSITIONS)
        position = first + t
        valid = (t < count)[:, None] & inside[None, :]
        offset = (start + t)[:, None] * D + column[None, :]
        if BACKWARD:
            end = tl.minimum(position + size - 1, length - 1)
            crosses = valid & (position // size != end // size)[:, None]
            other_offset = (start - first + end)[:, None] * D + column[None, :]
            sums = tl.load(from_end + offset, mask=valid, other=0)
            sums += tl.load(from_begin + other_offset, mask=crosses, other=0)
        else:
            begin = tl.maximum(position - size + 1, 0)
            crosses = valid & (position // size != begin // size)[:, None]
            other_offset = (start - first + begin)[:, None] * D + column[None, :]
            sums = tl.load(from_begin + offset, mask=valid, other=0)
            sums += tl.load(from_end + other_offset, mask=crosses, other=0)
            if NORM_EXPONENT != 0:
                sums *= scale_of(
                    tl.minimum(before + position + 1, size), NORM_EXPONENT, ACCUMULATOR
                )[:, None]
        tl.store(y + offset, sums.to(y.dtype.element_ty), mask=valid)


def window(
    x: Tensor,
    p: Tensor | None,
    tokens_before: Tensor | None,
    starts: Tensor,
    lengths: Tensor,
    size: int,
    norm_exponent: float,
) -> Tensor:
    """Run `registration.window`.

    Cost: reads x twice, and writes and reads two tensors of its shape in the accumulator type.
    """
    return _window_into(
        torch.zeros_like(x), x, p, tokens_before, starts, lengths, size, norm_exponent, False
    )


def window_backward(
    y_grad: Tensor,
    x: Tensor,
    p: Tensor | None,
    tokens_before: Tensor | None,
    starts: Tensor,
    lengths: Tensor,
    size: int,
    norm_exponent: float,
) -> tuple[Tensor, Tensor]:
    """Run `registration.window_backward`: the same sums towards the end of a row."""
    accumulator_dtype, _ = accumulator_types(x)
    v_grad = torch.zeros_like(x, dtype=x.dtype if p is None else accumulator_dtype)
    _window_into(v_grad, y_grad, None, tokens_before, starts, lengths, size, norm_exponent, True)
    if p is None:
        return v_grad, x.new_empty(0, x.shape[1], dtype=accumulator_dtype)
    if not len(starts) or not x.numel():
        return torch.zeros_like(x), torch.zeros_like(p)
    return product_grads(v_grad, x, p, starts, lengths)


def _window_into(
    y: Tensor,
    v: Tensor,
    p: Tensor | None,
    tokens_before: Tensor | None,
    starts: Tensor,
    lengths: Tensor,
    size: int,
    norm_exponent: float,
    backward: bool,
) -> Tensor:
    d = v.shape[1]
    if not len(starts) or not v.numel():
        return y
    accumulator_dtype, accumulator = accumulator_types(v)
    chunks = split_rows(starts, lengths, size * max(1, tiles.CHUNK_SIZE // size), len(v))
    channels, blocks = blocks_of(d, "prefix_sum")
    before = torch.zeros_like(lengths) if tokens_before is None else tokens_before
    from_begin, from_end = (torch.empty_like(v, dtype=accumulator_dtype) for _ in range(2))
    tile: dict[str, Any] = dict(
        BACKWARD=backward,
        NORM_EXPONENT=norm_exponent,
        ACCUMULATOR=accumulator,
        POSITIONS=tiles.TILE_POSITIONS,
        CHANNELS=channels,
    )
    _window_blocks[len(chunks.rows), blocks](
        *(v, v if p is None else p, before, lengths, *chunks.runs, from_begin, from_end, size, d),
        HAS_P=p is not None,
        **tile,
    )
    _window_join[len(chunks.rows), blocks](
        *(from_begin, from_end, before, lengths, *chunks.runs, y, size, d), **tile
    )
    return y
