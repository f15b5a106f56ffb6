"""Defines what a classifier learns: which tokens it reads, and which labels it predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hyperagg._common.label_decoder import Label
from hyperagg.classifier.config import ClassifierConfig
from hyperagg.classifier.interop.fasttext import read_vectors
from hyperagg.classifier.model import ClassifierModel
from hyperagg.classifier.predictor import encode
from hyperagg.classifier.training.labels import ClassWeight, Labels, class_weights, encode_labels
from hyperagg.classifier.training.train_step import LabeledDocuments, Objective
from hyperagg.text import Tokenizer, ngram_mask

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
        rows = encode(self.tokenizer, texts, self.config.max_tokens)
        return LabeledDocuments(rows, targets, weights)

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

    def read_vectors(self, file: str | Path) -> tuple[list[int], np.ndarray]:
        """Return the ids of the words that a file of word vectors has, and their vectors.

        Raises:
            ValueError: the file cannot be read, its vectors have another dimension than d_model, or
                it has fewer than two of the words.
        """
        words, table = read_vectors(file)
        if table.shape[1] != self.config.d_model:
            raise ValueError(
                f"{file}: the vectors have dimension {table.shape[1]}, but "
                f"d_model={self.config.d_model}; pass d_model={table.shape[1]}"
            )
        vocabulary = self.tokenizer.vocabulary
        ids = {vocabulary[i]: i for i in np.flatnonzero(~ngram_mask(self.tokenizer)).tolist()}
        known = [row for row, word in enumerate(words) if word in ids]
        if len(known) < 2:
            raise ValueError(
                f"{file}: has none of the words of the texts, which are compared in lower case"
            )
        return [ids[words[row]] for row in known], table[known]
