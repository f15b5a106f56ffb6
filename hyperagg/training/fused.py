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
steps. Each thread takes the gradients of its share of the documents; then each makes the steps of
its share of the rows, for one document after the other. So no two threads ever write one row, and
the weights do not depend on how many threads there are.

The parameters are the memory of the PyTorch module itself; nothing is copied in or out.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from torch import Tensor

from hyperagg.models.classifier import AggregationMixer, Classifier
from hyperagg.prefetch import prefetch
from hyperagg.text import Ragged
from hyperagg.training.barrier import wait
from hyperagg.training.scoring import AHEAD, Weights, block_end, block_of, mix, scale_of, score

__all__ = ["MOST_THREADS", "learn", "parameters", "weights"]

_F = np.float32
_EPSILON = _F(1e-12)
SIDE_BY_SIDE = 16
# With more threads each has too few of the documents that are learned side by side.
MOST_THREADS = 4


def weights(model: Classifier) -> Weights:
    """The model's parameters as the kernels take them: views, not copies."""
    assert isinstance(model.mixer, AggregationMixer), "these kernels are aggregation's alone"
    embedding, positions, weight, bias = (p.detach().numpy() for p in parameters(model))
    return Weights(embedding, positions, weight, bias, model.mixer.pooling == "damped")


def parameters(model: Classifier) -> tuple[Tensor, ...]:
    """The tensors of `weights`, in that order."""
    # From the modules' own dicts: their attributes, looked up in Python, take as long as a text.
    own: Any = model._parameters
    parts: Any = model._modules
    positions: Any = parts["mixer"]._modules["positions"]._parameters
    head: Any = parts["head"]._parameters
    return own["embedding"], positions["weight"], head["weight"], head["bias"]


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


@njit(nogil=True, cache=True, inline="always")
def _step_size(state, i, mean_square, rate):
    """Adds to the row's account; returns its step size."""
    state[i] += mean_square
    return rate / (_F(math.sqrt(state[i])) + _EPSILON)


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _learn(
    me,
    threads,
    arrivals,
    order,
    token_ids,
    use_weights,
    cu_seqlens,
    target_ids,
    target_borders,
    class_weights,
    rates,
    embedding,
    embedding_state,
    positions,
    position_state,
    weight,
    weight_state,
    bias,
    bias_state,
    first_rate,
    last_rate,
    smoothing,
    multi_label,
    damped,
    sums,
    contexts,
    row_gradients,
    logit_gradients,
    losses,
):
    """The share of thread `me` in the steps for the documents of `order`.

    The learning rate falls from first_rate to last_rate on the way; rates (V,) multiplies that of
    each row of the embedding. From `sums` on are places for what the threads tell each other, one
    for each document that is learned side by side, and `losses` (documents,).
    """
    blocks, d = positions.shape
    classes = len(bias)
    side_by_side = len(sums)
    context_grad = np.empty(d, dtype=np.float32)
    gradient = np.empty(d, dtype=np.float32)
    logits = np.empty(classes, dtype=np.float32)
    waits = 0
    for first in range(0, len(order), side_by_side):
        number = min(side_by_side, len(order) - first)
        for i in range(me, number, threads):
            document = order[first + i]
            begin, end = cu_seqlens[document], cu_seqlens[document + 1]
            n, place, squares = end - begin, 0, _F(0)
            total = sums[i]
            total[:] = _F(0)
            while place < n:
                k = block_of(place, blocks)
                last = block_end(k, blocks, n)
                own = total[k]
                for t in range(begin + place, begin + last):
                    if t + AHEAD < end:
                        prefetch(embedding, token_ids[t + AHEAD])
                    row, w = embedding[token_ids[t]], use_weights[t]
                    squares += w * w
                    for j in range(d):
                        own[j] += w * row[j]
                place = last
            context, logit_gradient = contexts[i], logit_gradients[i]
            used = mix(n, squares, damped, positions, total, context)
            score(context, weight, bias, logits)
            targets = target_ids[target_borders[document] : target_borders[document + 1]]
            if multi_label:
                loss = _sigmoid_gradient(logits, targets, smoothing, class_weights, logit_gradient)
            else:
                loss = _softmax_gradient(logits, targets, smoothing, class_weights, logit_gradient)
            losses[first + i] = loss
            context_grad[:] = _F(0)
            for c in range(classes):
                g, row = logit_gradient[c], weight[c]
                for j in range(d):
                    context_grad[j] += g * row[j]
            scale = _F(scale_of(n, squares, damped))
            for k in range(used):
                own, place_vector, row_gradient = total[k], positions[k], row_gradients[i, k]
                for j in range(d):
                    g = scale * context_grad[j]
                    row_gradient[j] = g * place_vector[j]
                    own[j] *= g
        waits += 1
        wait(arrivals, threads, waits)

        for i in range(number):
            step = first + i
            rate = _F(first_rate + (last_rate - first_rate) * step / len(order))
            context, logit_gradient = contexts[i], logit_gradients[i]
            mean_square = _F(0)
            for j in range(d):
                mean_square += context[j] * context[j]
            mean_square /= _F(d)
            for c in range(me, classes, threads):
                g, row = logit_gradient[c], weight[c]
                step_size = g * _step_size(weight_state, c, g * g * mean_square, rate)
                for j in range(d):
                    row[j] -= step_size * context[j]
                bias[c] -= g * _step_size(bias_state, c, g * g, rate)
            document = order[step]
            begin, end = cu_seqlens[document], cu_seqlens[document + 1]
            n, place = end - begin, 0
            while place < n:
                k = block_of(place, blocks)
                last = block_end(k, blocks, n)
                if k & (threads - 1) == me:
                    own, place_vector = sums[i, k], positions[k]
                    mean_square = _F(0)
                    for j in range(d):
                        mean_square += own[j] * own[j]
                    step_size = _step_size(position_state, k, mean_square / _F(d), rate)
                    for j in range(d):
                        place_vector[j] -= step_size * own[j]
                mean_square = _F(0)
                for j in range(d):
                    gradient[j] = row_gradients[i, k, j]
                    mean_square += gradient[j] * gradient[j]
                mean_square /= _F(d)
                for t in range(begin + place, begin + last):
                    token = token_ids[t]
                    if token & (threads - 1) != me:
                        continue
                    w = use_weights[t]
                    step_size = _step_size(embedding_state, token, w * w * mean_square, rate)
                    step_size *= w * rates[token]
                    row = embedding[token]
                    for j in range(d):
                        row[j] -= step_size * gradient[j]
                place = last
        waits += 1
        wait(arrivals, threads, waits)


def learn(
    threads: int,
    order: np.ndarray,
    rows: Ragged,
    use_weights: np.ndarray,
    targets: Ragged,
    class_weights: np.ndarray,
    rates: np.ndarray,
    parameters: Sequence[np.ndarray],
    recipe: tuple[float, float, float, bool, bool],
) -> float:
    """One step for each document of `order`, in that order; returns the sum of the losses.

    Args:
        threads: 1, 2 or 4.
        order: numbers of documents.
        rows, use_weights: their tokens, and (T,) what each counts.
        targets: their classes, one each unless `multi_label`.
        class_weights: (C,) float32.
        rates: (V,) float32, multiplies the learning rate of each row of the embedding.
        parameters: the tables of `weights`, each followed by its rows' sums of mean squared
            gradients.
        recipe: the learning rate at the start and at the end, label smoothing, multi_label, damped.

    Numerics: float32. Cost: O(n D + C D) a document.
    """
    blocks, d = parameters[2].shape
    classes = len(parameters[-1])
    losses = np.empty(len(order), dtype=np.float64)
    shapes = (blocks, d), (d,), (blocks, d), (classes,)
    shared = [np.empty((SIDE_BY_SIDE, *shape), dtype=np.float32) for shape in shapes]
    data = rows.token_ids, use_weights, rows.cu_seqlens, targets.token_ids, targets.cu_seqlens
    arrivals = np.zeros(1, dtype=np.int64)

    def work(me: int, of: int, order: np.ndarray) -> None:
        _learn(
            me, of, arrivals, order, *data, class_weights, rates, *parameters, *recipe, *shared,
            losses,
        )  # fmt: skip

    if threads > 1:
        work(0, 1, order[:0])  # compiles, while nobody waits for a thread that could fail to
    others = [threading.Thread(target=work, args=(k, threads, order)) for k in range(1, threads)]
    for other in others:
        other.start()
    work(0, threads, order)
    for other in others:
        other.join()
    return float(losses.sum())
