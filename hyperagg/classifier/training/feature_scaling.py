"""How large each row of the embedding starts and how fast it learns.

    rate_v  =  (1/2 for a gram)  sqrt(s_v / mean s)      s_v  =  0.1 + sqrt(sum_c pi_c r_vc^2)
    r_vc    =  log of the share that class c has in the uses of v over its share pi_c of all uses

A token that is used alike in all classes says little of them, one that a single class uses says
much, and a gram says again what its words say. Shares are smoothed by one use of each token, and
logarithms kept within 5; the mean is over all uses.

Source of weighing by naive-Bayes ratios: Wang and Manning 2012, "Baselines and bigrams: simple,
good sentiment and topic classification".
"""

from __future__ import annotations

import numpy as np

from hyperagg.classifier.training.train_steps import Labelled
from hyperagg.text import Tokenizer, WordTokenizer

__all__ = ["row_rates"]


def row_rates(tokenizer: Tokenizer, data: Labelled) -> np.ndarray:
    """(V,) float32. Cost: O(T + C V)."""
    token_ids, words = data.rows.token_ids, len(tokenizer.vocabulary)
    uses = np.bincount(token_ids, minlength=words)
    # A document's tokens are uses by each of its classes.
    documents = np.repeat(np.arange(len(data.targets)), data.targets.lengths)
    telling = np.zeros(words)
    for c in np.unique(data.targets.token_ids):
        own = data.rows.take(documents[data.targets.token_ids == c]).token_ids
        share = len(own) / max(1, len(token_ids))
        if share == 0:
            continue
        smoothed = (np.bincount(own, minlength=words) + share) / (uses + 1)
        telling += share * np.log(smoothed / share).clip(-5, 5) ** 2
    telling = 0.1 + np.sqrt(telling)
    mean = (telling * uses).sum() / max(1, len(token_ids))
    rates = np.sqrt(telling / mean) if len(token_ids) else np.ones(words)
    if isinstance(tokenizer, WordTokenizer):
        rates[tokenizer.ngram_mask] /= 2
    return rates.astype(np.float32)
