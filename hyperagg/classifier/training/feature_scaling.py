"""Scales the rows of the embedding by how discriminative their tokens are.

    scale_v  =  (1/2 for an n-gram)  sqrt(s_v / mean s)     s_v  =  0.1 + sqrt(sum_c pi_c r_vc^2)
    r_vc     =  log of the fraction of the occurrences of v that are in class c, divided by the
                fraction pi_c of all occurrences that are

The scale multiplies the initial values of a row and its learning rate. A token that is equally
frequent in all classes says little about them, a token of a single class says much, and an n-gram
repeats what its words say. The fractions are smoothed by one occurrence of each token, the
logarithms are clipped to [-5, 5], and the mean is over all occurrences.

Source of the naive-Bayes log ratios: Wang and Manning 2012, "Baselines and bigrams: simple, good
sentiment and topic classification".
"""

from __future__ import annotations

import numpy as np

from hyperagg.classifier.training.train_step import LabeledDocuments
from hyperagg.text import Tokenizer, ngram_mask, token_counts

__all__ = ["feature_scales"]


def feature_scales(tokenizer: Tokenizer, data: LabeledDocuments) -> np.ndarray:
    """Return (V,) float32, the scale of every row of the embedding. Cost: O(T + C V)."""
    token_ids, vocab_size = data.rows.token_ids, len(tokenizer)
    counts = token_counts(data.rows, vocab_size)
    # The tokens of a document count for each of its classes.
    documents = np.repeat(np.arange(len(data.targets)), data.targets.lengths)
    squares = np.zeros(vocab_size)
    for c in np.unique(data.targets.token_ids):
        in_class = token_counts(data.rows, vocab_size, documents[data.targets.token_ids == c])
        prior = in_class.sum() / max(1, len(token_ids))
        if prior == 0:
            continue
        smoothed = (in_class + prior) / (counts + 1)
        squares += prior * np.log(smoothed / prior).clip(-5, 5) ** 2
    scores = 0.1 + np.sqrt(squares)
    mean = (scores * counts).sum() / max(1, len(token_ids))
    scales = np.sqrt(scores / mean) if len(token_ids) else np.ones(vocab_size)
    scales[ngram_mask(tokenizer)] /= 2
    return scales.astype(np.float32)
