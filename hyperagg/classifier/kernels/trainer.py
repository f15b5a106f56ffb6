"""An aggregation classifier in training by the kernels of `fused_step`: its tables, and threads."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from hyperagg._numba import simd as lines
from hyperagg._numba.simd import VECTOR_WIDTH
from hyperagg.classifier.kernels.scoring import Weights
from hyperagg.classifier.kernels.train_step import (
    CHANNEL_GROUPS,
    MICROBATCH,
    Batch,
    Parameters,
    Reductions,
    StepConfig,
    Workspace,
    learn,
)
from hyperagg.classifier.model import Classifier
from hyperagg.layers.pooling import PooledAggregation
from hyperagg.text import Ragged

__all__ = ["Documents", "FusedTrainer", "StepConfig", "parameters", "weights"]


class Documents(NamedTuple):
    """What is learned.

    Attributes:
        rows: the tokens.
        occurrence_weights: (T,) float32, what each of them counts.
        targets: the classes of each document, one unless there may be several.
    """

    rows: Ragged
    occurrence_weights: np.ndarray
    targets: Ragged


def weights(model: Classifier) -> Weights:
    """The model's parameters as the kernels take them: views, not copies."""
    assert isinstance(model.mixer, PooledAggregation), "these kernels are aggregation's alone"
    embedding, positions, weight, bias = (p.detach().numpy() for p in parameters(model))
    return Weights(embedding, positions, weight, bias, model.mixer.pooling == "harmonic")


def parameters(model: Classifier) -> tuple[Tensor, ...]:
    """The tensors of `weights`, in that order."""
    # From the modules' own dicts: their attributes, looked up in Python, take as long as a text.
    own: Any = model._parameters
    parts: Any = model._modules
    positions: Any = parts["mixer"]._modules["positions"]._parameters
    head: Any = parts["head"]._parameters
    return own["embedding"], positions["weight"], head["weight"], head["bias"]


class FusedTrainer:
    """Parameters in training.

    Args:
        weights: what to begin with; they are copied.
        threads: how many there may be; the weights do not depend on it.

    Numerics: float32. Memory: the tables once more, and V numbers for each thread.
    """

    def __init__(self, weights: Weights, threads: int = 1) -> None:
        self.channels, self.harmonic = weights.positions.shape[1], weights.harmonic
        self.threads = max(1, min(threads, CHANNEL_GROUPS))
        # In lines, of which the last may be filled up with zeros.
        self._borders = (
            np.arange(CHANNEL_GROUPS + 1) * -(-self.channels // VECTOR_WIDTH) // CHANNEL_GROUPS
        )
        self.load(weights, {name: np.zeros(len(table)) for name, table in weights.tables.items()})

    def load(self, weights: Weights, state: Mapping[str, np.ndarray]) -> None:
        """Go on from these weights, and sums of mean squared gradients (rows,) of each table."""
        self.tables = []
        for me in range(self.threads):
            own = self._channels(me)
            state_of = {name: _copy(state[name]) for name in weights.tables}
            self.tables.append(
                Parameters(
                    lines.pad_to_vector(weights.embedding[:, own]),
                    state_of["embedding"],
                    lines.pad_to_vector(weights.positions[:, own]),
                    state_of["positions"],
                    lines.pad_to_vector(weights.weight[:, own]),
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
        steps: StepConfig,
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
        side = CHANNEL_GROUPS, MICROBATCH
        shapes = (*side, classes), side, (*side, blocks, 2)
        told = Reductions(*(lines.aligned_empty(*shape) for shape in shapes))
        longest = int(rows.lengths[order].max(initial=0))
        own = [self._own(k, longest) for k in range(self.threads)]
        losses = np.empty(len(order), dtype=np.float64)
        arrivals = np.zeros(1, dtype=np.int64)
        read = Batch(
            rows.token_ids,
            documents.occurrence_weights,
            rows.cu_seqlens,
            targets.token_ids,
            targets.cu_seqlens,
        )

        def work(me: int, threads: int, order: np.ndarray) -> None:
            learn(
                me, threads, arrivals, order, read, self.tables[me], own[me], told, rates,
                class_weights, steps, self.harmonic, losses,
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

    def _own(self, me: int, longest: int) -> Workspace:
        (blocks, width), classes = self.tables[me].positions.shape, len(self.tables[me].bias)
        side = MICROBATCH
        first, last = (k * CHANNEL_GROUPS // self.threads for k in (me, me + 1))
        return Workspace(
            sums=lines.aligned_empty(side * blocks, width),
            row_gradients=lines.aligned_empty(side * blocks, width),
            contexts=lines.aligned_empty(side, width),
            scales=lines.aligned_empty(side),
            context_squares=lines.aligned_empty(side),
            logit_gradients=lines.aligned_empty(side, classes),
            context_gradient=lines.aligned_empty(1, width),
            logits=lines.aligned_empty(classes),
            row_steps=lines.aligned_empty(longest),
            channels=self.channels,
            first_group=first,
            last_group=last,
            borders=self._borders - self._borders[first],
        )

    def _channels(self, me: int) -> slice:
        first, last = (
            VECTOR_WIDTH * self._borders[k * CHANNEL_GROUPS // self.threads] for k in (me, me + 1)
        )
        return slice(first, min(last, self.channels))


def _copy(numbers: np.ndarray) -> np.ndarray:
    out = lines.aligned_empty(*numbers.shape)
    out[:] = numbers
    return out
