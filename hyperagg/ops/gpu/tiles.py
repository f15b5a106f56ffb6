"""Shared parts of the Triton kernels: tiles of positions and channels, and chunks of rows.

The block sizes have not been tuned on a GPU.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = [
    "Chunks",
    "accumulator_types",
    "blocks_of",
    "channels_of",
    "chunks_of",
    "product_grads",
    "row_at",
    "scale_of",
    "split_rows",
    "values_of",
]

# Positions and channels of a tile: 16 elements for each of the 128 threads of a program.
TILE_POSITIONS = 32
TILE_CHANNELS = 64
# Positions of a chunk where rows are split.
CHUNK_SIZE = 256
# Programs that fill a large GPU. Rows are not split where there are so many without.
TARGET_PROGRAMS = 1024


@triton.jit
def row_at(tile, index, POSITIONS: tl.constexpr):
    position = tl.arange(0, POSITIONS)[:, None]
    return tl.sum(tl.where(position == index, tile, 0), 0)


@triton.jit
def scale_of(number, NORM_EXPONENT: tl.constexpr, ACCUMULATOR: tl.constexpr):
    number = tl.maximum(number, 1).to(ACCUMULATOR)
    if NORM_EXPONENT == 0.5:
        scale = 1 / tl.sqrt(number)
    elif NORM_EXPONENT == 1:
        scale = 1 / number
    else:
        scale = tl.exp(-NORM_EXPONENT * tl.log(number))
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
    token,
    position,
    column,
    valid,
    before,
    D,
    HAS_V: tl.constexpr,
    HAS_P: tl.constexpr,
    BACKWARD: tl.constexpr,
    NORM_EXPONENT: tl.constexpr,
    ACCUMULATOR: tl.constexpr,
):
    """What a step adds: x_t * p_t, or n_t^-b dy_t in the backward pass."""
    if HAS_V:
        tile = tl.load(v + token[:, None] * D + column[None, :], mask=valid, other=0).to(
            ACCUMULATOR
        )
    else:
        tile = tl.where(valid, 0, 0).to(ACCUMULATOR)
    if HAS_P:
        tile *= tl.load(p + position[:, None] * D + column[None, :], mask=valid, other=0)
    if BACKWARD and NORM_EXPONENT != 0:
        tile *= scale_of(before + position + 1, NORM_EXPONENT, ACCUMULATOR)[:, None]
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
    ACCUMULATOR: tl.constexpr,
    POSITIONS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Gradients of the products: a program owns positions of p for all rows of its group."""
    position = tl.program_id(0).to(tl.int64) * POSITIONS + tl.arange(0, POSITIONS)
    column, inside = channels_of(D, "prefix_sum", CHANNELS)
    p_offset = position[:, None] * D + column[None, :]
    p_valid = (position < P)[:, None] & inside[None, :]
    factor = tl.load(p + p_offset, mask=p_valid, other=0)
    p_grad = tl.zeros((POSITIONS, CHANNELS), ACCUMULATOR)
    begin = tl.program_id(2).to(tl.int64) * group
    for row in range(begin, tl.minimum(begin + group, R)):
        valid = p_valid & (position < tl.load(lengths + row))[:, None]
        offset = (tl.load(starts + row) + position)[:, None] * D + column[None, :]
        g = tl.load(v_grad + offset, mask=valid, other=0)
        p_grad += g * tl.load(x + offset, mask=valid, other=0).to(ACCUMULATOR)
        tl.store(x_grad + offset, (g * factor).to(x_grad.dtype.element_ty), mask=valid)
    tl.store(p_grads + tl.program_id(2).to(tl.int64) * P * D + p_offset, p_grad, mask=p_valid)


class Chunks(NamedTuple):
    """Runs of positions of rows, in the order of rows.

    Of each chunk (S,): its row, first position, first token and length. Surplus chunks are empty.
    Of each row (R,): its first chunk and the number of its chunks.
    """

    rows: Tensor
    positions: Tensor
    starts: Tensor
    counts: Tensor
    first_chunks: Tensor
    num_chunks: Tensor

    @property
    def runs(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self[:4]


def whole_rows(starts: Tensor, lengths: Tensor) -> Chunks:
    row = torch.arange(len(starts), device=starts.device)
    return Chunks(row, torch.zeros_like(row), starts, lengths, row, torch.ones_like(row))


def split_rows(starts: Tensor, lengths: Tensor, size: int, tokens: int) -> Chunks:
    """Return every row split at the multiples of `size`; an empty row stays one chunk."""
    num_chunks = ((lengths + size - 1) // size).clamp(min=1)
    ends = num_chunks.cumsum(0)
    s = torch.arange(tokens // size + len(starts), device=starts.device)
    row = torch.searchsorted(ends, s, right=True).clamp(max=len(starts) - 1)
    first_chunks = ends - num_chunks
    position = (s - first_chunks[row]) * size
    counts = (lengths[row] - position).clamp(0, size)
    return Chunks(row, position, starts[row] + position, counts, first_chunks, num_chunks)


def blocks_of(d: int, kind: str) -> tuple[int, int]:
    """Return the channels of a tile, and the number of tiles for all channels."""
    width = d // 2 if kind == "complex_decay" else d
    channels = min(TILE_CHANNELS, triton.next_power_of_2(width))
    return channels, triton.cdiv(width, channels)


def chunks_of(x: Tensor, starts: Tensor, lengths: Tensor, blocks: int) -> tuple[Chunks, bool]:
    """Return the chunks, and whether rows are split at all."""
    if len(starts) * blocks >= TARGET_PROGRAMS or len(x) <= CHUNK_SIZE:
        return whole_rows(starts, lengths), False
    return split_rows(starts, lengths, CHUNK_SIZE, len(x)), True


def accumulator_types(x: Tensor) -> tuple[torch.dtype, Any]:
    double = x.dtype == torch.float64
    return (torch.float64, tl.float64) if double else (torch.float32, tl.float32)


def product_grads(
    v_grad: Tensor, x: Tensor, p: Tensor, starts: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the gradients of x and p; where P is small, groups of rows run in parallel too."""
    d = x.shape[1]
    channels, blocks = blocks_of(d, "prefix_sum")
    position_blocks = triton.cdiv(len(p), TILE_POSITIONS)
    x_grad = torch.zeros_like(x)
    if not position_blocks:
        return x_grad, torch.zeros_like(p)
    groups = max(1, min(len(starts), TARGET_PROGRAMS // (position_blocks * blocks)))
    group = triton.cdiv(len(starts), groups)
    p_grads = p.new_empty(groups, *p.shape)
    _multiply_backward[position_blocks, blocks, groups](
        *(v_grad, x, p, starts, lengths, x_grad, p_grads, len(starts), len(p), d, group),
        ACCUMULATOR=accumulator_types(x)[1],
        POSITIONS=TILE_POSITIONS,
        CHANNELS=channels,
    )
    return x_grad, p_grads.sum(0)
