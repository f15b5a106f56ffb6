"""Associative sums on a GPU, token by token; `associative_registration` defines the operators.

`hyperagg.ops.cpu.associative` has the formulas. A program owns a block of value columns of one head
of one row and keeps its part of S in registers. The columns never meet, except that dq, dk, dbeta
and da are sums over them: each block writes its own part, and the parts are summed afterwards.

The backward pass keeps S before every chunk of tokens, and computes it again inside a chunk.

The sizes have not been tuned on a GPU.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["associative", "associative_backward"]

# Elements of the part of S that a program keeps: 16 for each of its 128 threads.
TILE_SIZE = 2048
# Tokens between two states that the backward pass keeps.
CHUNK_SIZE = 32


@triton.jit
def _block_of_state(K, E, KEYS: tl.constexpr, COLUMNS: tl.constexpr):
    """The key channels and value columns of a program, their offsets in S, and which exist."""
    channel = tl.arange(0, KEYS)
    column = tl.program_id(2) * COLUMNS + tl.arange(0, COLUMNS)
    offset = channel[:, None] * E + column[None, :]
    return channel, column, offset, (channel < K)[:, None] & (column < E)[None, :]


@triton.jit
def _load(x, at, lane, size):
    """Load vector `at` of x (..., size) as float32, with zeros in the lanes beyond it."""
    return tl.load(x + at * size + lane, mask=lane < size, other=0).to(tl.float32)


@triton.jit
def _bind(state, k, v, beta, decay, at, channel, column, K, E, DECAY_PER_KEY: tl.constexpr):
    """Bind a token of a head: return S, and its key, its beta, its factors, S' and v - S'^T k.

    `at` is the number of the token times that of heads, plus the number of the head.
    """
    key, residual = _load(k, at, channel, K), _load(v, at, column, E)
    factors = tl.full(key.shape, 1, tl.float32)
    if decay is not None:
        if DECAY_PER_KEY:
            factors = _load(decay, at, channel, K)
        else:
            factors *= tl.load(decay + at)
    decayed = factors[:, None] * state
    step = 1.0
    if beta is not None:
        step = tl.load(beta + at)
        residual -= tl.sum(decayed * key[:, None], 0)
    state = decayed + key[:, None] * (step * residual)[None, :]
    return state, key, step, factors, decayed, residual


@triton.jit
def _forward(
    q,
    k,
    v,
    beta,
    decay,
    initial,
    starts,
    lengths,
    first_chunks,
    o,
    sums,
    checkpoints,
    H,
    K,
    E,
    DECAY_PER_KEY: tl.constexpr,
    CHUNK: tl.constexpr,
    KEYS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Fill o and the last states `sums`, or else the states before every chunk, `checkpoints`."""
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    channel, column, offset, inside = _block_of_state(K, E, KEYS, COLUMNS)
    offset_of_row = (row * H + head) * K * E + offset
    state = tl.load(initial + offset_of_row, mask=inside, other=0)
    start = tl.load(starts + row)
    for t in range(tl.load(lengths + row)):
        at = (start + t) * H + head
        if checkpoints is not None:
            saved = (tl.load(first_chunks + row) + t // CHUNK) * H + head
            is_first = inside & (t % CHUNK == 0)
            tl.store(checkpoints + saved * K * E + offset, state, mask=is_first)
        state = _bind(state, k, v, beta, decay, at, channel, column, K, E, DECAY_PER_KEY)[0]
        if o is not None:
            read = tl.sum(state * _load(q, at, channel, K)[:, None], 0)
            tl.store(o + at * E + column, read, mask=column < E)
    if sums is not None:
        tl.store(sums + offset_of_row, state, mask=inside)


@triton.jit
def _backward(
    o_grad,
    sums_grad,
    q,
    k,
    v,
    beta,
    decay,
    starts,
    lengths,
    first_chunks,
    checkpoints,
    trace,
    q_grads,
    k_grads,
    v_grad,
    beta_grads,
    decay_grads,
    initial_grad,
    T,
    H,
    K,
    E,
    DECAY_PER_KEY: tl.constexpr,
    CHUNK: tl.constexpr,
    KEYS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Fill the gradients of v and of the first states, and the parts of the other gradients.

    trace (R, H, CHUNK, K, E) is memory for the states before the tokens of the current chunk.
    """
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    channel, column, offset, inside = _block_of_state(K, E, KEYS, COLUMNS)
    gradient = tl.load(sums_grad + (row * H + head) * K * E + offset, mask=inside, other=0)
    trace += (row * H + head) * CHUNK * K * E + offset
    start, length = tl.load(starts + row), tl.load(lengths + row)
    first_part = tl.program_id(2).to(tl.int64) * T * H
    num_chunks = tl.cdiv(length, CHUNK)
    for i in range(num_chunks):
        chunk = num_chunks - 1 - i
        first, count = start + chunk * CHUNK, tl.minimum(length - chunk * CHUNK, CHUNK)
        saved = (tl.load(first_chunks + row) + chunk) * H + head
        state = tl.load(checkpoints + saved * K * E + offset, mask=inside, other=0)
        for t in range(count):
            tl.store(trace + t * K * E, state, mask=inside)
            at = (first + t) * H + head
            state = _bind(state, k, v, beta, decay, at, channel, column, K, E, DECAY_PER_KEY)[0]
        # A thread may read what another one has written.
        tl.debug_barrier()
        for s in range(count):
            t = count - 1 - s
            at = (first + t) * H + head
            part = first_part + at
            before = tl.load(trace + t * K * E, mask=inside, other=0)
            state, key, step, factors, decayed, residual = _bind(
                before, k, v, beta, decay, at, channel, column, K, E, DECAY_PER_KEY
            )
            query, output_grad = _load(q, at, channel, K), _load(o_grad, at, column, E)
            gradient += query[:, None] * output_grad[None, :]
            query_grad = tl.sum(state * output_grad[None, :], 1)
            bound_grad = tl.sum(gradient * key[:, None], 0)
            key_grad = tl.sum(gradient * (step * residual)[None, :], 1)
            value_grad = step * bound_grad
            if beta is not None:
                tl.store(beta_grads + part, tl.sum(bound_grad * residual, 0))
                key_grad -= tl.sum(decayed * value_grad[None, :], 1)
                gradient -= key[:, None] * value_grad[None, :]
            if decay is not None:
                factor_grad = tl.sum(gradient * before, 1)
                if DECAY_PER_KEY:
                    tl.store(decay_grads + part * K + channel, factor_grad, mask=channel < K)
                else:
                    tl.store(decay_grads + part, tl.sum(factor_grad, 0))
            gradient *= factors[:, None]
            tl.store(q_grads + part * K + channel, query_grad, mask=channel < K)
            tl.store(k_grads + part * K + channel, key_grad, mask=channel < K)
            tl.store(v_grad + at * E + column, value_grad, mask=column < E)
        tl.debug_barrier()
    tl.store(initial_grad + (row * H + head) * K * E + offset, gradient, mask=inside)


def associative(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor | None,
    decay: Tensor | None,
    initial: Tensor | None,
    starts: Tensor,
    lengths: Tensor,
) -> tuple[Tensor, Tensor]:
    """Run `associative_registration.associative`.

    Cost: reads q and k once per block of columns and v once, and writes o twice.
    """
    tokens = _contiguous(q, k, v, beta, decay)
    initial = _states(initial, q, v, starts)
    o = torch.zeros_like(v, memory_format=torch.contiguous_format)
    sums = torch.empty_like(initial)
    grid, sizes = _launch(q, v, decay, starts)
    _forward[grid](*tokens, initial, starts, lengths, None, o, sums, None, **sizes)
    return o, sums


def associative_backward(
    o_grad: Tensor | None,
    sums_grad: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor | None,
    decay: Tensor | None,
    initial: Tensor | None,
    starts: Tensor,
    lengths: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Run `associative_registration.associative_backward`.

    Cost: computes the states twice again. Takes memory for K E numbers per head for every 32nd
    token and for 32 tokens of each row, and for dq, dk, dbeta and da of every block of columns.
    """
    tokens = _contiguous(q, k, v, beta, decay)
    o_grad = torch.zeros_like(v) if o_grad is None else o_grad
    initial, sums_grad = (_states(each, q, v, starts) for each in (initial, sums_grad))
    grid, sizes = _launch(q, v, decay, starts)
    num_chunks = (lengths + CHUNK_SIZE - 1) // CHUNK_SIZE
    rows = starts, lengths, num_chunks.cumsum(0) - num_chunks
    most_chunks = len(q) // CHUNK_SIZE + len(starts)
    checkpoints = initial.new_empty(most_chunks, *initial.shape[1:])
    _forward[grid](*tokens, initial, *rows, None, None, checkpoints, **sizes)

    q_parts, k_parts, beta_parts, decay_parts = (
        None if each is None else initial.new_zeros(grid[2], *each.shape)
        for each in (q, k, beta, decay)
    )
    v_grad = torch.zeros_like(v, memory_format=torch.contiguous_format)
    initial_grad = torch.empty_like(initial)
    _backward[grid](
        *(o_grad.contiguous(), sums_grad, *tokens, *rows, checkpoints),
        initial.new_empty(*initial.shape[:2], CHUNK_SIZE, *initial.shape[2:]),
        *(q_parts, k_parts, v_grad, beta_parts, decay_parts, initial_grad),
        T=len(q),
        **sizes,
    )
    q_grad, k_grad, beta_grad, decay_grad = (
        initial.new_empty(0) if parts is None else parts.sum(0)
        for parts in (q_parts, k_parts, beta_parts, decay_parts)
    )
    return q_grad.to(q.dtype), k_grad.to(k.dtype), v_grad, beta_grad, decay_grad, initial_grad


def _contiguous(*tensors: Tensor | None) -> list[Tensor | None]:
    return [None if each is None else each.contiguous() for each in tensors]


def _states(given: Tensor | None, q: Tensor, v: Tensor, starts: Tensor) -> Tensor:
    """States or their gradients, (R, H, K, E) float32; zeros if there are none."""
    if given is not None:
        return given.contiguous()
    return q.new_zeros(len(starts), *q.shape[1:], v.shape[2], dtype=torch.float32)


def _launch(
    q: Tensor, v: Tensor, decay: Tensor | None, starts: Tensor
) -> tuple[tuple[int, int, int], dict[str, Any]]:
    """The programs, one for each row, head and block of columns, and the sizes for the kernels."""
    _, heads, keys = q.shape
    width = v.shape[2]
    tile_keys = triton.next_power_of_2(max(1, keys))
    columns = min(triton.next_power_of_2(max(1, width)), max(1, TILE_SIZE // tile_keys))
    sizes = dict(
        H=heads,
        K=keys,
        E=width,
        DECAY_PER_KEY=decay is not None and decay.shape[2] > 1,
        CHUNK=CHUNK_SIZE,
        KEYS=tile_keys,
        COLUMNS=columns,
    )
    return (len(starts), heads, triton.cdiv(width, columns)), sizes
