"""The aggregation classifier's training step, fused into one pass over a document's tokens.

Forward, with w_t the weight of a token's use (1 for the first in its document, 1/2 for the second
...) and k(t) the block that place t falls in:

    s_k  =  sum of w_t e_t over the block's tokens        c  =  sum_k p_k * s_k / sqrt(sum_t w_t^2)
    z    =  W c + b          loss  =  cross entropy of softmax(z), or of each class's sigmoid

Backward every token of a block has, but for its weight, the same gradient, (W' dz) * p_k, and p_k
has (W' dz) * s_k, so positions cost O(D) a block and not O(D) a token. Each row of E, P and W keeps
one number, the sum of the mean squares of its gradients, and steps by rate / sqrt(that sum):
Adagrad by rows (Duchi et al. 2011), which takes a word's rarity into account and touches no row
that the document did not use.

A few documents are learned side by side: their gradients are all taken before the first of their
steps. Each thread has tables of its own, of some channels of all rows, and an account of every row
that is alike in all threads. What it has to know of the channels of others is a number for each
class and two for each block. These are added up over groups of channels that are the same however
many threads there are, so that the weights do not depend on it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from hyperagg._numba import simd as lines
from hyperagg._numba.barrier import wait
from hyperagg._numba.cache import njit
from hyperagg._numba.prefetch import prefetch
from hyperagg._numba.simd import VECTOR_WIDTH
from hyperagg.classifier.kernels.scoring import AHEAD, block_end, block_of, blocks_of, scale_of

__all__ = [
    "CHANNEL_GROUPS",
    "MICROBATCH",
    "Batch",
    "Parameters",
    "Reductions",
    "StepConfig",
    "Workspace",
    "learn",
]

_F = np.float32
_EPSILON = _F(1e-12)
MICROBATCH = 16
# Of channels, and so the most threads there can be.
CHANNEL_GROUPS = 4


class StepConfig(NamedTuple):
    """How it is learned.

    Attributes:
        first_rate, last_rate: the learning rate falls from one to the other.
        smoothing: of labels.
        several: whether a document may have any number of classes.
    """

    first_rate: float
    last_rate: float
    smoothing: float
    several: bool


class Batch(NamedTuple):
    """Documents, in the order in which the kernels take them."""

    token_ids: np.ndarray
    occurrence_weights: np.ndarray
    cu_seqlens: np.ndarray
    target_ids: np.ndarray
    target_borders: np.ndarray


class Parameters(NamedTuple):
    """A thread's channels of the tables in whole lines, each table followed by the sums of mean
    squared gradients of its rows. Their memory is apart from that of other threads, since a
    processor fetches the lines that stand after those it was asked for, and so takes them away."""

    embedding: np.ndarray
    embedding_state: np.ndarray
    positions: np.ndarray
    position_state: np.ndarray
    weight: np.ndarray
    weight_state: np.ndarray
    bias: np.ndarray
    bias_state: np.ndarray


class Workspace(NamedTuple):
    """What a thread remembers of the documents that are learned side by side."""

    sums: np.ndarray  # (S * blocks, D), and after the gradients have been taken p's gradients
    row_gradients: np.ndarray  # (S * blocks, D)
    contexts: np.ndarray  # (S, D), not yet scaled
    scales: np.ndarray  # (S,)
    context_squares: np.ndarray  # (S,)
    logit_gradients: np.ndarray  # (S, C)
    context_gradient: np.ndarray  # (1, D)
    logits: np.ndarray  # (C,)
    row_steps: np.ndarray  # (longest document,)
    channels: int  # of all threads
    first_group: int
    last_group: int
    borders: np.ndarray  # (CHANNEL_GROUPS + 1,) where its groups begin, in its lines


class Reductions(NamedTuple):
    """What the threads tell each other of each group of channels: its part of the logits, of the
    squares of the context, and of those of the gradients of positions and rows of every block."""

    logits: np.ndarray  # (CHANNEL_GROUPS, S, C)
    contexts: np.ndarray  # (CHANNEL_GROUPS, S)
    gradients: np.ndarray  # (CHANNEL_GROUPS, S, blocks, 2)


@njit(nogil=True, cache=True, inline="always")
def _softmax_gradient(logits, targets, smoothing, class_weights, gradient):
    """Fills dz with that of cross entropy, the true class's share smoothed; returns the loss."""
    classes, target = len(logits), targets[0]
    greatest = logits[0]
    for c in range(classes):
        greatest = max(greatest, logits[c])
    norm = 0.0
    for c in range(classes):
        norm += math.exp(logits[c] - greatest)
    log_norm = math.log(norm) + greatest
    weight, loss = class_weights[target], 0.0
    for c in range(classes):
        wanted = smoothing / classes + (1 - smoothing if c == target else 0.0)
        loss += wanted * (log_norm - logits[c])
        gradient[c] = _F(weight * (math.exp(logits[c] - log_norm) - wanted))
    return weight * loss


@njit(nogil=True, cache=True, inline="always")
def _sigmoid_gradient(logits, targets, smoothing, class_weights, gradient):
    """The same of a cross entropy for each class; its weight is that of the documents in it."""
    loss = 0.0
    gradient[:] = _F(0)
    for c in targets:
        gradient[c] = _F(1)
    for c in range(len(logits)):
        yes = gradient[c]
        weight = class_weights[c] if yes else 1.0
        wanted = yes * (1 - smoothing) + smoothing / 2
        odds = math.exp(-abs(logits[c]))
        share = (1.0 if logits[c] > 0 else odds) / (1 + odds)
        loss += weight * (max(logits[c], 0.0) + math.log1p(odds) - wanted * logits[c])
        gradient[c] = _F(weight * (share - wanted))
    return loss


@njit(nogil=True, cache=True)
def learn(me, threads, arrivals, order, read, tables, own, told, rates, class_weights, steps,
           harmonic, losses):  # fmt: skip
    """The share of thread `me` in the steps for the documents of `order`."""
    waits = 0
    for first in range(0, len(order), MICROBATCH):
        last = min(first + MICROBATCH, len(order))
        _aggregate(first, last, order, read, tables, harmonic, own, told)
        waits += 1
        wait(arrivals, threads, waits)
        _differentiate(first, last, order, read, tables, class_weights, steps, own, told, losses)
        waits += 1
        wait(arrivals, threads, waits)
        _step(first, last, order, read, tables, rates, steps, own, told)


@njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def _aggregate(first, last, order, read, tables, harmonic, own, told):
    """The contexts of documents, and their logits as far as the thread's channels go."""
    blocks, width = len(tables.positions), tables.positions.shape[1] // VECTOR_WIDTH
    for i in range(last - first):
        begin, end = read.cu_seqlens[order[first + i]], read.cu_seqlens[order[first + i] + 1]
        if first + i + 1 < len(order):
            after = order[first + i + 1]
            start, stop = read.cu_seqlens[after], read.cu_seqlens[after + 1]
            for t in range(start, min(start + AHEAD, stop)):
                prefetch(tables.embedding, read.token_ids[t])
        n, place, squares = end - begin, 0, _F(0)
        lines.clear(own.contexts, i, 0, width)
        while place < n:
            k = block_of(place, blocks)
            stop = block_end(k, blocks, n)
            row = i * blocks + k
            lines.clear(own.sums, row, 0, width)
            _add_rows(own.sums, row, tables.embedding, read, begin + place, begin + stop, end)
            lines.add_product(own.contexts, i, own.sums, row, tables.positions, k, 0, width)
            place = stop
        for t in range(begin, end):
            squares += read.occurrence_weights[t] * read.occurrence_weights[t]
        own.scales[i] = scale_of(n, squares, harmonic)
        for group in range(own.first_group, own.last_group):
            start, stop = own.borders[group], own.borders[group + 1]
            told.contexts[group, i] = lines.dot(own.contexts, i, own.contexts, i, start, stop)
            for c in range(len(tables.weight)):
                part = lines.dot(tables.weight, c, own.contexts, i, start, stop)
                told.logits[group, i, c] = part


@njit(nogil=True, cache=True, inline="always")
def _add_rows(total, i, table, read, t, stop, end):
    """Adds the weighted rows of tokens up to `stop`, while rows up to `end` are fetched ahead."""
    ids, weights, width = read.token_ids, read.occurrence_weights, table.shape[1] // VECTOR_WIDTH
    while t + 4 <= stop:
        for later in range(t + AHEAD, min(t + AHEAD + 4, end)):
            prefetch(table, ids[later])
        lines.axpy4(
            total, i, weights[t], table, ids[t], weights[t + 1], table, ids[t + 1],
            weights[t + 2], table, ids[t + 2], weights[t + 3], table, ids[t + 3], 0, width,
        )  # fmt: skip
        t += 4
    while t < stop:
        if t + AHEAD < end:
            prefetch(table, ids[t + AHEAD])
        lines.add(total, i, weights[t], table, ids[t], 0, width)
        t += 1


@njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def _differentiate(first, last, order, read, tables, class_weights, steps, own, told, losses):
    """The losses of documents, and their gradients in the thread's channels."""
    blocks, width = len(tables.positions), tables.positions.shape[1] // VECTOR_WIDTH
    logits = own.logits
    for i in range(last - first):
        document = order[first + i]
        scale, gradient = own.scales[i], own.logit_gradients[i]
        own.context_squares[i] = _F(0)
        logits[:] = _F(0)
        for group in range(CHANNEL_GROUPS):
            own.context_squares[i] += told.contexts[group, i]
            for c in range(len(logits)):
                logits[c] += told.logits[group, i, c]
        for c in range(len(logits)):
            logits[c] = scale * logits[c] + tables.bias[c]
        targets = read.target_ids[read.target_borders[document] : read.target_borders[document + 1]]
        if steps.several:
            loss = _sigmoid_gradient(logits, targets, steps.smoothing, class_weights, gradient)
        else:
            loss = _softmax_gradient(logits, targets, steps.smoothing, class_weights, gradient)
        if own.first_group == 0:
            losses[first + i] = loss
        lines.clear(own.context_gradient, 0, 0, width)
        for c in range(len(logits)):
            lines.add(own.context_gradient, 0, gradient[c], tables.weight, c, 0, width)
        n = read.cu_seqlens[document + 1] - read.cu_seqlens[document]
        for k in range(blocks_of(n, blocks)):
            row = i * blocks + k
            for group in range(own.first_group, own.last_group):
                start, stop = own.borders[group], own.borders[group + 1]
                told.gradients[group, i, k, 0] = lines.product(
                    own.sums, row, scale, own.sums, row, own.context_gradient, 0, start, stop
                )
                told.gradients[group, i, k, 1] = lines.product(
                    own.row_gradients, row, scale, tables.positions, k, own.context_gradient, 0,
                    start, stop,
                )  # fmt: skip


@njit(nogil=True, cache=True, inline="always")
def _step_size(state, i, mean_square, rate):
    """Adds to the row's account; returns its step size."""
    state[i] += mean_square
    return rate / (np.sqrt(state[i]) + _EPSILON)


@njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def _step(first, last, order, read, tables, rates, steps, own, told):
    """The steps for documents, one after the other, in the thread's channels."""
    blocks, width = len(tables.positions), tables.positions.shape[1] // VECTOR_WIDTH
    share = _F(1) / _F(own.channels)  # zeros that fill up a line are no channels
    for i in range(last - first):
        fallen = (steps.last_rate - steps.first_rate) * (first + i) / len(order)
        rate, scale = _F(steps.first_rate + fallen), own.scales[i]
        mean_square = scale * scale * own.context_squares[i] * share
        for c in range(len(tables.bias)):
            g = own.logit_gradients[i, c]
            size = _step_size(tables.weight_state, c, g * g * mean_square, rate)
            lines.add(tables.weight, c, -g * size * scale, own.contexts, i, 0, width)
            tables.bias[c] -= g * _step_size(tables.bias_state, c, g * g, rate)
        begin, end = read.cu_seqlens[order[first + i]], read.cu_seqlens[order[first + i] + 1]
        place = 0
        while place < end - begin:
            k = block_of(place, blocks)
            stop = block_end(k, blocks, end - begin)
            row = i * blocks + k
            place_square, row_square = _F(0), _F(0)
            for group in range(CHANNEL_GROUPS):
                place_square += told.gradients[group, i, k, 0]
                row_square += told.gradients[group, i, k, 1]
            size = _step_size(tables.position_state, k, place_square * share, rate)
            lines.add(tables.positions, k, -size, own.sums, row, 0, width)
            # Apart from the rows, which would else wait for a root and a quotient each.
            for t in range(place, stop):
                token, w = read.token_ids[begin + t], read.occurrence_weights[begin + t]
                size = _step_size(tables.embedding_state, token, w * w * row_square * share, rate)
                own.row_steps[t] = -size * w * rates[token]
            for t in range(place, stop):
                token = read.token_ids[begin + t]
                lines.add(
                    tables.embedding, token, own.row_steps[t], own.row_gradients, row, 0, width
                )
            place = stop
