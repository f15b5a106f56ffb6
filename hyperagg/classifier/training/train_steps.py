"""The two ways to step a classifier: fused kernels, or PyTorch's autograd.

A train_step owns a model and its optimiser's state. The loop gives it documents in the order to learn
them and how far training has come; it answers with the loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hyperagg._common.calibration import best_threshold
from hyperagg.classifier.kernels import scoring
from hyperagg.classifier.kernels import trainer as fused
from hyperagg.classifier.model import Classifier
from hyperagg.classifier.training_config import Recipe
from hyperagg.layers.pooling import PooledAggregation
from hyperagg.text import Ragged, occurrence_weights

__all__ = [
    "AutogradTrainStep",
    "FusedTrainStep",
    "Labelled",
    "Objective",
    "TrainStep",
    "make_train_step",
    "predict_logits",
]


@dataclass(frozen=True)
class Labelled:
    """Documents and their classes: ragged rows of token ids, and of class ids."""

    rows: Ragged
    targets: Ragged

    def take(self, indices: np.ndarray) -> Labelled:
        return Labelled(self.rows.take(indices), self.targets.take(indices))


@dataclass(frozen=True)
class Objective:
    """What is to be predicted.

    Args:
        class_weights: (C,) float32, what a document of each class counts.
        multi_label: whether a document may have any number of classes, each a yes or no of its
            own, and not exactly one.
    """

    class_weights: np.ndarray
    multi_label: bool = False

    def score(self, targets: Ragged, logits: np.ndarray) -> float:
        """The share of documents that get their class; of several labels the best micro-F1 there is
        among all thresholds."""
        if not self.multi_label:
            return float((logits.argmax(1) == targets.token_ids).mean())
        return best_threshold(logits, targets.indicators(logits.shape[1]))[1]


class TrainStep(Protocol):
    """A model in training."""

    model: Classifier
    objective: Objective

    def step(self, data: Labelled, order: np.ndarray, begin: float, end: float) -> float:
        """Learn the documents of `order`, the run going from share `begin` to `end` of itself;
        returns the sum of their losses."""
        ...

    def sync_to_model(self) -> None:
        """Until then the model may not have what the last steps have learned."""
        ...

    def optimizer_state(self) -> dict[str, Tensor]:
        """All that a step depends on besides the model's weights, by name."""
        ...

    def load_optimizer_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from there, and from the weights that the model has now."""
        ...


def make_train_step(
    model: Classifier,
    recipe: Recipe,
    objective: Objective,
    rates: np.ndarray | None = None,
    threads: int = 1,
) -> TrainStep:
    """The fused kernels for aggregation, autograd for every other mixer.

    `rates` (V,) multiplies the learning rate of each row of the embedding, in the fused kernels.
    """
    if isinstance(model.mixer, PooledAggregation):
        return FusedTrainStep(model, recipe, objective, rates, threads)
    return AutogradTrainStep(model, recipe, objective)


class FusedTrainStep:
    """Steps an aggregation classifier by `fused.FusedTrainer`.

    `threads` is how many there may be; the weights do not depend on it.
    """

    def __init__(
        self,
        model: Classifier,
        recipe: Recipe,
        objective: Objective,
        rates: np.ndarray | None = None,
        threads: int = 1,
    ) -> None:
        self.model, self.recipe, self.objective = model, recipe, objective
        self.weights = fused.weights(model)
        if rates is None:
            rates = np.ones(len(model.embedding))
        self.rates = rates.astype(np.float32)
        self.learner = fused.FusedTrainer(self.weights, threads)
        self._documents: tuple[Labelled | None, fused.Documents | None] = (None, None)

    def step(self, data: Labelled, order: np.ndarray, begin: float, end: float) -> float:
        kept, documents = self._documents
        if documents is None or kept is not data:
            uses = self._use_weights(data.rows)
            documents = fused.Documents(data.rows, uses, data.targets)
            self._documents = data, documents
        rate, objective = self.recipe.learning_rate, self.objective
        steps = fused.StepConfig(
            rate * (1 - begin),
            rate * (1 - end),
            self.recipe.label_smoothing,
            objective.multi_label,
        )
        return self.learner.learn(documents, order, self.rates, objective.class_weights, steps)

    def sync_to_model(self) -> None:
        self.learner.write(self.weights)

    def _use_weights(self, rows: Ragged) -> np.ndarray:
        if self.weights.harmonic:
            return occurrence_weights(rows, len(self.rates))
        return np.ones(len(rows.token_ids), dtype=np.float32)

    def optimizer_state(self) -> dict[str, Tensor]:
        return {name: torch.from_numpy(value) for name, value in self.learner.state.items()}

    def load_optimizer_state(self, state: Mapping[str, Tensor]) -> None:
        self.learner.load(self.weights, {name: value.numpy() for name, value in state.items()})


class AutogradTrainStep:
    """Steps any classifier by autograd: SparseAdam on the embedding, AdamW on the rest.

    A batch holds documents of like length, so that little of it is padding.
    """

    def __init__(self, model: Classifier, recipe: Recipe, objective: Objective) -> None:
        self.model, self.recipe, self.objective = model, recipe, objective
        rest = [p for p in model.parameters() if p is not model.embedding]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.SparseAdam([model.embedding], lr=recipe.learning_rate),
            torch.optim.AdamW(rest, lr=recipe.learning_rate),
        ]

    def step(self, data: Labelled, order: np.ndarray, begin: float, end: float) -> float:
        self.model.train()
        batches = _batches_of_like_length(order, data.rows.lengths, self.recipe.batch_size)
        total = 0.0
        for i, batch in enumerate(batches):
            share = begin + (end - begin) * i / len(batches)
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = self.recipe.learning_rate * (1 - share)
                optimizer.zero_grad()
            loss = self.loss(data.take(batch))
            (loss / len(batch)).backward()
            for optimizer in self.optimizers:
                optimizer.step()
            total += loss.item()
        return total

    def sync_to_model(self) -> None:
        pass  # what is stepped is the model itself

    def loss(self, data: Labelled) -> Tensor:
        """The sum of the documents' losses."""
        logits = _forward(self.model, data.rows)
        weights = torch.from_numpy(self.objective.class_weights)
        smoothing = self.recipe.label_smoothing
        wanted = torch.zeros_like(logits)
        ids = torch.from_numpy(data.targets.token_ids).long()
        wanted[torch.repeat_interleave(torch.from_numpy(data.targets.lengths)), ids] = 1
        if self.objective.multi_label:
            importance = 1 + wanted * (weights - 1)
            wanted = wanted * (1 - smoothing) + smoothing / 2
            return F.binary_cross_entropy_with_logits(logits, wanted, importance, reduction="sum")
        wanted = wanted * (1 - smoothing) + smoothing / logits.shape[1]
        return (F.cross_entropy(logits, wanted, reduction="none") * weights[ids]).sum()

    def optimizer_state(self) -> dict[str, Tensor]:
        state = {}
        for i, optimizer in enumerate(self.optimizers):
            for k, values in optimizer.state_dict()["state"].items():
                for name, value in values.items():
                    state[f"{i}.{k}.{name}"] = torch.as_tensor(value)
        return state

    def load_optimizer_state(self, state: Mapping[str, Tensor]) -> None:
        for i, optimizer in enumerate(self.optimizers):
            described = optimizer.state_dict()
            for name, value in state.items():
                optimizer_id, k, field = name.split(".", 2)
                if int(optimizer_id) == i:
                    # SparseAdam counts its steps in a plain number, AdamW in a tensor.
                    plain = field == "step" and isinstance(optimizer, torch.optim.SparseAdam)
                    described["state"].setdefault(int(k), {})[field] = (
                        int(value) if plain else value.clone()
                    )
            optimizer.load_state_dict(described)


def predict_logits(model: Classifier, rows: Ragged, batch_size: int) -> np.ndarray:
    """(B, C) float32; in batches of `batch_size` where rows are padded."""
    if isinstance(model.mixer, PooledAggregation):
        return scoring.logits(fused.weights(model), rows)
    model.eval()
    out = np.empty((len(rows), model.head.out_features), dtype=np.float32)
    with torch.inference_mode():
        for batch in _batches_of_like_length(np.arange(len(rows)), rows.lengths, batch_size):
            out[batch] = _forward(model, rows.take(batch)).numpy()
    return out


def _forward(model: Classifier, rows: Ragged) -> Tensor:
    return model(torch.from_numpy(rows.token_ids), torch.from_numpy(rows.cu_seqlens))


def _batches_of_like_length(
    order: np.ndarray, lengths: np.ndarray, batch_size: int
) -> list[np.ndarray]:
    """The documents of `order` in batches of like length, the batches in the order that their
    first document has there."""
    by_length = np.argsort(lengths[order], kind="stable")
    batches = [by_length[i : i + batch_size] for i in range(0, len(order), batch_size)]
    batches.sort(key=min)
    return [order[batch] for batch in batches]
