"""Trains the parameters of the classifier on one document after another in a fused pass.

Forward, with w_t the weight of a token's occurrence (1 for the first one in its document, 1/2 for
the second, ...) and k(t) the block of positions that t lies in:

    s_k  =  sum of w_t e_t over the tokens of block k      c  =  sum_k p_k * s_k / sqrt(sum_t w_t^2)
    z    =  W c + b         loss  =  cross entropy of softmax(z), or of the sigmoid of each class

Backward, every token of a block has the same gradient but for its weight, (W' dz) * p_k, and the
gradient of p_k is (W' dz) * s_k, so positions cost O(D) per block instead of O(D) per token. Each
row of E, P and W accumulates one number, the mean squares of its gradients, and is updated with
learning_rate / sqrt(that sum): Adagrad by rows (Duchi et al. 2011), which accounts for the rarity
of a token and touches only the rows that a document uses.

The documents of a microbatch are processed together: all their gradients are computed before the
first of their updates. Each thread has parameter tables of its own, which hold some channels of all
rows, and optimizer state for all rows, which is the same in all threads. From the channels of other
threads it needs one number per class and two per block. These are summed over groups of channels
that do not depend on the number of threads, so neither do the weights.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from hyperagg._numba import simd
from hyperagg._numba.barrier import wait
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
    "CHANNEL_GROUPS",
    "MICROBATCH",
    "Batch",
    "Parameters",
    "Reductions",
    "StepConfig",
    "Workspace",
    "train_documents",
]

_F = np.float32
_EPSILON = _F(1e-12)
MICROBATCH = 16  # documents
CHANNEL_GROUPS = 4  # which is also the maximum number of threads


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
    """A thread's channels of the parameters, padded to whole vectors.

    Each table is followed by the accumulated mean squared gradients of its rows. The memory of a
    thread is separated from that of the others to avoid false sharing, the cache lines that a
    processor prefetches included.
    """

    embedding: np.ndarray
    embedding_state: np.ndarray
    positions: np.ndarray
    position_state: np.ndarray
    weight: np.ndarray
    weight_state: np.ndarray
    bias: np.ndarray
    bias_state: np.ndarray


class Workspace(NamedTuple):
    """What a thread stores about the documents of a microbatch of S documents."""

    sums: np.ndarray  # (S * blocks, D); after the backward pass the gradients of the positions
    row_gradients: np.ndarray  # (S * blocks, D)
    contexts: np.ndarray  # (S, D), not scaled yet
    scales: np.ndarray  # (S,)
    context_squares: np.ndarray  # (S,)
    logit_gradients: np.ndarray  # (S, C)
    context_gradient: np.ndarray  # (1, D)
    logits: np.ndarray  # (C,)
    row_steps: np.ndarray  # (tokens of the longest document,)
    channels: int  # of all threads
    first_group: int
    last_group: int
    boundaries: np.ndarray  # (CHANNEL_GROUPS + 1,) where its groups begin, in its vectors


class Reductions(NamedTuple):
    """What the threads exchange: partial sums of each group of channels.

    They belong to the logits, to the squares of the contexts, and to the squares of the gradients
    of the position vectors and of the token vectors of every block.
    """

    logits: np.ndarray  # (CHANNEL_GROUPS, S, C)
    contexts: np.ndarray  # (CHANNEL_GROUPS, S)
    gradients: np.ndarray  # (CHANNEL_GROUPS, S, blocks, 2)


@njit(nogil=True, cache=True, inline="always")
def _softmax_gradient(logits, target, smoothing, weight, gradient):
    """Fill `gradient` with dz of the smoothed cross entropy and return the loss."""
    classes = len(logits)
    maximum = logits[0]
    for c in range(classes):
        maximum = max(maximum, logits[c])
    norm = 0.0
    for c in range(classes):
        norm += math.exp(logits[c] - maximum)
    log_norm = math.log(norm) + maximum
    loss = 0.0
    for c in range(classes):
        target_probability = smoothing / classes + (1 - smoothing if c == target else 0.0)
        loss += target_probability * (log_norm - logits[c])
        gradient[c] = _F(weight * (math.exp(logits[c] - log_norm) - target_probability))
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
    me, threads, arrivals, order, batch, parameters, workspace, reductions, lr_scale,
    class_weights, steps, harmonic, losses,
):  # fmt: skip
    """Do the part of thread `me` in training on the documents of `order`."""
    waits = 0
    for first in range(0, len(order), MICROBATCH):
        last = min(first + MICROBATCH, len(order))
        _aggregate(first, last, order, batch, parameters, harmonic, workspace, reductions)
        waits += 1
        wait(arrivals, threads, waits)
        _differentiate(
            first,
            last,
            order,
            batch,
            parameters,
            class_weights,
            steps,
            workspace,
            reductions,
            losses,
        )
        waits += 1
        wait(arrivals, threads, waits)
        _step(first, last, order, batch, parameters, lr_scale, steps, workspace, reductions)


@njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy", no_cpython_wrapper=True)
def _aggregate(first, last, order, batch, parameters, harmonic, workspace, reductions):
    """Compute the contexts of documents, and the part of their logits that the channels of the
    thread contribute."""
    blocks, width = len(parameters.positions), parameters.positions.shape[1] // VECTOR_WIDTH
    for i in range(last - first):
        begin, end = batch.cu_seqlens[order[first + i]], batch.cu_seqlens[order[first + i] + 1]
        if first + i + 1 < len(order):
            after = order[first + i + 1]
            start, stop = batch.cu_seqlens[after], batch.cu_seqlens[after + 1]
            for t in range(start, min(start + PREFETCH_DISTANCE, stop)):
                prefetch(parameters.embedding, batch.token_ids[t])
        n, position, squares = end - begin, 0, _F(0)
        simd.clear(workspace.contexts, i, 0, width)
        while position < n:
            k = block_of(position, blocks)
            stop = block_end(k, blocks, n)
            row = i * blocks + k
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
                workspace.contexts, i, workspace.sums, row, parameters.positions, k, 0, width
            )
            position = stop
        for t in range(begin, end):
            squares += batch.occurrence_weights[t] * batch.occurrence_weights[t]
        workspace.scales[i] = scale_of(n, squares, harmonic)
        for group in range(workspace.first_group, workspace.last_group):
            start, stop = workspace.boundaries[group], workspace.boundaries[group + 1]
            reductions.contexts[group, i] = simd.dot(
                workspace.contexts, i, workspace.contexts, i, start, stop
            )
            for c in range(len(parameters.weight)):
                part = simd.dot(parameters.weight, c, workspace.contexts, i, start, stop)
                reductions.logits[group, i, c] = part


@njit(nogil=True, cache=True, inline="always")
def _add_rows(total, i, table, batch, t, stop, end):
    """Add the weighted rows of the tokens before `stop`; prefetch rows before `end`."""
    ids, weights, width = batch.token_ids, batch.occurrence_weights, table.shape[1] // VECTOR_WIDTH
    while t + 4 <= stop:
        for later in range(t + PREFETCH_DISTANCE, min(t + PREFETCH_DISTANCE + 4, end)):
            prefetch(table, ids[later])
        simd.axpy4(
            total, i, weights[t], table, ids[t], weights[t + 1], table, ids[t + 1],
            weights[t + 2], table, ids[t + 2], weights[t + 3], table, ids[t + 3], 0, width,
        )  # fmt: skip
        t += 4
    while t < stop:
        if t + PREFETCH_DISTANCE < end:
            prefetch(table, ids[t + PREFETCH_DISTANCE])
        simd.add(total, i, weights[t], table, ids[t], 0, width)
        t += 1


@njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy", no_cpython_wrapper=True)
def _differentiate(
    first, last, order, batch, parameters, class_weights, steps, workspace, reductions, losses
):
    """Compute the losses of documents, and their gradients in the channels of the thread."""
    blocks, width = len(parameters.positions), parameters.positions.shape[1] // VECTOR_WIDTH
    logits = workspace.logits
    for i in range(last - first):
        document = order[first + i]
        scale, gradient = workspace.scales[i], workspace.logit_gradients[i]
        workspace.context_squares[i] = _F(0)
        logits[:] = _F(0)
        for group in range(CHANNEL_GROUPS):
            workspace.context_squares[i] += reductions.contexts[group, i]
            for c in range(len(logits)):
                logits[c] += reductions.logits[group, i, c]
        for c in range(len(logits)):
            logits[c] = scale * logits[c] + parameters.bias[c]
        start, stop = batch.target_boundaries[document], batch.target_boundaries[document + 1]
        targets, weight = batch.target_ids[start:stop], batch.document_weights[document]
        if steps.multi_label:
            loss = _sigmoid_gradient(
                logits, targets, steps.label_smoothing, class_weights, weight, gradient
            )
        else:
            weight *= class_weights[targets[0]]
            loss = _softmax_gradient(logits, targets[0], steps.label_smoothing, weight, gradient)
        if workspace.first_group == 0:
            losses[first + i] = loss
        simd.clear(workspace.context_gradient, 0, 0, width)
        for c in range(len(logits)):
            simd.add(workspace.context_gradient, 0, gradient[c], parameters.weight, c, 0, width)
        n = batch.cu_seqlens[document + 1] - batch.cu_seqlens[document]
        for k in range(num_blocks_of(n, blocks)):
            row = i * blocks + k
            for group in range(workspace.first_group, workspace.last_group):
                start, stop = workspace.boundaries[group], workspace.boundaries[group + 1]
                reductions.gradients[group, i, k, 0] = simd.product(
                    workspace.sums, row, scale, workspace.sums, row,
                    workspace.context_gradient, 0, start, stop,
                )  # fmt: skip
                reductions.gradients[group, i, k, 1] = simd.product(
                    workspace.row_gradients, row, scale, parameters.positions, k,
                    workspace.context_gradient, 0, start, stop,
                )  # fmt: skip


@njit(nogil=True, cache=True, inline="always")
def _step_size(state, i, mean_square, learning_rate):
    """Accumulate the mean square of the gradient of a row and return its step size."""
    state[i] += mean_square
    return learning_rate / (np.sqrt(state[i]) + _EPSILON)


@njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy", no_cpython_wrapper=True)
def _step(first, last, order, batch, parameters, lr_scale, steps, workspace, reductions):
    """Update the channels of the thread for one document after the other."""
    blocks, width = len(parameters.positions), parameters.positions.shape[1] // VECTOR_WIDTH
    per_channel = _F(1) / _F(workspace.channels)  # the padding does not count
    for i in range(last - first):
        decay = (steps.last_learning_rate - steps.first_learning_rate) * (first + i) / len(order)
        learning_rate = _F(steps.first_learning_rate + decay)
        scale = workspace.scales[i]
        mean_square = scale * scale * workspace.context_squares[i] * per_channel
        for c in range(len(parameters.bias)):
            g = workspace.logit_gradients[i, c]
            size = _step_size(parameters.weight_state, c, g * g * mean_square, learning_rate)
            simd.add(parameters.weight, c, -g * size * scale, workspace.contexts, i, 0, width)
            parameters.bias[c] -= g * _step_size(parameters.bias_state, c, g * g, learning_rate)
        begin, end = batch.cu_seqlens[order[first + i]], batch.cu_seqlens[order[first + i] + 1]
        position = 0
        while position < end - begin:
            k = block_of(position, blocks)
            stop = block_end(k, blocks, end - begin)
            row = i * blocks + k
            position_square, row_square = _F(0), _F(0)
            for group in range(CHANNEL_GROUPS):
                position_square += reductions.gradients[group, i, k, 0]
                row_square += reductions.gradients[group, i, k, 1]
            size = _step_size(
                parameters.position_state, k, position_square * per_channel, learning_rate
            )
            simd.add(parameters.positions, k, -size, workspace.sums, row, 0, width)

            for t in range(position, stop):
                token, w = batch.token_ids[begin + t], batch.occurrence_weights[begin + t]
                size = _step_size(
                    parameters.embedding_state,
                    token,
                    w * w * row_square * per_channel,
                    learning_rate,
                )
                workspace.row_steps[t] = -size * w * lr_scale[token]
            for t in range(position, stop):
                token = batch.token_ids[begin + t]
                simd.add(
                    parameters.embedding,
                    token,
                    workspace.row_steps[t],
                    workspace.row_gradients,
                    row,
                    0,
                    width,
                )
            position = stop
