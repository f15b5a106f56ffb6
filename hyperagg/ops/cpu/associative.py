"""Numba kernels of associative sums, token by token: on CPUs that is faster than matrix products.

    forward    S' = Diag(a) S_prev    u = beta (v - S'^T k)    S = S' + k u^T    o = S^T q
    backward   dS += q do^T    dq = S do    du = dS^T k    dk = dS u
               dbeta = du . (v - S'^T k)    dv = beta du    dr = -beta du
               dk += S' dr    dS' = dS + k dr^T    da = rowsum(dS' * S_prev)
               dS_prev = Diag(a) dS'

Without the delta rule u = v and dr = 0. The columns of S, one per value channel, never meet; only
dq, dk, dbeta and da are sums over them. A forward task is a block of columns of one head of one
row, and a backward task is one head of one row, whose blocks it takes in order. Tasks depend on
shapes alone, so the bits do not depend on the number of threads.

The backward pass keeps S before every chunk of tokens and computes it again inside a chunk. To run
the recurrence backwards instead would divide by a and by 1 - beta.

S and all sums are float32. bfloat16 is passed as uint16.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hyperagg._numba import simd
from hyperagg._numba.cache import njit
from hyperagg._numba.simd import VECTOR_WIDTH
from hyperagg._numba.threads import even_borders, parts, run_on_team
from hyperagg.ops.cpu.intrinsics import narrow, widen

__all__ = ["Gradients", "Inputs", "associative", "associative_backward"]

# Value columns of a block: S stays in the first-level cache up to 256 keys.
COLUMNS = 2 * VECTOR_WIDTH
# Tokens between two states that the backward pass keeps. The states of a chunk take 256 kB for 32
# keys, which a second-level cache holds.
CHUNK_SIZE = 64


class Inputs(NamedTuple):
    """The inputs of the kernels.

    Attributes:
        q, k: (T, H, K) queries and keys.
        v: (T, H, E) values.
        beta: (T, H) float32; (0, H) without the delta rule.
        decay: (T, H, 1) or (T, H, K) float32 factors; (0, H, 1) for none.
        initial: (R, H, K, E) float32, the states before the first tokens.
        starts, lengths: (R,) the first token and the number of tokens of each row.
    """

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    beta: np.ndarray
    decay: np.ndarray
    initial: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray


class Gradients(NamedTuple):
    """The gradients of the inputs, in their shapes and types."""

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    beta: np.ndarray
    decay: np.ndarray
    initial: np.ndarray


def associative(inputs: Inputs, o: np.ndarray, sums: np.ndarray) -> None:
    """Fill o (T, H, E) and the last state of every row, sums (R, H, K, E).

    Cost: reads q and k once per block of columns and v once, and writes o once.
    """
    _, heads, width = inputs.v.shape
    num_keys, blocks = inputs.q.shape[2], -(-width // COLUMNS)
    ranges = _ranges(inputs.lengths, heads * blocks, num_keys * min(width, COLUMNS))
    run_on_team(_forward, ranges, *inputs, o, sums)


def associative_backward(
    inputs: Inputs, o_grad: np.ndarray, sums_grad: np.ndarray, grads: Gradients
) -> None:
    """Fill the gradients of the inputs of `associative` from those of its outputs.

    Cost: about four times the time of `associative`, and memory for K E / 64 numbers per token of
    the rows that are being computed.
    """
    _, heads, width = inputs.v.shape
    ranges = _ranges(inputs.lengths, heads, 4 * inputs.q.shape[2] * width)
    run_on_team(_backward, ranges, o_grad, sums_grad, *inputs, *grads)


def _ranges(lengths: np.ndarray, tasks_per_row: int, work_per_token: int) -> np.ndarray:
    """The tasks of each thread; a row has `tasks_per_row` of them."""
    costs = np.repeat(lengths, tasks_per_row)
    return even_borders(costs, parts(int(costs.sum()) * work_per_token))


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def _load_tokens(q, k, beta, decay, token, head, count, queries, keys, factors, scaled_keys, betas):
    """Copy what `count` tokens from `token` on have in common for all value columns.

    scaled_keys is factors * keys; factors and betas are one where they are absent.
    """
    # Loops over slices: Numba allows for negative indices into a row of a larger array.
    for t in range(count):
        _copy(q[token + t, head], queries[t])
        _copy(k[token + t, head], keys[t])
        key, factor, scaled_key = keys[t], factors[t], scaled_keys[t]
        if len(decay) == 0:
            factor[:] = 1
        elif decay.shape[2] == 1:
            factor[:] = decay[token + t, head, 0]
        else:
            _copy(decay[token + t, head], factor)
        for j in range(len(key)):
            scaled_key[j] = factor[j] * key[j]
        betas[t] = beta[token + t, head] if len(beta) else np.float32(1)


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def _copy(row, out):
    for j in range(len(row)):
        out[j] = narrow(widen(row[j]), out)


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def _subtract(row, out):
    for c in range(len(row)):
        out[c] -= row[c]


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def _multiply(factor, row, out):
    for c in range(len(row)):
        out[c] = narrow(factor * row[c], out)


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def _bind(
    table, before, after, keys, factors, scaled_keys, betas, t, has_beta, read, residuals, i, bound,
    size, vectors,
):  # fmt: skip
    """Set the state at row `after` of a table from the one at row `before`, for token t.

    residuals[i] holds v on entry, and v - S'^T k on return; `bound` holds u.
    """
    if has_beta:
        simd.product(read, 0, scaled_keys, t, table, before, keys.shape[1], 0, vectors)
        _subtract(read[0, :size], residuals[i])
    _multiply(betas[t], residuals[i, :size], bound[0])
    simd.scale_and_add_outer(
        table, after, factors, t, table, before, keys, t, bound, 0, keys.shape[1], 0, vectors
    )


@njit(nogil=True, cache=True, fastmath={"contract"})
def _forward(first, last, q, k, v, beta, decay, initial, starts, lengths, o, sums):
    heads, num_keys, width = q.shape[1], q.shape[2], v.shape[2]
    blocks = -(-width // COLUMNS)
    state = np.empty((num_keys, COLUMNS), dtype=np.float32)
    queries = np.empty((1, num_keys), dtype=np.float32)
    keys, factors, scaled_keys = (
        np.empty_like(queries),
        np.empty_like(queries),
        np.empty_like(queries),
    )
    betas = np.empty(1, dtype=np.float32)
    values = np.empty((1, COLUMNS), dtype=np.float32)
    read, bound = np.empty_like(values), np.empty_like(values)
    for task in range(first, last):
        row, head, begin = (
            task // (heads * blocks),
            task // blocks % heads,
            task % blocks * COLUMNS,
        )
        size = min(width - begin, COLUMNS)
        vectors = -(-size // VECTOR_WIDTH)
        # The lanes beyond the last column stay zero.
        state[:], values[:], bound[:] = 0, 0, 0
        for j in range(num_keys):
            for c in range(size):
                state[j, c] = initial[row, head, j, begin + c]
        for token in range(starts[row], starts[row] + lengths[row]):
            _load_tokens(
                q, k, beta, decay, token, head, 1, queries, keys, factors, scaled_keys, betas
            )
            _copy(v[token, head, begin : begin + size], values[0])
            _bind(
                state, 0, 0, keys, factors, scaled_keys, betas, 0, len(beta) > 0, read, values, 0,
                bound, size, vectors,
            )  # fmt: skip
            simd.product(read, 0, queries, 0, state, 0, num_keys, 0, vectors)
            _copy(read[0, :size], o[token, head, begin : begin + size])
        for j in range(num_keys):
            for c in range(size):
                sums[row, head, j, begin + c] = state[j, c]


@njit(nogil=True, cache=True, fastmath={"contract"})
def _backward(
    first,
    last,
    o_grad,
    sums_grad,
    q,
    k,
    v,
    beta,
    decay,
    initial,
    starts,
    lengths,
    q_grad,
    k_grad,
    v_grad,
    beta_grad,
    decay_grad,
    initial_grad,
):
    heads, num_keys, width = q.shape[1], q.shape[2], v.shape[2]
    blocks = -(-width // COLUMNS)
    has_beta, has_decay = len(beta) > 0, len(decay) > 0
    # The states of a chunk, each before its token, and the one after the last.
    trace = np.empty(((CHUNK_SIZE + 1) * num_keys, COLUMNS), dtype=np.float32)
    gradient = np.empty((blocks * num_keys, COLUMNS), dtype=np.float32)
    queries = np.empty((CHUNK_SIZE, num_keys), dtype=np.float32)
    keys, factors, scaled_keys = (
        np.empty_like(queries),
        np.empty_like(queries),
        np.empty_like(queries),
    )
    query_grads, key_grads, factor_grads = (
        np.empty_like(queries),
        np.empty_like(queries),
        np.empty_like(queries),
    )
    betas = np.empty(CHUNK_SIZE, dtype=np.float32)
    beta_grads = np.empty_like(betas)
    residuals = np.empty((CHUNK_SIZE, COLUMNS), dtype=np.float32)
    read = np.empty((1, COLUMNS), dtype=np.float32)
    bound, output_grad, bound_grad, read_grad = (
        np.empty_like(read),
        np.empty_like(read),
        np.empty_like(read),
        np.empty_like(read),
    )
    for task in range(first, last):
        row, head = task // heads, task % heads
        n, start = lengths[row], starts[row]
        chunks = -(-n // CHUNK_SIZE)
        checkpoints = np.zeros((max(1, chunks) * blocks * num_keys, COLUMNS), dtype=np.float32)
        gradient[:] = 0
        for j in range(num_keys):
            for c in range(width):
                i = c // COLUMNS * num_keys + j
                checkpoints[i, c % COLUMNS] = initial[row, head, j, c]
                gradient[i, c % COLUMNS] = sums_grad[row, head, j, c]
        # The states before all chunks, then the chunks from the last to the first.
        for i in range(2 * chunks - 1):
            forward = i < chunks - 1
            chunk = i if forward else 2 * chunks - 2 - i
            token = start + chunk * CHUNK_SIZE
            count = min(CHUNK_SIZE, start + n - token)
            _load_tokens(
                q, k, beta, decay, token, head, count, queries, keys, factors, scaled_keys, betas
            )
            if not forward:
                query_grads[:], key_grads[:], factor_grads[:], beta_grads[:] = 0, 0, 0, 0
            for block in range(blocks):
                begin, base = block * COLUMNS, block * num_keys
                size = min(width - begin, COLUMNS)
                vectors = -(-size // VECTOR_WIDTH)
                # The lanes beyond the last column stay zero.
                residuals[:], bound[:], output_grad[:], read_grad[:] = 0, 0, 0, 0
                saved = chunk * blocks * num_keys + base
                trace[:num_keys] = checkpoints[saved : saved + num_keys]
                for t in range(count):
                    _copy(v[token + t, head, begin : begin + size], residuals[t])
                    _bind(
                        trace, t * num_keys, (t + 1) * num_keys, keys, factors, scaled_keys, betas,
                        t, has_beta, read, residuals, t, bound, size, vectors,
                    )  # fmt: skip
                if forward:
                    saved += blocks * num_keys
                    end = count * num_keys
                    checkpoints[saved : saved + num_keys] = trace[end : end + num_keys]
                    continue
                for t in range(count - 1, -1, -1):
                    _copy(o_grad[token + t, head, begin : begin + size], output_grad[0])
                    _multiply(betas[t], residuals[t, :size], bound[0])
                    query, key, factor = queries[t], keys[t], factors[t]
                    query_grad, key_grad, factor_grad = (
                        query_grads[t],
                        key_grads[t],
                        factor_grads[t],
                    )
                    own = simd.dot(bound, 0, output_grad, 0, 0, vectors)
                    for j in range(num_keys):
                        by_bound, by_state = simd.add_then_scale(
                            gradient, base + j, query[j], output_grad, 0, np.float32(1),
                            bound, 0, trace, t * num_keys + j, 0, vectors,
                        )  # fmt: skip
                        key_grad[j] += by_bound
                        query_grad[j] += factor[j] * by_state + key[j] * own
                    simd.product(bound_grad, 0, keys, t, gradient, base, num_keys, 0, vectors)
                    beta_grads[t] += simd.dot(bound_grad, 0, residuals, t, 0, vectors)
                    value_grad = v_grad[token + t, head, begin : begin + size]
                    _multiply(betas[t], bound_grad[0, :size], value_grad)
                    if has_beta:
                        _multiply(-betas[t], bound_grad[0, :size], read_grad[0])
                    for j in range(num_keys):
                        saved_row = t * num_keys + j
                        by_factor, by_read = simd.add_then_scale(
                            gradient, base + j, key[j], read_grad, 0, factor[j],
                            trace, saved_row, trace, saved_row, 0, vectors,
                        )  # fmt: skip
                        factor_grad[j] += by_factor
                        key_grad[j] += factor[j] * by_read
            if forward:
                continue
            for t in range(count):
                if has_beta:
                    beta_grad[token + t, head] = beta_grads[t]
                _copy(query_grads[t], q_grad[token + t, head])
                _copy(key_grads[t], k_grad[token + t, head])
                if has_decay and decay.shape[2] > 1:
                    _copy(factor_grads[t], decay_grad[token + t, head])
                elif has_decay:
                    total = np.float32(0)
                    for j in range(num_keys):
                        total += factor_grads[t, j]
                    decay_grad[token + t, head, 0] = total
        for j in range(num_keys):
            for c in range(width):
                i = c // COLUMNS * num_keys + j
                initial_grad[row, head, j, c] = gradient[i, c % COLUMNS]
