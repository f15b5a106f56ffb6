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
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from torch import Tensor

from hyperagg import lines
from hyperagg.lines import LINE
from hyperagg.models.classifier import AggregationMixer, Classifier
from hyperagg.prefetch import prefetch
from hyperagg.text import Ragged
from hyperagg.training.barrier import wait
from hyperagg.training.scoring import AHEAD, Weights, block_end, block_of, blocks_of, scale_of

__all__ = ["Documents", "Learner", "Steps", "parameters", "weights"]

_F = np.float32
_EPSILON = _F(1e-12)
_SIDE_BY_SIDE = 16
# Of channels, and so the most threads there can be.
_GROUPS = 4


class Documents(NamedTuple):
    """What is learned.

    Attributes:
        rows: the tokens.
        use_weights: (T,) float32, what each of them counts.
        targets: the classes of each document, one unless there may be several.
    """

    rows: Ragged
    use_weights: np.ndarray
    targets: Ragged


class Steps(NamedTuple):
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


class _Read(NamedTuple):
    """Documents, in the order in which the kernels take them."""

    token_ids: np.ndarray
    use_weights: np.ndarray
    cu_seqlens: np.ndarray
    target_ids: np.ndarray
    target_borders: np.ndarray


class _Tables(NamedTuple):
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


class _Own(NamedTuple):
    """What a thread remembers of the documents that are learned side by side."""

    sums: np.ndarray  # (S * blocks, D), and after the gradients have been taken p's gradients
    row_gradients: np.ndarray  # (S * blocks, D)
    contexts: np.ndarray  # (S, D), not yet scaled
    scales: np.ndarray  # (S,)
    context_squares: np.ndarray  # (S,)
    logit_gradients: np.ndarray  # (S, C)
    context_gradient: np.ndarray  # (1, D)
    logits: np.ndarray  # (C,)
    steps: np.ndarray  # (longest document,)
    channels: int  # of all threads
    first_group: int
    last_group: int
    borders: np.ndarray  # (GROUPS + 1,) where its groups begin, in its lines


class _Told(NamedTuple):
    """What the threads tell each other of each group of channels: its part of the logits, of the
    squares of the context, and of those of the gradients of positions and rows of every block."""

    logits: np.ndarray  # (GROUPS, S, C)
    contexts: np.ndarray  # (GROUPS, S)
    gradients: np.ndarray  # (GROUPS, S, blocks, 2)


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


@njit(nogil=True, cache=True)
def _learn(me, threads, arrivals, order, read, tables, own, told, rates, class_weights, steps,
           damped, losses):  # fmt: skip
    """The share of thread `me` in the steps for the documents of `order`."""
    waits = 0
    for first in range(0, len(order), _SIDE_BY_SIDE):
        last = min(first + _SIDE_BY_SIDE, len(order))
        _aggregate(first, last, order, read, tables, damped, own, told)
        waits += 1
        wait(arrivals, threads, waits)
        _differentiate(first, last, order, read, tables, class_weights, steps, own, told, losses)
        waits += 1
        wait(arrivals, threads, waits)
        _step(first, last, order, read, tables, rates, steps, own, told)


@njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def _aggregate(first, last, order, read, tables, damped, own, told):
    """The contexts of documents, and their logits as far as the thread's channels go."""
    blocks, width = len(tables.positions), tables.positions.shape[1] // LINE
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
            squares += read.use_weights[t] * read.use_weights[t]
        own.scales[i] = scale_of(n, squares, damped)
        for group in range(own.first_group, own.last_group):
            start, stop = own.borders[group], own.borders[group + 1]
            told.contexts[group, i] = lines.dot(own.contexts, i, own.contexts, i, start, stop)
            for c in range(len(tables.weight)):
                part = lines.dot(tables.weight, c, own.contexts, i, start, stop)
                told.logits[group, i, c] = part


@njit(nogil=True, cache=True, inline="always")
def _add_rows(total, i, table, read, t, stop, end):
    """Adds the weighted rows of tokens up to `stop`, while rows up to `end` are fetched ahead."""
    ids, weights, width = read.token_ids, read.use_weights, table.shape[1] // LINE
    while t + 4 <= stop:
        for later in range(t + AHEAD, min(t + AHEAD + 4, end)):
            prefetch(table, ids[later])
        lines.add_four(
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
    blocks, width = len(tables.positions), tables.positions.shape[1] // LINE
    logits = own.logits
    for i in range(last - first):
        document = order[first + i]
        scale, gradient = own.scales[i], own.logit_gradients[i]
        own.context_squares[i] = _F(0)
        logits[:] = _F(0)
        for group in range(_GROUPS):
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
    blocks, width = len(tables.positions), tables.positions.shape[1] // LINE
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
            for group in range(_GROUPS):
                place_square += told.gradients[group, i, k, 0]
                row_square += told.gradients[group, i, k, 1]
            size = _step_size(tables.position_state, k, place_square * share, rate)
            lines.add(tables.positions, k, -size, own.sums, row, 0, width)
            # Apart from the rows, which would else wait for a root and a quotient each.
            for t in range(place, stop):
                token, w = read.token_ids[begin + t], read.use_weights[begin + t]
                size = _step_size(tables.embedding_state, token, w * w * row_square * share, rate)
                own.steps[t] = -size * w * rates[token]
            for t in range(place, stop):
                token = read.token_ids[begin + t]
                lines.add(tables.embedding, token, own.steps[t], own.row_gradients, row, 0, width)
            place = stop


class Learner:
    """Tables in training.

    Args:
        weights: what to begin with; they are copied.
        threads: how many there may be; the weights do not depend on it.

    Numerics: float32. Memory: the tables once more, and V numbers for each thread.
    """

    def __init__(self, weights: Weights, threads: int = 1) -> None:
        self.channels, self.damped = weights.positions.shape[1], weights.damped
        self.threads = max(1, min(threads, _GROUPS))
        # In lines, of which the last may be filled up with zeros.
        self._borders = np.arange(_GROUPS + 1) * -(-self.channels // LINE) // _GROUPS
        self.load(weights, {name: np.zeros(len(table)) for name, table in weights.tables.items()})

    def load(self, weights: Weights, state: Mapping[str, np.ndarray]) -> None:
        """Go on from these weights, and sums of mean squared gradients (rows,) of each table."""
        self.tables = []
        for me in range(self.threads):
            own = self._channels(me)
            state_of = {name: _copy(state[name]) for name in weights.tables}
            self.tables.append(
                _Tables(
                    lines.whole(weights.embedding[:, own]),
                    state_of["embedding"],
                    lines.whole(weights.positions[:, own]),
                    state_of["positions"],
                    lines.whole(weights.weight[:, own]),
                    state_of["weight"],
                    _copy(weights.bias),
                    state_of["bias"],
                )
            )

    @property
    def state(self) -> dict[str, np.ndarray]:
        """Sums of mean squared gradients of the rows of each table."""
        names = "embedding", "positions", "weight", "bias"
        return dict(zip(names, self.tables[0][1::2]))

    def write(self, weights: Weights) -> None:
        """Copies what has been learned into these arrays."""
        weights.bias[:] = self.tables[0].bias
        for me, tables in enumerate(self.tables):
            own = self._channels(me)
            for name in ("embedding", "positions", "weight"):
                into, table = getattr(weights, name)[:, own], getattr(tables, name)
                into[:] = table[:, : into.shape[1]]

    def learn(
        self,
        documents: Documents,
        order: np.ndarray,
        rates: np.ndarray,
        class_weights: np.ndarray,
        steps: Steps,
    ) -> float:
        """One step for each document of `order`, in that order; returns the sum of the losses.

        Args:
            documents: any number of them.
            order: numbers of documents.
            rates: (V,) float32, multiplies the learning rate of each row of the embedding.
            class_weights: (C,) float32.
            steps: how.

        Cost: O(n D + C D) a document.
        """
        rows, targets = documents.rows, documents.targets
        blocks, classes = len(self.tables[0].positions), len(self.tables[0].bias)
        side = _GROUPS, _SIDE_BY_SIDE
        shapes = (*side, classes), side, (*side, blocks, 2)
        told = _Told(*(lines.apart(*shape) for shape in shapes))
        longest = int(rows.lengths[order].max(initial=0))
        losses = np.empty(len(order), dtype=np.float64)
        arrivals = np.zeros(1, dtype=np.int64)

        read = _Read(
            rows.token_ids,
            documents.use_weights,
            rows.cu_seqlens,
            targets.token_ids,
            targets.cu_seqlens,
        )

        def work(me: int, threads: int, order: np.ndarray) -> None:
            _learn(
                me, threads, arrivals, order, read, self.tables[me], self._own(me, longest), told,
                rates, class_weights, steps, self.damped, losses,
            )  # fmt: skip

        if self.threads > 1:
            work(0, 1, order[:0])  # compiles, while nobody waits for a thread that could fail to
        others = [
            threading.Thread(target=work, args=(k, self.threads, order))
            for k in range(1, self.threads)
        ]
        for other in others:
            other.start()
        work(0, self.threads, order)
        for other in others:
            other.join()
        return float(losses.sum())

    def _own(self, me: int, longest: int) -> _Own:
        (blocks, width), classes = self.tables[me].positions.shape, len(self.tables[me].bias)
        side = _SIDE_BY_SIDE
        first, last = (k * _GROUPS // self.threads for k in (me, me + 1))
        return _Own(
            sums=lines.apart(side * blocks, width),
            row_gradients=lines.apart(side * blocks, width),
            contexts=lines.apart(side, width),
            scales=lines.apart(side),
            context_squares=lines.apart(side),
            logit_gradients=lines.apart(side, classes),
            context_gradient=lines.apart(1, width),
            logits=lines.apart(classes),
            steps=lines.apart(longest),
            channels=self.channels,
            first_group=first,
            last_group=last,
            borders=self._borders - self._borders[first],
        )

    def _channels(self, me: int) -> slice:
        first, last = (LINE * self._borders[k * _GROUPS // self.threads] for k in (me, me + 1))
        return slice(first, min(last, self.channels))


def _copy(numbers: np.ndarray) -> np.ndarray:
    out = lines.apart(*numbers.shape)
    out[:] = numbers
    return out
