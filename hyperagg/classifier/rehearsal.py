"""Draws documents that stand for the texts of earlier training, which are not kept.

Texts of new labels alone would teach a classifier that every text has one of these labels. So it
also trains on documents that it draws from what it knows, with the labels that it gives to them:
what it answered before, it should still answer. The tokens of a document for class c are drawn
independently, with probabilities proportional to

    n_v exp(s a_vc / std a_c)        a_vc = (w_c - mean w) . (e_v * p)

n_v is the number of occurrences of token v in training, and a_vc its contribution to the logit of
the class, in single-label problems relative to the other classes. The exponent s is the smallest at
which the classifier is as sure about such documents as it is about texts.

Source: Robins 1995, "Catastrophic forgetting, rehearsal and pseudorehearsal".
"""

from __future__ import annotations

import numpy as np

from hyperagg._common.label_decoder import LabelDecoder
from hyperagg.classifier.model import ClassifierModel
from hyperagg.classifier.pooling import NUM_BLOCKS
from hyperagg.classifier.training.train_step import LabeledDocuments
from hyperagg.text import Ragged

__all__ = ["draw_documents"]

# Chosen on held-out training rows; docs/log.md has the figures.
_MIN_DOCUMENTS_PER_CLASS = 5
_CONFIDENCE = 0.8
_EXPONENTS = 0.0, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0
_TRIAL_DOCUMENTS = 8  # per class and exponent
_CANDIDATES = 20_000  # tokens
_MAX_CLASSES = 256
_MAX_TOKENS_PER_DOCUMENT = 512
_MAX_DOCUMENTS = 2**15


def draw_documents(
    model: ClassifierModel,
    decoder: LabelDecoder,
    token_counts: np.ndarray,
    label_counts: np.ndarray,
    num_texts: int,
    *,
    per_class: int,
    seed: int,
) -> LabeledDocuments:
    """Return documents of every class, labeled by the model.

    Args:
        model: the model before further training.
        decoder: converts its logits to labels.
        token_counts: (V,) the occurrences of each token in training.
        label_counts: (C,) the texts of each class in training. Of more than 256 classes, the most
            frequent ones get documents.
        num_texts: the number of training texts.
        per_class: the number of documents of each class, at least 8.
        seed: determines the documents.

    Cost: O(M D) per class for M = 20,000 candidate tokens, and a prediction per document.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
    classes = np.sort(np.argsort(-label_counts, kind="stable")[:_MAX_CLASSES])
    total = int(token_counts.sum())
    if not total:  # the texts had no tokens
        return LabeledDocuments(_rows(np.empty((0, 1))), _rows(np.empty((0, 1))), None)
    length = min(max(1, round(total / max(1, num_texts))), _MAX_TOKENS_PER_DOCUMENT)
    candidates = _draw(rng, token_counts.astype(np.float64), _CANDIDATES)
    block = min(int(np.log2(length // 2 + 1)), NUM_BLOCKS - 1)  # of the middle of a document
    vectors = model.embedding[candidates] * model.positions[block]
    center = 0 if decoder.multi_label else model.weight.mean(0)

    def draw(weights: np.ndarray, documents: int) -> np.ndarray:
        chosen = _draw(rng, weights, documents * length)
        return candidates[chosen].reshape(documents, length)

    per_class = max(_MIN_DOCUMENTS_PER_CLASS, min(per_class, _MAX_DOCUMENTS // len(classes)))
    documents = []
    for c in classes.tolist():
        # Not by a matrix product, whose bits depend on the number of threads.
        scores = np.einsum("vd,d->v", vectors, model.weight[c] - center).astype(np.float64)
        scores = (scores - scores.max()) / (scores.std() + 1e-9)
        for exponent in _EXPONENTS:
            weights = np.exp(exponent * scores)
            logits = model.logits(_rows(draw(weights, _TRIAL_DOCUMENTS)))
            if decoder.probabilities(logits)[:, c].mean() >= _CONFIDENCE:
                break
        documents.append(draw(weights, per_class))
    rows = _rows(np.concatenate(documents))
    decided = decoder.decide(model.logits(rows))
    boundaries = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum(decided.sum(1), out=boundaries[1:])
    targets = Ragged(np.nonzero(decided)[1].astype(np.int32), boundaries)
    return LabeledDocuments(rows, targets, None)


def _draw(rng: np.random.Generator, weights: np.ndarray, number: int) -> np.ndarray:
    """Return indices that are drawn in proportion to the weights."""
    sums = np.cumsum(weights)
    drawn = np.searchsorted(sums, rng.random(number) * sums[-1], side="right")
    return np.minimum(drawn, len(weights) - 1)


def _rows(tokens: np.ndarray) -> Ragged:
    documents, length = tokens.shape
    boundaries = np.arange(documents + 1, dtype=np.int64) * length
    return Ragged(tokens.astype(np.int32).reshape(-1), boundaries)
