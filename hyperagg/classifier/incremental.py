"""Extends a trained classifier by rows for new tokens and new classes.

The state of training is saved next to the weights. A row that has been trained accumulated squared
gradients, so further texts change it a little; a new row has accumulated none and changes much.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hyperagg.classifier.model import ClassifierModel
from hyperagg.classifier.training.train_step import LabeledDocuments, TrainStep

__all__ = [
    "OPTIMIZER_PREFIX",
    "extend_model",
    "extend_state",
    "state_lengths",
    "training_state",
]

OPTIMIZER_PREFIX = "optimizer."


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
        "token_counts": np.bincount(data.rows.token_ids, minlength=vocab_size),
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


def extend_model(model: ClassifierModel, larger: ClassifierModel) -> None:
    """Copy the parameters of `model` into `larger`, which may have more tokens and classes.

    A new class starts with zero weights and the smallest bias, so it is as improbable as the least
    probable known class whatever the text.
    """
    larger.weight[:] = 0
    larger.bias[:] = model.bias.min()
    for name, array in model.arrays.items():
        larger.arrays[name][: len(array)] = array


def extend_state(
    state: Mapping[str, np.ndarray], lr_scale: np.ndarray, num_classes: int
) -> dict[str, np.ndarray]:
    """Return the training state with zeros for the new rows and their `lr_scale`, out of (V,)."""
    vocab_size, known = len(lr_scale), len(state["lr_scale"])
    lengths = {
        "optimizer.embedding": vocab_size,
        "token_counts": vocab_size,
        "optimizer.weight": num_classes,
        "optimizer.bias": num_classes,
        "label_counts": num_classes,
    }
    larger = dict(state)
    for name, length in lengths.items():
        array = state[name]
        larger[name] = np.concatenate([array, np.zeros(length - len(array), array.dtype)])
    larger["lr_scale"] = np.concatenate([state["lr_scale"], lr_scale[known:]])
    return larger
