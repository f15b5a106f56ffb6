"""The two ways to step a classifier: fused kernels, or PyTorch's autograd.

A stepper owns a model and its optimiser's state. The loop gives it documents in the order to learn
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

from hyperagg.models.classifier import AggregationMixer, Classifier
from hyperagg.text import Ragged
from hyperagg.training import fused

__all__ = [
    "AutogradStepper",
    "FusedStepper",
    "Recipe",
    "Stepper",
    "make_stepper",
    "predict_logits",
    "softmax",
]


@dataclass(frozen=True)
class Recipe:
    """How a classifier is trained.

    Args:
        epochs: passes over the training documents.
        learning_rate: at the start; it falls linearly to 0 at the end.
        label_smoothing: weight taken from the true class and spread over all.
        batch_size: documents a step, where steps are batched; the fused step takes one at a time.
    """

    epochs: int = 10
    learning_rate: float = 0.03
    label_smoothing: float = 0.1
    batch_size: int = 32


class Stepper(Protocol):
    """A model in training."""

    model: Classifier

    def step(
        self, rows: Ragged, targets: np.ndarray, order: np.ndarray, begin: float, end: float
    ) -> float:
        """Learn the documents of `order`, the run going from share `begin` to `end` of itself;
        returns the sum of their losses."""
        ...

    def optimizer_state(self) -> dict[str, Tensor]:
        """All that a step depends on besides the model's weights, by name."""
        ...

    def load_optimizer_state(self, state: Mapping[str, Tensor]) -> None: ...


def make_stepper(model: Classifier, recipe: Recipe, rates: np.ndarray | None = None) -> Stepper:
    """The fused kernels for aggregation, autograd for every other mixer.

    `rates` (V,) multiplies the learning rate of each row of the embedding, in the fused kernels.
    """
    if isinstance(model.mixer, AggregationMixer):
        return FusedStepper(model, recipe, rates)
    return AutogradStepper(model, recipe)


class FusedStepper:
    """Steps an aggregation classifier by the kernels of `hyperagg.training.fused`."""

    def __init__(self, model: Classifier, recipe: Recipe, rates: np.ndarray | None = None) -> None:
        self.model = model
        self.recipe = recipe
        self.tables = fused.tables(model)
        if rates is None:
            rates = np.ones(len(model.embedding))
        self.rates = rates.astype(np.float32)
        # For each row of each table, the sum of the mean squares of its gradients.
        self.state = {name: torch.zeros(len(table)) for name, table in self.tables.items()}

    def step(
        self, rows: Ragged, targets: np.ndarray, order: np.ndarray, begin: float, end: float
    ) -> float:
        pairs = [
            array
            for name, table in self.tables.items()
            for array in (table, self.state[name].numpy())
        ]
        rate = self.recipe.learning_rate
        return fused.train_documents(
            order,
            rows.token_ids,
            rows.cu_seqlens,
            targets,
            self.rates,
            *pairs,
            rate * (1 - begin),
            rate * (1 - end),
            self.recipe.label_smoothing,
        )

    def optimizer_state(self) -> dict[str, Tensor]:
        return self.state

    def load_optimizer_state(self, state: Mapping[str, Tensor]) -> None:
        for name, value in self.state.items():
            value.copy_(state[name])


class AutogradStepper:
    """Steps any classifier by autograd: SparseAdam on the embedding, AdamW on the rest.

    A batch holds documents of like length, so that little of it is padding.
    """

    def __init__(self, model: Classifier, recipe: Recipe) -> None:
        self.model = model
        self.recipe = recipe
        rest = [p for p in model.parameters() if p is not model.embedding]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.SparseAdam([model.embedding], lr=recipe.learning_rate),
            torch.optim.AdamW(rest, lr=recipe.learning_rate),
        ]

    def step(
        self, rows: Ragged, targets: np.ndarray, order: np.ndarray, begin: float, end: float
    ) -> float:
        self.model.train()
        batches = _batches_of_like_length(order, rows.lengths, self.recipe.batch_size)
        total = 0.0
        for i, batch in enumerate(batches):
            share = begin + (end - begin) * i / len(batches)
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = self.recipe.learning_rate * (1 - share)
                optimizer.zero_grad()
            loss = F.cross_entropy(
                _forward(self.model, rows.take(batch)),
                torch.from_numpy(targets[batch]),
                label_smoothing=self.recipe.label_smoothing,
            )
            loss.backward()
            for optimizer in self.optimizers:
                optimizer.step()
            total += loss.item() * len(batch)
        return total

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
    if isinstance(model.mixer, AggregationMixer):
        return fused.logits(model, rows)
    model.eval()
    out = np.empty((len(rows), model.head.out_features), dtype=np.float32)
    with torch.inference_mode():
        for batch in _batches_of_like_length(np.arange(len(rows)), rows.lengths, batch_size):
            out[batch] = _forward(model, rows.take(batch)).numpy()
    return out


def softmax(logits: np.ndarray) -> np.ndarray:
    """(..., C) probabilities, in the type of the logits."""
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    return odds / odds.sum(-1, keepdims=True)


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
