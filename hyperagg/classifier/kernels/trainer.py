"""Holds the parameters of a classifier in training and runs the kernels of `train_step` on them."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import numpy as np

from hyperagg._numba.simd import VECTOR_WIDTH, aligned_empty, pad_to_vector
from hyperagg.classifier.kernels.scoring import ModelArrays
from hyperagg.classifier.kernels.train_step import (
    CHANNEL_GROUPS,
    MICROBATCH,
    Batch,
    Parameters,
    Reductions,
    StepConfig,
    Workspace,
    train_documents,
)

__all__ = ["Batch", "FusedTrainer", "StepConfig"]

_TABLES = "embedding", "positions", "weight", "bias"


class FusedTrainer:
    """Trains a copy of the parameters of a classifier.

    Args:
        initial: the initial parameters.
        threads: the maximum number of threads; the weights do not depend on it.

    Numerics: float32. Memory: the parameters once more, and V numbers for each thread.
    """

    def __init__(self, initial: ModelArrays, threads: int = 1) -> None:
        self.channels, self.harmonic = initial.positions.shape[1], initial.harmonic
        self.threads = max(1, min(threads, CHANNEL_GROUPS))
        # In vectors; the last one may be padded with zeros.
        num_vectors = -(-self.channels // VECTOR_WIDTH)
        self._boundaries = np.arange(CHANNEL_GROUPS + 1) * num_vectors // CHANNEL_GROUPS
        self.load(initial, {name: np.zeros(len(getattr(initial, name))) for name in _TABLES})

    def load(self, arrays: ModelArrays, state: Mapping[str, np.ndarray]) -> None:
        """Continue from these parameters and the accumulated mean squared gradients of each row."""
        self._parameters = []
        for me in range(self.threads):
            channels = self._channels(me)
            self._parameters.append(
                Parameters(
                    pad_to_vector(arrays.embedding[:, channels]),
                    _aligned_copy(state["embedding"]),
                    pad_to_vector(arrays.positions[:, channels]),
                    _aligned_copy(state["positions"]),
                    pad_to_vector(arrays.weight[:, channels]),
                    _aligned_copy(state["weight"]),
                    _aligned_copy(arrays.bias),
                    _aligned_copy(state["bias"]),
                )
            )

    @property
    def state(self) -> dict[str, np.ndarray]:
        """The accumulated mean squared gradients of the rows of each array, by its name."""
        return dict(zip(_TABLES, self._parameters[0][1::2]))

    def write_to(self, arrays: ModelArrays) -> None:
        """Copy the trained parameters into these arrays."""
        arrays.bias[:] = self._parameters[0].bias
        for me, parameters in enumerate(self._parameters):
            for name in ("embedding", "positions", "weight"):
                target = getattr(arrays, name)[:, self._channels(me)]
                target[:] = getattr(parameters, name)[:, : target.shape[1]]

    def train(
        self,
        batch: Batch,
        order: np.ndarray,
        lr_scale: np.ndarray,
        class_weights: np.ndarray,
        steps: StepConfig,
    ) -> float:
        """Update the parameters once per document and return the sum of the losses.

        Args:
            batch: the documents.
            order: the indices of the documents to train on, in this order.
            lr_scale: (V,) float32, the factor of the learning rate of each row of the embedding.
            class_weights: (C,) float32, the factor of the loss of each class.
            steps: the learning rates, the label smoothing and the kind of loss.

        Cost: O(n D + C D) per document of n tokens.
        """
        blocks, classes = len(self._parameters[0].positions), len(self._parameters[0].bias)
        reductions = Reductions(
            logits=aligned_empty(CHANNEL_GROUPS, MICROBATCH, classes),
            contexts=aligned_empty(CHANNEL_GROUPS, MICROBATCH),
            gradients=aligned_empty(CHANNEL_GROUPS, MICROBATCH, blocks, 2),
        )
        lengths = batch.cu_seqlens[order + 1] - batch.cu_seqlens[order]
        longest = int(lengths.max(initial=0))
        workspaces = [self._workspace(me, longest) for me in range(self.threads)]
        losses = np.empty(len(order), dtype=np.float64)
        arrivals = np.zeros(1, dtype=np.int64)

        def work(me: int, threads: int, order: np.ndarray) -> None:
            train_documents(
                me, threads, arrivals, order, batch, self._parameters[me], workspaces[me],
                reductions, lr_scale, class_weights, steps, self.harmonic, losses,
            )  # fmt: skip

        if self.threads > 1:
            work(0, 1, order[:0])  # compiles before any thread waits for one that failed to compile
        gate, opened = threading.Event(), False

        def wait_and_work(me: int) -> None:
            gate.wait()
            if opened:
                work(me, self.threads, order)

        others = [
            threading.Thread(target=wait_and_work, args=(me,)) for me in range(1, self.threads)
        ]
        # If the system refuses a thread, the others must not wait for it at a barrier.
        try:
            for other in others:
                other.start()
            opened = True
        finally:
            gate.set()
        work(0, self.threads, order)
        for other in others:
            other.join()
        return float(losses.sum())

    def _workspace(self, me: int, longest: int) -> Workspace:
        (blocks, width), classes = (
            self._parameters[me].positions.shape,
            len(self._parameters[me].bias),
        )
        first, last = (k * CHANNEL_GROUPS // self.threads for k in (me, me + 1))
        return Workspace(
            sums=aligned_empty(MICROBATCH * blocks, width),
            row_gradients=aligned_empty(MICROBATCH * blocks, width),
            contexts=aligned_empty(MICROBATCH, width),
            scales=aligned_empty(MICROBATCH),
            context_squares=aligned_empty(MICROBATCH),
            logit_gradients=aligned_empty(MICROBATCH, classes),
            context_gradient=aligned_empty(1, width),
            logits=aligned_empty(classes),
            row_steps=aligned_empty(longest),
            channels=self.channels,
            first_group=first,
            last_group=last,
            boundaries=self._boundaries - self._boundaries[first],
        )

    def _channels(self, me: int) -> slice:
        first, last = (
            VECTOR_WIDTH * self._boundaries[k * CHANNEL_GROUPS // self.threads]
            for k in (me, me + 1)
        )
        return slice(first, min(last, self.channels))


def _aligned_copy(array: np.ndarray) -> np.ndarray:
    out = aligned_empty(*array.shape)
    out[:] = array
    return out
