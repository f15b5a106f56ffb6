"""Continues training: extends a classifier by rows for new tokens and new classes.

The state of training is saved next to the weights. A row that has been trained accumulated squared
gradients, so further texts change it a little; a new row has accumulated none and changes much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from hyperagg.classifier.model import ClassifierModel
from hyperagg.classifier.problem import Problem
from hyperagg.classifier.training.feature_scaling import feature_scales
from hyperagg.classifier.training.run_options import RunOptions
from hyperagg.classifier.training.state import OPTIMIZER_PREFIX, TrainingResult, training_state
from hyperagg.classifier.training.train_step import LabeledDocuments, TrainStep

__all__ = ["continue_training", "extend_model", "extend_state"]


def continue_training(
    previous: TrainingResult,
    problem: Problem,
    data: LabeledDocuments,
    options: RunOptions,
    *,
    epochs: int,
) -> TrainingResult:
    """Train on further documents; `previous` is not changed.

    Args:
        previous: the result so far, with the state that training continues from.
        problem: what is learned; its tokens and classes begin with those of `previous`.
        data: the further documents.
        options: the options of the run.
        epochs: the number of passes over these documents.
    """
    assert previous.model is not None
    num_classes = len(problem.classes)
    scales = feature_scales(problem.tokenizer, data)
    state = extend_state(previous.state, scales, num_classes)
    model = problem.initialize(options.seed)
    model.embedding *= state["lr_scale"][:, None]
    extend_model(previous.model, model)
    # Training continues with the logits before calibration.
    temperature = previous.history.temperature
    model.divide_head(1 / temperature)
    num_texts = previous.history.num_texts + len(data.rows)
    config = problem.config.training_config(num_classes, num_texts, problem.multi_label)
    objective = problem.objective(state["label_counts"] + problem.label_counts(data))
    train_step = TrainStep(
        model, replace(config, epochs=epochs), objective, state["lr_scale"], options.threads
    )
    train_step.load_optimizer_state(
        {
            name.removeprefix(OPTIMIZER_PREFIX): array
            for name, array in state.items()
            if name.startswith(OPTIMIZER_PREFIX)
        }
    )
    options.train("training", train_step, data)
    model.divide_head(temperature)
    updated = training_state(train_step, data)
    for name in ("token_counts", "label_counts"):
        updated[name] += state[name]
    return TrainingResult(model, replace(previous.history, num_texts=num_texts), updated)


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
