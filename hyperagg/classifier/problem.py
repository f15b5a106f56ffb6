"""Defines what a classifier learns: which tokens it reads, and which labels it predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hyperagg._common.label_decoder import Label
from hyperagg.classifier.config import ClassifierConfig
from hyperagg.classifier.model import ClassifierModel
from hyperagg.classifier.predictor import encode
from hyperagg.classifier.training.labels import ClassWeight, Labels, class_weights, encode_labels
from hyperagg.classifier.training.train_step import LabeledDocuments, Objective
from hyperagg.text import Ragged, Tokenizer

__all__ = ["Problem"]


@dataclass(frozen=True)
class Problem:
    """What a classifier learns.

    Args:
        config: the arguments of the classifier.
        tokenizer: converts texts to token ids.
        classes: the labels, in the order of their ids.
        multi_label: whether a text may have any number of labels instead of exactly one.
        class_weight: the factor of the loss of each class, as `check_class_weight` returns it.
    """

    config: ClassifierConfig
    tokenizer: Tokenizer
    classes: Sequence[Label]
    multi_label: bool = False
    class_weight: ClassWeight = None

    def encode(
        self,
        texts: Sequence[str],
        labels: Labels,
        name: str = "y",
        weights: np.ndarray | None = None,
    ) -> LabeledDocuments:
        """Return texts and labels as ids; errors call the labels `name`.

        Raises:
            ValueError: a label is not one of the classes.
        """
        targets = encode_labels(labels, self.classes, name)
        return LabeledDocuments(self.encode_texts(texts), targets, weights)

    def encode_texts(self, texts: Sequence[str]) -> Ragged:
        """Return texts as ids."""
        return encode(self.tokenizer, texts, self.config.max_tokens)

    def label_counts(self, data: LabeledDocuments) -> np.ndarray:
        """Return (C,), the number of documents of each class."""
        return np.bincount(data.targets.token_ids, minlength=len(self.classes))

    def objective(self, label_counts: np.ndarray) -> Objective:
        """Return the objective for (C,) the number of training texts of each class."""
        weights = class_weights(self.class_weight, label_counts, self.classes)
        return Objective(weights, self.multi_label)

    def initialize(self, seed: int) -> ClassifierModel:
        """Return random parameters."""
        # The spawn key separates this stream from the one that shuffles the texts.
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
        d_model, pooling = self.config.d_model, self.config.pooling
        return ClassifierModel.initialize(
            len(self.tokenizer), len(self.classes), d_model, pooling, rng
        )
