"""Scales the rows of the embedding by how discriminative their tokens are.

    initial_v  =  (1/2 for an n-gram)  (s_v / mean s)^0.5
    lr_v       =  (1/2 for an n-gram)  (s_v / mean s)^0.8
    s_v        =  0.1 + sqrt(sum_c pi_c r_vc^2)
    r_vc       =  log of the fraction of the occurrences of v that are in class c, divided by the
                  fraction pi_c of all occurrences that are

The first scale multiplies the initial values of a row, the second its learning rate. A token that
is equally frequent in all classes says little about them, a token of a single class says much, and
an n-gram repeats what its words say. The fractions are smoothed by one occurrence of each token,
the logarithms are clipped to [-5, 5], and the mean is over all occurrences.

The powers were selected on held-out training rows. With 0.8 for the initial values as well, tokens
that were learned from texts without labels, but occur in none with a label, become too short.

Source of the naive-Bayes log ratios: Wang and Manning 2012, "Baselines and bigrams: simple, good
sentiment and topic classification".
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hyperagg.classifier.training.train_step import LabeledDocuments
from hyperagg.text import Tokenizer, ngram_mask, token_counts

__all__ = ["FeatureScales", "feature_scales"]


class FeatureScales(NamedTuple):
    """Factors of the rows of the embedding, both (V,) float32."""

    initial: np.ndarray  # of the initial values
    lr: np.ndarray  # of the learning rate


def feature_scales(tokenizer: Tokenizer, data: LabeledDocuments) -> FeatureScales:
    """Return the scales of every row of the embedding. Cost: O(T + C V)."""
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
    relative = scores / mean if len(token_ids) else np.ones(vocab_size)
    ngrams = np.where(ngram_mask(tokenizer), 0.5, 1)
    initial, lr = (ngrams * relative**power for power in (0.5, 0.8))
    return FeatureScales(initial.astype(np.float32), lr.astype(np.float32))
