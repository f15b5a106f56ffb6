"""Holds the parameters of a classifier in training and runs the kernels of `train_step` on them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hyperagg._numba import tasks
from hyperagg._numba.simd import VECTOR_WIDTH, aligned_empty, pad_to_vector
from hyperagg._numba.threads import even_borders, limit_threads, parts, run
from hyperagg.classifier.kernels.scoring import ModelArrays
from hyperagg.classifier.kernels.train_step import (
    OWNERS,
    SHARE,
    Batch,
    Parameters,
    StepConfig,
    Workspace,
    divide_into_blocks,
    train_documents,
)

__all__ = ["Batch", "FusedTrainer", "StepConfig"]

# In channels of tokens; with less work per thread, waking one costs more than it saves.
_MIN_WORK_PER_THREAD = 1_000_000
_STATE_CHANNELS = 2  # the accumulated squares of a row and its factor


class FusedTrainer:
    """Trains a copy of the parameters of a classifier.

    Args:
        initial: the initial parameters.
        lr_scale: (V,) float32, the factor of the learning rate of each row of the embedding.
        threads: the maximum number of threads; the weights do not depend on it.

    Numerics: float32. Memory: the parameters once more, and what a block of documents needs.
    """

    def __init__(self, initial: ModelArrays, lr_scale: np.ndarray, threads: int = 1) -> None:
        self.channels, self.harmonic = initial.positions.shape[1], initial.harmonic
        self.threads, self._lr_scale = max(1, threads), lr_scale
        self._workspace: Workspace | None = None
        names = "embedding", "positions", "weight", "bias"
        lengths = {name: len(getattr(initial, name)) for name in names}
        self.load(initial, {name: np.zeros(n, np.float32) for name, n in lengths.items()})

    def load(self, arrays: ModelArrays, state: Mapping[str, np.ndarray]) -> None:
        """Continue from these parameters and the accumulated mean squared gradients of each row."""
        self._parameters = Parameters(
            _by_owner(arrays.embedding),
            _by_owner(np.stack([state["embedding"], self._lr_scale], 1, dtype=np.float32)),
            pad_to_vector(arrays.positions),
            _aligned_copy(state["positions"]),
            pad_to_vector(arrays.weight),
            _aligned_copy(state["weight"]),
            _aligned_copy(arrays.bias),
            _aligned_copy(state["bias"]),
        )

    @property
    def state(self) -> dict[str, np.ndarray]:
        """The accumulated mean squared gradients of the rows of each array, by its name."""
        parameters = self._parameters
        return {
            "embedding": _by_token(
                parameters.embedding_state, np.empty_like(self._lr_scale)[:, None]
            )[:, 0],
            "positions": parameters.position_state,
            "weight": parameters.weight_state,
            "bias": parameters.bias_state,
        }

    def write_to(self, arrays: ModelArrays) -> None:
        """Copy the trained parameters into these arrays."""
        parameters, d = self._parameters, self.channels
        _by_token(parameters.embedding, arrays.embedding)
        arrays.positions[:] = parameters.positions[:, :d]
        arrays.weight[:] = parameters.weight[:, :d]
        arrays.bias[:] = parameters.bias

    def train(
        self,
        batch: Batch,
        order: np.ndarray,
        documents_before: int,
        class_weights: np.ndarray,
        steps: StepConfig,
    ) -> float:
        """Update the parameters by every document and return the sum of the losses.

        Args:
            batch: the documents.
            order: the indices of the documents to train on, in this order.
            documents_before: the number of documents that were trained on before, in all epochs.
            class_weights: (C,) float32, the factor of the loss of each class.
            steps: the learning rates, the label smoothing and the kind of loss.

        Cost: O(n D + C D) per document of n tokens.
        """
        plan, documents, tokens = divide_into_blocks(
            batch, order, documents_before, len(self._parameters.bias)
        )
        work = int(plan.token_offsets[-1]) * self.channels
        threads = max(1, min(self.threads, work // _MIN_WORK_PER_THREAD))
        workspace = self._workspace_for(documents, tokens, threads)
        losses = np.empty(len(order), dtype=np.float64)
        counters = tasks.new_counters(2 * (len(plan.boundaries) - 1))
        with limit_threads(threads):
            run(
                train_documents, np.arange(threads + 1), counters, plan, batch, self._parameters,
                workspace, class_weights, steps, self.harmonic, losses,
            )  # fmt: skip
        return float(losses.sum())

    def _workspace_for(self, documents: int, tokens: int, threads: int) -> Workspace:
        """Return arrays that suffice for such a block; fresh memory would cost page faults."""
        found = self._workspace
        needed = known = [documents, tokens, threads]
        if found is not None:
            known = [len(found.contexts), len(found.rows), len(found.logits)]
            needed = list(map(max, needed, known))
        if found is None or needed != known:
            found = self._workspace = self._new_workspace(*needed)
        return found

    def _new_workspace(self, documents: int, tokens: int, threads: int) -> Workspace:
        (blocks, width), classes = self._parameters.positions.shape, len(self._parameters.bias)
        shares = -(-documents // SHARE)
        return Workspace(
            contexts=aligned_empty(documents, width),
            scales=aligned_empty(documents),
            context_squares=aligned_empty(documents),
            logit_gradients=aligned_empty(documents, classes),
            context_gradients=aligned_empty(documents, width),
            token_squares=aligned_empty(documents, blocks),
            positions=aligned_empty(blocks, width),
            position_gradients=aligned_empty(shares * blocks, width),
            position_squares=aligned_empty(shares, blocks),
            list_ends=np.empty((shares, OWNERS), dtype=np.int64),
            rows=np.empty(tokens, dtype=np.int32),
            sources=np.empty(tokens, dtype=np.int32),
            weights=aligned_empty(tokens),
            sums=aligned_empty(threads * blocks, width),
            logits=aligned_empty(threads, classes),
            channels=self.channels,
        )


def _by_owner(array: np.ndarray) -> np.ndarray:
    """Copy the rows of tokens sorted by owner, with zeros after those of each owner and after the
    channels of each row, if there is more than one vector of them."""
    rows = -(-len(array) // (OWNERS * 16)) * 16  # no two owners write to a cache line of the state
    channels = array.shape[1]
    if channels > _STATE_CHANNELS:
        channels = -(-channels // VECTOR_WIDTH) * VECTOR_WIDTH
    out = aligned_empty(OWNERS * rows, channels)
    run(_copy_to_owners, _owner_ranges(out), array, out.reshape(OWNERS, rows, channels))
    return out


def _by_token(array: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Do the inverse of `_by_owner` and return `out`."""
    run(_copy_to_tokens, _owner_ranges(array), array.reshape(OWNERS, -1, array.shape[1]), out)
    return out


def _owner_ranges(array: np.ndarray) -> np.ndarray:
    return even_borders(np.ones(OWNERS), parts(array.size))


def _copy_to_owners(first: int, last: int, array: np.ndarray, out: np.ndarray) -> None:
    for owner in range(first, last):
        tokens, own = array[owner::OWNERS], out[owner]
        n, d = tokens.shape
        own[:n, :d], own[:n, d:], own[n:] = tokens, 0, 0


def _copy_to_tokens(first: int, last: int, array: np.ndarray, out: np.ndarray) -> None:
    for owner in range(first, last):
        tokens = out[owner::OWNERS]
        tokens[:] = array[owner, : len(tokens), : tokens.shape[1]]


def _aligned_copy(array: np.ndarray) -> np.ndarray:
    out = aligned_empty(*array.shape)
    out[:] = array
    return out
