"""Makes new parameters and what trains them."""

from __future__ import annotations

import numpy as np

from hyperagg._numba.threads import even_borders, parts, run
from hyperagg.classifier.config import TrainingConfig
from hyperagg.classifier.initial_vectors import InitialVectors
from hyperagg.classifier.problem import Problem
from hyperagg.classifier.training.feature_scaling import feature_scales
from hyperagg.classifier.training.run_options import RunOptions
from hyperagg.classifier.training.train_step import LabeledDocuments, Objective, TrainStep

__all__ = ["new_train_step"]


def new_train_step(
    problem: Problem,
    data: LabeledDocuments,
    objective: Objective,
    config: TrainingConfig,
    options: RunOptions,
    *,
    vectors: InitialVectors | None = None,
    embedding: np.ndarray | None = None,
) -> TrainStep:
    """Return new parameters, ready to be trained.

    Args:
        problem: what is learned.
        data: the training documents.
        objective, config, options: how it is learned.
        vectors: the initial directions of some tokens; the lengths depend on the labels.
        embedding: (V, D) the initial values of all tokens as they are, instead.

    Raises:
        ValueError: the parameters do not fit into memory.
    """
    try:
        model = problem.initialize(options.seed)
        if problem.multi_label:
            # Even odds would have to be unlearned in most of the first steps.
            counts = problem.label_counts(data)
            model.bias[:] = np.log((counts + 0.5) / (len(data.rows) - counts + 0.5))
        if vectors is not None:
            vectors.write_to(model.embedding)
        scales = feature_scales(problem.tokenizer, data)
        ranges = even_borders(np.ones(len(scales.initial)), parts(model.embedding.size))
        run(_scale_rows, ranges, model.embedding, scales.initial)
        if embedding is not None:
            model.embedding[:] = embedding
        return TrainStep(model, config, objective, scales.lr, options.threads)
    except MemoryError as error:
        raise ValueError(
            f"d_model={problem.config.d_model}: {len(problem.tokenizer):,} tokens of this "
            "dimension do not fit into memory; use a smaller one"
        ) from error


def _scale_rows(first: int, last: int, table: np.ndarray, scales: np.ndarray) -> None:
    table[first:last] *= scales[first:last, None]
