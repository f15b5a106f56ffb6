"""Learns an embedding from few labels and many texts without any, by self-training.

A first classifier labels the texts, and a second one is trained on all of them. A text without a
label has the weight (p - 1/C) / (1 - 1/C), where p is the probability of the label that it was
given: from 0 for a guess to 1. Training on the true labels starts from the embedding of the second.
Its head is left out, and with it most of what wrong labels taught it: the second classifier itself
was often worse than the first.

Source: Scudder 1965, "Probability of error of some adaptive pattern-recognition machines"; Lee
2013, "Pseudo-label".
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hyperagg._common.label_decoder import LabelDecoder
from hyperagg.classifier.initial_vectors import InitialVectors
from hyperagg.classifier.parameters import new_train_step
from hyperagg.classifier.problem import Problem
from hyperagg.classifier.training.run_options import RunOptions
from hyperagg.classifier.training.train_step import LabeledDocuments, Objective
from hyperagg.text import Ragged

__all__ = ["self_trained_embedding"]

_EPOCHS = 2  # over all texts


def self_trained_embedding(
    problem: Problem,
    data: LabeledDocuments,
    unlabelled: Ragged,
    objective: Objective,
    vectors: InitialVectors,
    options: RunOptions,
) -> np.ndarray:
    """Return (V, D), the embedding of a classifier that learned from labels of its own as well.

    Args:
        problem: what is learned; one label per text.
        data: the documents whose labels are known.
        unlabelled: the other texts.
        objective: the weights of the classes.
        vectors: the initial vectors of both classifiers.
        options: the seed, the threads and whether to show progress bars.

    Raises:
        ValueError: training diverged, or the parameters do not fit into memory.
    """
    options = replace(options, callbacks=())
    num_classes = len(problem.classes)
    config = problem.config.training_config(num_classes, len(data.rows))
    first = new_train_step(problem, data, objective, config, options, vectors=vectors)
    options.train("learning to label texts", first, data)
    pseudo = _pseudo_labeled(data, unlabelled, first.model.logits(unlabelled))
    config = problem.config.training_config(num_classes, len(pseudo.rows))
    config = replace(config, epochs=_EPOCHS)
    second = new_train_step(problem, pseudo, objective, config, options, vectors=vectors)
    options.train("learning from their labels", second, pseudo)
    return second.model.embedding


def _pseudo_labeled(
    data: LabeledDocuments, unlabelled: Ragged, logits: np.ndarray
) -> LabeledDocuments:
    """Return all documents; those without labels have the most probable ones."""
    probabilities = LabelDecoder(range(logits.shape[1]), multi_label=False).probabilities(logits)
    chance = 1 / logits.shape[1]
    weights = (probabilities.max(1) - chance) / (1 - chance)
    own = np.ones(len(data.rows), np.float32) if data.weights is None else data.weights
    labels = Ragged(logits.argmax(1).astype(np.int32), np.arange(len(logits) + 1))
    pseudo = LabeledDocuments(unlabelled, labels, (own.mean() * weights).astype(np.float32))
    return replace(data, weights=own).append(pseudo)
