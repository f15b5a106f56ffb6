"""Trains the parameters of the classifier on blocks of documents, in parallel.

Forward, with w_t the weight of a token's occurrence (1 for the first one in its document, 1/2 for
the second, ...) and k(t) the block of positions that t lies in:

    s_k  =  sum of w_t e_t over the tokens of block k      c  =  sum_k p_k * s_k / sqrt(sum_t w_t^2)
    z    =  W c + b         loss  =  cross entropy of softmax(z), or of the sigmoid of each class

Backward, every token of a block of positions has the same gradient but for its weight, g * p_k with
g = W' dz / sqrt(sum_t w_t^2), and the gradient of p_k is g * s_k, so positions cost O(D) per block
instead of O(D) per token. Each row of E, P and W accumulates one number, the mean squares of its
gradients, and is updated with learning_rate / sqrt(that sum): Adagrad by rows (Duchi et al. 2011),
which accounts for the rarity of a token and touches only the rows that a document uses.

All gradients of a block of documents are those at its beginning. The documents of a block are
divided into shares, and the rows of all tables among owners. A block has two phases, and each has
tasks that any thread may compute:

    gradients: the tasks are the shares. For each owner, a share lists the tokens of its rows.
    updates:   the tasks are the owners. An owner applies the gradients to its rows, document by
               document.

Nothing here depends on the number of threads, so neither do the weights.

A step of Adagrad shrinks with the root of the number of gradients before it. A block grows with the
root of the number of documents before it, so the distance that a parameter may move within a block,
by which its gradients are out of date, never exceeds that of the first block.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from hyperagg._numba import simd, tasks
from hyperagg._numba.cache import njit
from hyperagg._numba.prefetch import prefetch
from hyperagg._numba.simd import VECTOR_WIDTH
from hyperagg.classifier.kernels.scoring import (
    PREFETCH_DISTANCE,
    block_end,
    block_of,
    num_blocks_of,
    scale_of,
)

__all__ = [
    "MIN_TOKENS_PER_TASK",
    "OWNERS",
    "SHARE",
    "Batch",
    "Parameters",
    "Plan",
    "StepConfig",
    "Workspace",
    "divide_into_blocks",
    "train_documents",
]

_F = np.float32
_EPSILON = _F(1e-12)
SHARE = 16  # documents, of which the first block of a training has as many
OWNERS = 64  # a power of two
_OWNER_BITS = 6
_MAX_TOKENS_PER_BLOCK = 32_768
_MAX_LOGITS_PER_BLOCK = 2**22  # which bounds the memory
# A phase has at most one task per so many tokens, since less work does not pay for a thread.
MIN_TOKENS_PER_TASK = 1024


class StepConfig(NamedTuple):
    """The settings of a call.

    Attributes:
        first_learning_rate, last_learning_rate: the learning rate decays linearly from the first
            to the last.
        label_smoothing: the probability that is spread over all classes.
        multi_label: whether a document may have any number of classes.
    """

    first_learning_rate: float
    last_learning_rate: float
    label_smoothing: float
    multi_label: bool


class Batch(NamedTuple):
    """Documents in the form that the kernels take.

    Attributes:
        token_ids: (T,) int32, the tokens of all documents.
        occurrence_weights: (T,) float32, the weight of each token.
        cu_seqlens: (B + 1,) int64, the boundaries of the documents in `token_ids`.
        target_ids: the classes of all documents, int32.
        target_boundaries: (B + 1,) int64, the boundaries of the documents in `target_ids`.
        document_weights: (B,) float32, the factor of the loss of each document.
    """

    token_ids: np.ndarray
    occurrence_weights: np.ndarray
    cu_seqlens: np.ndarray
    target_ids: np.ndarray
    target_boundaries: np.ndarray
    document_weights: np.ndarray


class Parameters(NamedTuple):
    """The parameters, their rows padded to whole vectors.

    Each table is followed by the accumulated mean squared gradients of its rows. Those of the
    embedding have beside them the factor of the learning rate of the row, since a step needs both
    at once. The embedding has the rows of one owner after those of another: see `row_of`.
    """

    embedding: np.ndarray
    embedding_state: np.ndarray
    positions: np.ndarray
    position_state: np.ndarray
    weight: np.ndarray
    weight_state: np.ndarray
    bias: np.ndarray
    bias_state: np.ndarray


class Plan(NamedTuple):
    """How the documents of a call are divided."""

    order: np.ndarray  # the indices of the documents
    boundaries: np.ndarray  # (blocks + 1,) of the blocks in `order`
    token_offsets: np.ndarray  # (documents + 1,) the number of tokens before, in this order


class Workspace(NamedTuple):
    """What the threads store about a block of S documents with T tokens in H shares."""

    contexts: np.ndarray  # (S, D), not scaled yet
    scales: np.ndarray  # (S,)
    context_squares: np.ndarray  # (S,) the mean squares of the scaled contexts
    logit_gradients: np.ndarray  # (S, C)
    context_gradients: np.ndarray  # (S, D), of the contexts before they are scaled
    token_squares: np.ndarray  # (S, blocks) the mean squares of the gradients of tokens
    positions: np.ndarray  # (blocks, D), as they are at the beginning
    position_gradients: np.ndarray  # (H * blocks, D)
    position_squares: np.ndarray  # (H, blocks)
    list_ends: np.ndarray  # (H, OWNERS) where the list of each owner ends
    rows: np.ndarray  # (T,) the rows of tokens, by share and owner
    sources: np.ndarray  # (T,) their document and block of positions
    weights: np.ndarray  # (T,) their occurrence weights
    sums: np.ndarray  # (threads * blocks, D)
    logits: np.ndarray  # (threads, C)
    channels: int  # without the padding


def divide_into_blocks(
    batch: Batch, order: np.ndarray, documents_before: int, classes: int
) -> tuple[Plan, int, int]:
    """Return the plan of a call, and the maximum numbers of documents and tokens per block.

    Args:
        batch: the documents.
        order: the indices of the documents.
        documents_before: the number of documents that were trained on before, in all epochs.
        classes: the number of classes.
    """
    most = _MAX_LOGITS_PER_BLOCK // classes
    offsets = np.zeros(len(order) + 1, dtype=np.int64)
    np.cumsum(batch.cu_seqlens[order + 1] - batch.cu_seqlens[order], out=offsets[1:])
    boundaries = [0]
    while (first := boundaries[-1]) < len(order):
        fitting = np.searchsorted(offsets, offsets[first] + _MAX_TOKENS_PER_BLOCK, "right") - 1
        documents = min(math.isqrt(documents_before + first), int(fitting) - first, most)
        boundaries.append(min(first + max(SHARE, documents // SHARE * SHARE), len(order)))
    borders = np.array(boundaries)
    tokens = np.diff(offsets[borders]).max(initial=0)
    return Plan(order, borders, offsets), int(np.diff(borders).max(initial=0)), int(tokens)


@njit(nogil=True, cache=True, inline="always")
def row_of(token, rows_per_owner):
    """Return the row of a token in the embedding; its owner is token % OWNERS."""
    return (np.int64(token) & (OWNERS - 1)) * rows_per_owner + (np.int64(token) >> _OWNER_BITS)


@njit(nogil=True, cache=True, inline="always")
def _softmax_gradient(logits, target, smoothing, weight, gradient):
    """Fill `gradient` with dz of the smoothed cross entropy and return the loss."""
    classes = len(logits)
    maximum = logits[0]
    for c in range(classes):
        maximum = max(maximum, logits[c])
    norm = 0.0
    for c in range(classes):
        odds = math.exp(logits[c] - maximum)
        gradient[c] = _F(odds)
        norm += odds
    log_norm = math.log(norm) + maximum
    loss = 0.0
    for c in range(classes):
        target_probability = smoothing / classes + (1 - smoothing if c == target else 0.0)
        loss += target_probability * (log_norm - logits[c])
        gradient[c] = _F(weight * (gradient[c] / norm - target_probability))
    return weight * loss


@njit(nogil=True, cache=True, inline="always")
def _sigmoid_gradient(logits, targets, smoothing, class_weights, document_weight, gradient):
    """Do the same for one binary cross entropy per class; the weight of a class applies to the
    documents in it."""
    loss = 0.0
    gradient[:] = _F(0)
    for c in targets:
        gradient[c] = _F(1)
    for c in range(len(logits)):
        is_target = gradient[c]
        weight = (class_weights[c] if is_target else 1.0) * document_weight
        target_probability = is_target * (1 - smoothing) + smoothing / 2
        odds = math.exp(-abs(logits[c]))
        probability = (1.0 if logits[c] > 0 else odds) / (1 + odds)
        loss += weight * (max(logits[c], 0.0) + math.log1p(odds) - target_probability * logits[c])
        gradient[c] = _F(weight * (probability - target_probability))
    return loss


@njit(nogil=True, cache=True)
def train_documents(
    first_thread, last_thread, counters, plan, batch, parameters, workspace, class_weights, steps,
    harmonic, losses,
):  # fmt: skip
    """Compute tasks until all documents of the plan have been trained on.

    Every one of the threads from `first_thread` to `last_thread` - 1 would suffice.
    """
    sleeps = tasks.exact_sleeps()
    for me in range(first_thread, last_thread):
        for block in range(len(plan.boundaries) - 1):
            first, last = plan.boundaries[block], plan.boundaries[block + 1]
            shares = -(-(last - first) // SHARE)
            worthwhile = plan.token_offsets[last] - plan.token_offsets[first]
            worthwhile = 1 + worthwhile // MIN_TOKENS_PER_TASK
            total = min(shares, worthwhile)
            task = tasks.claim(counters, 2 * block)
            while task < total:
                for share in range(shares * task // total, shares * (task + 1) // total):
                    _differentiate(
                        me, share, first, last, plan, batch, parameters, workspace, class_weights,
                        steps, harmonic, losses,
                    )  # fmt: skip
                tasks.finish(counters, 2 * block)
                task = tasks.claim(counters, 2 * block)
            tasks.wait(counters, 2 * block, total)
            total = min(OWNERS, worthwhile)
            task = tasks.claim(counters, 2 * block + 1)
            while task < total:
                for owner in range(OWNERS * task // total, OWNERS * (task + 1) // total):
                    _update(owner, first, last, shares, plan, parameters, workspace, steps)
                tasks.finish(counters, 2 * block + 1)
                task = tasks.claim(counters, 2 * block + 1)
            tasks.wait(counters, 2 * block + 1, total)
    tasks.restore_sleeps(sleeps)


@njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy", no_cpython_wrapper=True)
def _differentiate(
    me, share, first, last, plan, batch, parameters, workspace, class_weights, steps, harmonic,
    losses,
):  # fmt: skip
    """Compute the losses and gradients of the documents of a share."""
    blocks, width = len(parameters.positions), parameters.positions.shape[1] // VECTOR_WIDTH
    per_channel = _F(1) / _F(workspace.channels)
    begin_share, end_share = SHARE * share, min(SHARE * (share + 1), last - first)
    logits, order, counts = workspace.logits[me], plan.order, workspace.list_ends[share]
    counts[:] = 0
    for k in range(blocks):
        if share == 0:
            # Assigning a whole row would make Numba compile an error message, which takes 3 s.
            for j in range(width * VECTOR_WIDTH):
                workspace.positions[k, j] = parameters.positions[k, j]
        simd.clear(workspace.position_gradients, share * blocks + k, 0, width)
        workspace.position_squares[share, k] = _F(0)
    for i in range(begin_share, end_share):
        document = order[first + i]
        begin, end = batch.cu_seqlens[document], batch.cu_seqlens[document + 1]
        if i + 1 < end_share:
            after = order[first + i + 1]
            start, stop = batch.cu_seqlens[after], batch.cu_seqlens[after + 1]
            for t in range(start, min(start + PREFETCH_DISTANCE, stop)):
                _prefetch_token(parameters.embedding, batch.token_ids[t])
        n, position, squares = end - begin, 0, _F(0)
        simd.clear(workspace.contexts, i, 0, width)
        while position < n:
            k = block_of(position, blocks)
            stop = block_end(k, blocks, n)
            row = me * blocks + k
            simd.clear(workspace.sums, row, 0, width)
            _add_rows(
                workspace.sums,
                row,
                parameters.embedding,
                batch,
                begin + position,
                begin + stop,
                end,
            )
            simd.add_product(
                workspace.contexts, i, _F(1), workspace.sums, row, parameters.positions, k,
                0, width,
            )  # fmt: skip
            position = stop
        for t in range(begin, end):
            squares += batch.occurrence_weights[t] * batch.occurrence_weights[t]
            counts[batch.token_ids[t] & (OWNERS - 1)] += 1
        scale = _F(scale_of(n, squares, harmonic))
        workspace.scales[i] = scale
        square = simd.dot(workspace.contexts, i, workspace.contexts, i, 0, width)
        workspace.context_squares[i] = scale * scale * square * per_channel
        for c in range(len(logits)):
            z = simd.dot(parameters.weight, c, workspace.contexts, i, 0, width)
            logits[c] = scale * z + parameters.bias[c]

        gradient = workspace.logit_gradients[i]
        start, stop = batch.target_boundaries[document], batch.target_boundaries[document + 1]
        targets, weight = batch.target_ids[start:stop], batch.document_weights[document]
        if steps.multi_label:
            losses[first + i] = _sigmoid_gradient(
                logits, targets, steps.label_smoothing, class_weights, weight, gradient
            )
        else:
            weight *= class_weights[targets[0]]
            losses[first + i] = _softmax_gradient(
                logits, targets[0], steps.label_smoothing, weight, gradient
            )
        simd.clear(workspace.context_gradients, i, 0, width)
        for c in range(len(logits)):
            simd.add(
                workspace.context_gradients, i, scale * gradient[c], parameters.weight, c, 0, width
            )
        for k in range(num_blocks_of(n, blocks)):
            square = simd.add_product(
                workspace.position_gradients, share * blocks + k, _F(1),
                workspace.sums, me * blocks + k, workspace.context_gradients, i, 0, width,
            )  # fmt: skip
            workspace.position_squares[share, k] += square * per_channel
            square = simd.product_square(
                parameters.positions, k, workspace.context_gradients, i, 0, width
            )
            workspace.token_squares[i, k] = square * per_channel
    _list_tokens(share, begin_share, end_share, first, plan, batch, parameters, workspace)


@njit(nogil=True, cache=True, inline="always")
def _prefetch_token(table, token):
    prefetch(table, row_of(token, len(table) // OWNERS))


@njit(nogil=True, cache=True, inline="always")
def _add_rows(total, i, table, batch, t, stop, end):
    """Add the weighted rows of the tokens before `stop`; prefetch rows before `end`."""
    ids, weights, width = batch.token_ids, batch.occurrence_weights, table.shape[1] // VECTOR_WIDTH
    each = len(table) // OWNERS
    while t + 4 <= stop:
        for later in range(t + PREFETCH_DISTANCE, min(t + PREFETCH_DISTANCE + 4, end)):
            _prefetch_token(table, ids[later])
        simd.axpy4(
            total, i, weights[t], table, row_of(ids[t], each),
            weights[t + 1], table, row_of(ids[t + 1], each),
            weights[t + 2], table, row_of(ids[t + 2], each),
            weights[t + 3], table, row_of(ids[t + 3], each), 0, width,
        )  # fmt: skip
        t += 4
    while t < stop:
        if t + PREFETCH_DISTANCE < end:
            _prefetch_token(table, ids[t + PREFETCH_DISTANCE])
        simd.add(total, i, weights[t], table, row_of(ids[t], each), 0, width)
        t += 1


@njit(nogil=True, cache=True, no_cpython_wrapper=True)
def _list_tokens(share, begin_share, end_share, first, plan, batch, parameters, workspace):
    """List the tokens of a share for each owner, in their order."""
    blocks, each = len(parameters.positions), len(parameters.embedding) // OWNERS
    ends = workspace.list_ends[share]  # still the number of tokens of each owner
    start = plan.token_offsets[first + begin_share] - plan.token_offsets[first]
    for owner in range(OWNERS):
        count = ends[owner]
        ends[owner] = start
        start += count
    for i in range(begin_share, end_share):
        document = plan.order[first + i]
        begin = batch.cu_seqlens[document]
        n, position = batch.cu_seqlens[document + 1] - begin, 0
        while position < n:
            k = block_of(position, blocks)
            stop = block_end(k, blocks, n)
            for t in range(begin + position, begin + stop):
                token = batch.token_ids[t]
                owner = token & (OWNERS - 1)
                at = ends[owner]
                ends[owner] = at + 1
                workspace.rows[at] = row_of(token, each)
                workspace.sources[at] = i * 64 + k
                workspace.weights[at] = batch.occurrence_weights[t]
            position = stop


@njit(nogil=True, cache=True, inline="always")
def _step_size(state, i, mean_square, learning_rate):
    """Accumulate the mean square of the gradient of a row and return its step size."""
    state[i] += mean_square
    return learning_rate / (np.sqrt(state[i]) + _EPSILON)


@njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy", no_cpython_wrapper=True)
def _update(owner, first, last, shares, plan, parameters, workspace, steps):
    """Apply the gradients of a block to the rows of an owner."""
    blocks, width = len(parameters.positions), parameters.positions.shape[1] // VECTOR_WIDTH
    decay = (steps.last_learning_rate - steps.first_learning_rate) * first / len(plan.order)
    learning_rate = _F(steps.first_learning_rate + decay)
    for k in range(owner, blocks, OWNERS):
        for share in range(shares):
            square = workspace.position_squares[share, k]
            if square > 0:
                size = _step_size(parameters.position_state, k, square, learning_rate)
                simd.add(
                    parameters.positions, k, -size, workspace.position_gradients,
                    share * blocks + k, 0, width,
                )  # fmt: skip
    for c in range(owner, len(parameters.bias), OWNERS):
        for i in range(last - first):
            g = workspace.logit_gradients[i, c]
            square = g * g * workspace.context_squares[i]
            size = _step_size(parameters.weight_state, c, square, learning_rate)
            simd.add(
                parameters.weight, c, -g * size * workspace.scales[i], workspace.contexts, i,
                0, width,
            )  # fmt: skip
            parameters.bias[c] -= g * _step_size(parameters.bias_state, c, g * g, learning_rate)
    rows, sources, weights = workspace.rows, workspace.sources, workspace.weights
    state = parameters.embedding_state
    for share in range(shares):
        begin, end = _list_of(workspace, share, owner)
        for j in range(begin, end):
            row, w, source = rows[j], weights[j], sources[j]
            square = w * w * workspace.token_squares[source >> 6, source & 63]
            state[row, 0] += square
            size = learning_rate / (np.sqrt(state[row, 0]) + _EPSILON)
            weights[j] = -size * w * state[row, 1]
        if share + 1 < shares:
            start, stop = _list_of(workspace, share + 1, owner)
            for j in range(start, stop):
                prefetch(parameters.embedding, rows[j])
                prefetch(state, rows[j])
        for j in range(begin, end):
            simd.add_product(
                parameters.embedding, rows[j], weights[j], workspace.context_gradients,
                sources[j] >> 6, workspace.positions, sources[j] & 63, 0, width,
            )  # fmt: skip


@njit(nogil=True, cache=True, inline="always")
def _list_of(workspace, share, owner):
    ends = workspace.list_ends
    if owner > 0:
        return ends[share, owner - 1], ends[share, owner]
    if share > 0:
        return ends[share - 1, OWNERS - 1], ends[share, owner]
    return np.int64(0), ends[share, owner]
