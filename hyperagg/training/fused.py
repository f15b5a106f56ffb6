"""The aggregation classifier's training step, fused into one pass over a document's tokens.

One document is one step. Forward, with k(t) the block that place t falls in:

    s_k  =  sum of e_t over the block's tokens        c  =  n^-1/2  sum_k p_k * s_k
    z    =  W c + b                                   loss  =  cross entropy of softmax(z)

Backward every token of a block has the same gradient, n^-1/2 (W' dz) * p_k, and p_k has
n^-1/2 (W' dz) * s_k, so positions cost O(D) a block and not O(D) a token. Each row of E, P and W
keeps one number, the sum of the mean squares of its gradients, and steps by
rate / sqrt(that sum): Adagrad by rows (Duchi et al. 2011), which takes a word's rarity into
account and touches no row that the document did not use.

The parameters are the memory of the PyTorch module itself; nothing is copied in or out.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from hyperagg.models.classifier import AggregationMixer, Classifier
from hyperagg.text import Ragged

__all__ = ["add_tokens", "logits", "score_sums", "tables", "train_documents"]

_F = np.float32
_EPSILON = _F(1e-12)


@njit(nogil=True, cache=True, inline="always")
def _block(place, blocks):
    """floor(log2(place + 1)), the last block taking all that is left."""
    k = 0
    rest = place + 1
    while rest > 1 and k < blocks - 1:
        rest >>= 1
        k += 1
    return k


@njit(nogil=True, cache=True, inline="always")
def _add(ids, place, embedding, sums):
    """Adds the tokens from `place` on to the sums of the blocks they fall in."""
    blocks, end = len(sums), place + len(ids)
    while place < end:
        k = _block(place, blocks)
        last = end if k == blocks - 1 else min(end, (1 << (k + 1)) - 1)
        total = sums[k]
        for t in range(place, last):
            row = embedding[ids[t - end + len(ids)]]
            for j in range(len(total)):
                total[j] += row[j]
        place = last


@njit(nogil=True, cache=True, inline="always")
def _mix(n, positions, sums, context):
    """Fills the context from the block sums of n tokens; returns the number of blocks in use."""
    used = _block(n - 1, len(positions)) + 1 if n else 0
    context[:] = _F(0)
    for k in range(used):
        total, place = sums[k], positions[k]
        for j in range(len(context)):
            context[j] += _F(total[j]) * place[j]
    scale = _F(1 / math.sqrt(max(n, 1)))
    for j in range(len(context)):
        context[j] *= scale
    return used


@njit(nogil=True, cache=True, inline="always")
def _score(context, weight, bias, logits):
    for c in range(len(logits)):
        logits[c] = bias[c]
    for c in range(len(logits)):
        row = weight[c]
        total = _F(0)
        for j in range(len(context)):
            total += row[j] * context[j]
        logits[c] += total


@njit(nogil=True, cache=True, inline="always")
def _rate(state, i, gradient, rate):
    """Adds the gradient's mean square to the row's account; returns the row's step size."""
    total = _F(0)
    for j in range(len(gradient)):
        total += gradient[j] * gradient[j]
    state[i] += total / _F(len(gradient))
    return rate / (_F(math.sqrt(state[i])) + _EPSILON)


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def train_documents(
    order,
    token_ids,
    cu_seqlens,
    targets,
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
):
    """One step for each document of `order`, in that order; returns the sum of the losses.

    The learning rate falls from first_rate to last_rate on the way; rates (V,) multiplies that of
    each row of the embedding. Everything float32 but the ids, borders and targets. Cost:
    O(n D + C D) a document.
    """
    blocks, d = positions.shape
    classes = len(bias)
    sums = np.empty((blocks, d), dtype=np.float32)
    context = np.empty(d, dtype=np.float32)
    context_grad = np.empty(d, dtype=np.float32)
    logits = np.empty(classes, dtype=np.float32)
    gradient = np.empty(d, dtype=np.float32)
    total_loss = 0.0
    off_target = smoothing / classes
    for step in range(len(order)):
        rate = _F(first_rate + (last_rate - first_rate) * step / len(order))
        document = order[step]
        ids = token_ids[cu_seqlens[document] : cu_seqlens[document + 1]]
        sums[:] = _F(0)
        _add(ids, 0, embedding, sums)
        used = _mix(len(ids), positions, sums, context)
        _score(context, weight, bias, logits)

        greatest = logits[0]
        for c in range(classes):
            greatest = max(greatest, logits[c])
        norm = 0.0
        for c in range(classes):
            norm += math.exp(logits[c] - greatest)
        log_norm = math.log(norm) + greatest
        context_grad[:] = _F(0)
        for c in range(classes):
            wanted = off_target + (1 - smoothing if c == targets[document] else 0.0)
            total_loss += wanted * (log_norm - logits[c])
            g = _F(math.exp(logits[c] - log_norm) - wanted)
            row = weight[c]
            for j in range(d):
                context_grad[j] += g * row[j]
            for j in range(d):
                gradient[j] = g * context[j]
            step_size = _rate(weight_state, c, gradient, rate)
            for j in range(d):
                row[j] -= step_size * gradient[j]
            bias_state[c] += g * g
            bias[c] -= rate * g / (_F(math.sqrt(bias_state[c])) + _EPSILON)

        n = len(ids)
        scale = _F(1 / math.sqrt(max(n, 1)))
        for k in range(used):
            place = positions[k]
            for j in range(d):
                gradient[j] = scale * context_grad[j] * place[j]
            mean_square = _F(0)
            for j in range(d):
                mean_square += gradient[j] * gradient[j]
            mean_square /= _F(d)
            total = sums[k]
            for j in range(d):
                total[j] *= scale * context_grad[j]
            step_size = _rate(position_state, k, total, rate)
            for j in range(d):
                place[j] -= step_size * total[j]
            first = (1 << k) - 1
            last = n if k == blocks - 1 else min(n, (1 << (k + 1)) - 1)
            for t in range(first, last):
                token = ids[t]
                embedding_state[token] += mean_square
                step_size = rates[token] * rate / (_F(math.sqrt(embedding_state[token])) + _EPSILON)
                row = embedding[token]
                for j in range(d):
                    row[j] -= step_size * gradient[j]
    return total_loss


def logits(model: Classifier, rows: Ragged) -> np.ndarray:
    """(B, C) logits of an aggregation classifier, as `model(...)` gives them but for rounding."""
    out = np.empty((len(rows), model.head.out_features), dtype=np.float32)
    _score_documents(rows.token_ids, rows.cu_seqlens, *tables(model).values(), out)
    return out


def tables(model: Classifier) -> dict[str, np.ndarray]:
    """The model's parameters as the kernels take them, in their order: views, not copies."""
    assert isinstance(model.mixer, AggregationMixer), "these kernels are aggregation's alone"
    parameters = {
        "embedding": model.embedding,
        "positions": model.mixer.positions.weight,
        "weight": model.head.weight,
        "bias": model.head.bias,
    }
    return {name: parameter.detach().numpy() for name, parameter in parameters.items()}


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _score_documents(token_ids, cu_seqlens, embedding, positions, weight, bias, out):
    # In float64, so that the last block may be of any length.
    sums = np.empty(positions.shape, dtype=np.float64)
    for document in range(len(out)):
        ids = token_ids[cu_seqlens[document] : cu_seqlens[document + 1]]
        sums[:] = 0.0
        _add(ids, 0, embedding, sums)
        score_sums(sums, len(ids), positions, weight, bias, out[document])


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def add_tokens(ids, place, embedding, sums):
    """Adds tokens that stand from `place` on to the block sums (blocks, D) of a document."""
    _add(ids, place, embedding, sums)


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def score_sums(sums, n, positions, weight, bias, out):
    """Logits (C,) of a document of n tokens from its block sums."""
    context = np.empty(positions.shape[1], dtype=np.float32)
    _mix(n, positions, sums, context)
    _score(context, weight, bias, out)
