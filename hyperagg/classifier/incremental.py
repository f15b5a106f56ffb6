"""Continues training: extends a classifier by rows for new tokens and new classes.

The state of training is saved next to the weights. A row that has been trained accumulated squared
gradients, so further texts change it a little; a new row has accumulated none and changes much.
A new label needs many steps, in which it is trained beside documents that stand for the earlier
texts; see `rehearsal`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from hyperagg._common.label_decoder import LabelDecoder
from hyperagg.classifier.history import History
from hyperagg.classifier.model import ClassifierModel
from hyperagg.classifier.problem import Problem
from hyperagg.classifier.rehearsal import draw_documents
from hyperagg.classifier.training.feature_scaling import feature_scales
from hyperagg.classifier.training.run_options import RunOptions
from hyperagg.classifier.training.state import OPTIMIZER_PREFIX, TrainingResult, training_state
from hyperagg.classifier.training.train_step import LabeledDocuments, TrainStep

__all__ = ["begin_training", "continue_training", "extend_model", "extend_state"]

_MIN_EPOCHS, _MAX_EPOCHS, _STEPS = 10, 200, 10_000  # with new labels


def begin_training(problem: Problem, data: LabeledDocuments, options: RunOptions) -> TrainingResult:
    """Return what training on texts of a single class yields: random parameters, and the counts of
    the tokens, from which documents are drawn when a second class comes."""
    scales = feature_scales(problem.tokenizer, data)
    model = problem.initialize(options.seed)
    model.embedding *= scales.initial[:, None]
    config = problem.config.training_config(
        len(problem.classes), len(data.rows), problem.multi_label
    )
    objective = problem.objective(problem.label_counts(data))
    train_step = TrainStep(model, config, objective, scales.lr, options.threads)
    history = History(num_texts=len(data.rows))
    return TrainingResult(model, history, training_state(train_step, data))


def continue_training(
    previous: TrainingResult,
    problem: Problem,
    data: LabeledDocuments,
    options: RunOptions,
    *,
    epochs: int | None,
) -> TrainingResult:
    """Train on further documents; `previous` is not changed.

    Args:
        previous: the result so far, with the state that training continues from.
        problem: what is learned; its tokens and classes begin with those of `previous`.
        data: the further documents.
        options: the options of the run.
        epochs: the number of passes over these documents (default: 1, or with new labels as many
            as make 10,000 steps, from 10 to 200).
    """
    assert previous.model is not None
    num_classes, num_known = len(problem.classes), len(previous.model.bias)
    documents = data
    if num_classes > num_known:
        documents = data.append(_rehearsal(previous, problem, data, options.seed))
    if epochs is None:
        steps = _STEPS // len(documents.rows)
        epochs = 1 if documents is data else max(_MIN_EPOCHS, min(_MAX_EPOCHS, steps))
    scales = feature_scales(problem.tokenizer, data)
    state = extend_state(previous.state, scales.lr, num_classes)
    model = problem.initialize(options.seed)
    model.embedding *= scales.initial[:, None]
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
    options.train("training", train_step, documents)
    model.divide_head(temperature)
    updated = training_state(train_step, data)
    for name in ("token_counts", "label_counts"):
        updated[name] += state[name]
    return TrainingResult(model, replace(previous.history, num_texts=num_texts), updated)


def _rehearsal(
    previous: TrainingResult, problem: Problem, data: LabeledDocuments, seed: int
) -> LabeledDocuments:
    """Return documents that stand for the earlier texts beside `data`."""
    assert previous.model is not None
    num_known = len(previous.model.bias)
    decoder = LabelDecoder(
        problem.classes[:num_known], problem.multi_label, previous.history.threshold
    )
    # As many documents per known label as texts per new one: fewer would cost known labels, and
    # more would keep the new ones from being predicted.
    new_ids = data.targets.token_ids[data.targets.token_ids >= num_known]
    per_class = -(-len(new_ids) // (len(problem.classes) - num_known))
    return draw_documents(
        previous.model,
        decoder,
        previous.state["token_counts"],
        previous.state["label_counts"],
        previous.history.num_texts,
        per_class=per_class,
        seed=seed,
    )


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
