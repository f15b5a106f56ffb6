"""Trains a model on documents with the fused kernels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hyperagg._common.calibration import best_threshold, calibrated_cross_entropy
from hyperagg.classifier.config import TrainingConfig
from hyperagg.classifier.kernels.trainer import Batch, FusedTrainer, StepConfig
from hyperagg.classifier.model import ClassifierModel
from hyperagg.text import Ragged, occurrence_weights

__all__ = ["LabeledDocuments", "Objective", "TrainStep"]


@dataclass(frozen=True)
class LabeledDocuments:
    """Documents and their classes.

    Args:
        rows: the token ids of each document.
        targets: the class ids of each document.
        weights: (B,) float32, the factor of each document's loss (default: 1).
    """

    rows: Ragged
    targets: Ragged
    weights: np.ndarray | None = None

    def take(self, indices: np.ndarray) -> LabeledDocuments:
        """Return the documents at these indices, in their order."""
        weights = None if self.weights is None else self.weights[indices]
        return LabeledDocuments(self.rows.take(indices), self.targets.take(indices), weights)

    def append(self, more: LabeledDocuments) -> LabeledDocuments:
        """Return all documents; those without weights have the mean weight of the others."""
        parts = self, more
        weights = None
        known = [part.weights for part in parts if part.weights is not None]
        if known:
            mean = np.float32(np.concatenate(known).mean())
            weights = np.concatenate(
                [
                    np.full(len(part.rows), mean) if part.weights is None else part.weights
                    for part in parts
                ]
            )
        return LabeledDocuments(
            _concatenate(self.rows, more.rows), _concatenate(self.targets, more.targets), weights
        )


def _concatenate(a: Ragged, b: Ragged) -> Ragged:
    boundaries = np.concatenate([a.cu_seqlens, a.cu_seqlens[-1] + b.cu_seqlens[1:]])
    return Ragged(np.concatenate([a.token_ids, b.token_ids]), boundaries)


@dataclass(frozen=True)
class Objective:
    """What a classifier learns to predict.

    Args:
        class_weights: (C,) float32, the factor of the loss of each class.
        multi_label: whether a document may have any number of classes, each predicted
            independently, instead of exactly one.
    """

    class_weights: np.ndarray
    multi_label: bool = False

    def score(self, targets: Ragged, logits: np.ndarray) -> float:
        """Return the accuracy; in multi-label problems the greatest micro-F1 over all
        thresholds."""
        if not self.multi_label:
            return float((logits.argmax(1) == targets.token_ids).mean())
        return best_threshold(logits, targets.indicators(logits.shape[1]))[1]

    def validation_loss(self, targets: Ragged, logits: np.ndarray) -> float:
        """Return the mean cross-entropy of a document, of calibrated probabilities."""
        truth = targets.indicators(logits.shape[1])
        return calibrated_cross_entropy(logits, truth, self.multi_label)


class TrainStep:
    """A model in training.

    Args:
        model: the initial parameters. `sync_to_model` writes the trained ones into its arrays.
        config: the learning rate and the label smoothing.
        objective: what is learned.
        lr_scale: (V,) the factor of the learning rate of each row of the embedding (default: 1).
        threads: the number of threads; the weights do not depend on it.
    """

    def __init__(
        self,
        model: ClassifierModel,
        config: TrainingConfig,
        objective: Objective,
        lr_scale: np.ndarray | None = None,
        threads: int = 1,
    ) -> None:
        self.model, self.config, self.objective = model, config, objective
        if lr_scale is None:
            lr_scale = np.ones(len(model.embedding))
        self.lr_scale = lr_scale.astype(np.float32)
        self._trainer = FusedTrainer(model.kernel_arguments, self.lr_scale, threads)
        self._batch: tuple[LabeledDocuments, Batch] | None = None

    def step(self, data: LabeledDocuments, order: np.ndarray, begin: float, end: float) -> float:
        """Train on documents in a given order and return the sum of their losses.

        Args:
            data: the documents.
            order: indices of documents.
            begin, end: the fraction of the whole training that is completed before and after.
        """
        if self._batch is None or self._batch[0] is not data:
            self._batch = data, self._prepare(data)
        learning_rate = self.config.learning_rate
        steps = StepConfig(
            learning_rate * (1 - begin),
            learning_rate * (1 - end),
            self.config.label_smoothing,
            self.objective.multi_label,
        )
        batch, class_weights = self._batch[1], self.objective.class_weights
        documents_before = round(begin * self.config.epochs * len(data.rows))
        return self._trainer.train(batch, order, documents_before, class_weights, steps)

    def sync_to_model(self) -> None:
        """Write the parameters to the model; until then it may lack the last steps."""
        self._trainer.write_to(self.model.kernel_arguments)

    def optimizer_state(self) -> dict[str, np.ndarray]:
        """Return all that a step depends on besides the parameters of the model."""
        return self._trainer.state

    def load_optimizer_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from this state and from the present parameters of the model."""
        self._trainer.load(self.model.kernel_arguments, state)

    def _prepare(self, data: LabeledDocuments) -> Batch:
        if self.model.pooling == "harmonic":
            occurrences = occurrence_weights(data.rows, len(self.lr_scale))
        else:
            occurrences = np.ones(len(data.rows.token_ids), dtype=np.float32)
        weights = data.weights
        if weights is None:
            weights = np.ones(len(data.rows), dtype=np.float32)
        return Batch(
            data.rows.token_ids,
            occurrences,
            data.rows.cu_seqlens,
            data.targets.token_ids,
            data.targets.cu_seqlens,
            weights,
        )
