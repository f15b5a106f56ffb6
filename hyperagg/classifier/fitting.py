"""Trains new parameters: `TextClassifier.fit` on texts and labels that are encoded.

The first run trains without the held-out texts, which determine the best epoch and the temperature.
The second one trains new parameters on all texts, for as many epochs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from hyperagg._common.calibration import calibrate
from hyperagg._common.checkpoint import digest_arrays
from hyperagg._common.split import train_validation_split
from hyperagg._common.tensors import digest_texts
from hyperagg.classifier.history import History
from hyperagg.classifier.initial_vectors import InitialVectors
from hyperagg.classifier.model import ClassifierModel
from hyperagg.classifier.parameters import new_train_step
from hyperagg.classifier.problem import Problem
from hyperagg.classifier.self_training import self_trained_embedding
from hyperagg.classifier.training.labels import first_classes
from hyperagg.classifier.training.loop import digest, read_note
from hyperagg.classifier.training.run_options import RunOptions
from hyperagg.classifier.training.state import TrainingResult, training_state
from hyperagg.classifier.training.train_step import LabeledDocuments
from hyperagg.text import Ragged

__all__ = ["fit"]


def fit(
    result: TrainingResult,
    problem: Problem,
    data: LabeledDocuments,
    validation: LabeledDocuments | None,
    options: RunOptions,
    *,
    vectors: InitialVectors | None = None,
    unlabelled: Ragged | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
) -> None:
    """Train new parameters.

    Args:
        result: is filled in as the runs end, so after Ctrl-C it holds what there is by then.
        problem: what is learned.
        data: the training documents.
        validation: the held-out documents (default: a fraction of `data`; none if that fraction of
            each class, rounded down, is less than half of it).
        options: the options of the runs.
        vectors: the initial values of rows of the embedding.
        unlabelled: texts without labels, for self-training; requires `vectors` of these texts.
        checkpoint: the file that keeps the state of training. It is left in place.
        resume: whether to continue from the checkpoint, if it exists.

    Raises:
        ValueError: training diverged, or the checkpoint or the dimension cannot be used.
        KeyboardInterrupt: after Ctrl-C; `result` has a model then.
    """
    plan = {} if checkpoint is None else _plan(problem, data, validation, vectors, options.seed)
    training, refit = data, False
    if validation is None:
        fraction = problem.config.validation_fraction
        kept, held_out = train_validation_split(first_classes(data.targets), fraction, options.seed)
        if len(held_out) < fraction * len(data.rows) / 2:
            # Most classes are too small to hold out a text of theirs, and the texts of the others
            # do not tell which epoch is the best.
            kept, held_out = np.arange(len(data.rows)), np.arange(0)
        training, validation = data.take(kept), data.take(held_out)
        refit = problem.config.refit and len(held_out) > 0
    objective = problem.objective(problem.label_counts(data))
    config = problem.config.training_config(
        len(problem.classes), len(data.rows), problem.multi_label
    )
    embedding = None
    if unlabelled is not None and vectors is not None and not problem.multi_label:
        # Not from the labels of held-out texts: they measure how well the others are generalized.
        embedding = self_trained_embedding(
            problem, training, unlabelled, objective, vectors, options
        )

    def run(documents: LabeledDocuments, title: str, **arguments: Any) -> None:
        train_step = new_train_step(
            problem, documents, objective, config, options, vectors=vectors, embedding=embedding
        )
        try:
            history = options.train(
                title, train_step, documents, checkpoint=checkpoint, plan=plan, **arguments
            )
        except KeyboardInterrupt:
            if result.model is None:
                result.model, result.interrupted = train_step.model, True
            raise
        history.num_unlabelled = 0 if unlabelled is None else len(unlabelled)
        result.model, result.history = train_step.model, history
        result.state = training_state(train_step, documents)

    # A checkpoint of the second run holds the history of the first as its note.
    first_run = None
    if resume and checkpoint is not None and checkpoint.exists():
        first_run = read_note(checkpoint, plan)
    if first_run is None:
        run(training, "training", validation=validation, resume=resume)
        if len(validation.rows):
            assert result.model is not None
            _calibrate(result.model, result.history, validation, problem.multi_label)
        resume = False
    else:
        result.history = History(**first_run)
    if refit:
        history = result.history
        run(
            data,
            "training on all texts",
            resume=resume,
            stop_after=history.best_epoch + 1,
            note=asdict(history),
        )
        assert result.model is not None
        result.model.divide_head(history.temperature)
        result.history = replace(history, num_texts=len(data.rows))


def _plan(
    problem: Problem,
    data: LabeledDocuments,
    validation: LabeledDocuments | None,
    vectors: InitialVectors | None,
    seed: int,
) -> dict[str, Any]:
    """Identify both runs by all that they are made of, as the caller of `fit` has given it: a
    checkpoint of the second holds the result of the first."""
    weight = problem.class_weight
    if isinstance(weight, Mapping):
        weight = digest_texts(f"{label!r} {weight[label]}" for label in sorted(weight, key=repr))
    return {
        **asdict(problem.config),
        "seed": seed,
        "class_weight": weight,
        "sample_weight": None if data.weights is None else digest_arrays([data.weights]),
        "validation": None if validation is None else digest(validation),
        "vectors": None if vectors is None else vectors.digest(),
        "labels": digest_texts(map(repr, problem.classes)),
        "vocabulary": digest_texts(["\n".join(problem.tokenizer.vocabulary)]),
        "texts and labels": digest(data),
    }


def _calibrate(
    model: ClassifierModel, history: History, validation: LabeledDocuments, multi_label: bool
) -> None:
    """Fit the temperature and the threshold on held-out documents."""
    logits = model.logits(validation.rows)
    found = calibrate(logits, validation.targets.indicators(len(model.bias)), multi_label)
    model.divide_head(found.temperature)
    history.temperature, history.num_validation = found.temperature, len(logits)
    history.threshold = found.threshold
    history.expected_calibration_error = found.expected_calibration_error
