"""Holds what a run of training yields, and what `partial_fit` continues from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hyperagg.classifier.history import History
from hyperagg.classifier.model import ClassifierModel
from hyperagg.classifier.training.train_step import LabeledDocuments, TrainStep
from hyperagg.text import token_counts

__all__ = ["OPTIMIZER_PREFIX", "TrainingResult", "state_lengths", "training_state"]

OPTIMIZER_PREFIX = "optimizer."


@dataclass
class TrainingResult:
    """What training has yielded so far.

    Attributes:
        model: the parameters; None before the first run has ended.
        history: the course of training.
        state: what `partial_fit` continues from, see `training_state`; {} if it cannot continue.
        interrupted: whether the model is that of a first run that was interrupted.
    """

    model: ClassifierModel | None = None
    history: History = field(default_factory=History)
    state: dict[str, np.ndarray] = field(default_factory=dict)
    interrupted: bool = False


def training_state(train_step: TrainStep, data: LabeledDocuments) -> dict[str, np.ndarray]:
    """Return what `partial_fit` continues from.

    It holds the accumulated squared gradients of the rows of each array ("optimizer."), the scale
    of the learning rate of each row of the embedding ("lr_scale"), and how often each token and
    each label occurred ("token_counts", "label_counts").
    """
    vocab_size, num_classes = len(train_step.lr_scale), len(train_step.model.bias)
    optimizer = train_step.optimizer_state()
    return {
        **{f"{OPTIMIZER_PREFIX}{name}": array.copy() for name, array in optimizer.items()},
        "lr_scale": train_step.lr_scale,
        "token_counts": token_counts(data.rows, vocab_size),
        "label_counts": np.bincount(data.targets.token_ids, minlength=num_classes),
    }


def state_lengths(model: ClassifierModel) -> dict[str, int]:
    """Return the length of each array of the training state of a model."""
    lengths = {f"{OPTIMIZER_PREFIX}{name}": len(array) for name, array in model.arrays.items()}
    vocab_size, num_classes = len(model.embedding), len(model.bias)
    return {
        **lengths,
        "lr_scale": vocab_size,
        "token_counts": vocab_size,
        "label_counts": num_classes,
    }
