"""Language models that count, beside which a trained one has to show what it is worth.

    unigram   p(w)      =  (n(w) + 1) / (n + V - 1)
    bigram    p(w | v)  =  a n(v, w) / n(v) + (1 - a) (n(w) + 1) / (n + V)

Both foretell padding after padding with certainty. The unigram knows besides where a text ends; the
bigram has to guess it, so its w may be padding, as for every trained model.
"""

from __future__ import annotations

import numpy as np

__all__ = ["PADDING", "Bigram", "Unigram"]

PADDING = 0
WEIGHTS = tuple(k / 20 for k in range(1, 20))


class Unigram:
    """How often each id comes, the first of a row left out, since nothing foretells it.

    Args:
        ids: (rows, N + 1), PADDING after the end of a row.
        vocabulary: V, the number of ids with PADDING.
    """

    def __init__(self, ids: np.ndarray, vocabulary: int) -> None:
        counts = np.bincount(ids[:, 1:].reshape(-1), minlength=vocabulary) + 1.0
        counts[PADDING] = 0
        p = counts / counts.sum()
        p[PADDING] = 1
        self.nats_of_ids = -np.log(p)
        self.parameters = vocabulary - 1

    def nats(self, ids: np.ndarray) -> np.ndarray:
        """(rows, N) -log p(next id), 0 where it is padding."""
        return self.nats_of_ids[ids[:, 1:]]


class Bigram:
    """How often one id follows another, mixed with how often it comes; arguments as of `Unigram`.

    The mixture's `weight` is the best of 0.05 ... 0.95 for the last tenth of the rows after
    counting the others; then all are counted.
    """

    def __init__(self, ids: np.ndarray, vocabulary: int) -> None:
        if len(ids) < 2:
            raise ValueError(f"a bigram needs two rows or more, to hold one out; got {len(ids)}")
        held = max(1, len(ids) // 10)
        self.vocabulary = vocabulary
        self._count(ids[:-held])
        self.weight = min(WEIGHTS, key=lambda a: float(self.nats(ids[-held:], a).mean()))
        self._count(ids)
        self.parameters = len(self.pairs) + vocabulary

    def _count(self, ids: np.ndarray) -> None:
        first, second = ids[:, :-1].astype(np.int64), ids[:, 1:]
        kept = first != PADDING
        self.firsts = np.bincount(first[kept], minlength=self.vocabulary)
        self.seconds = np.bincount(second[kept], minlength=self.vocabulary)
        keys = first[kept] * self.vocabulary + second[kept]
        self.pairs, self.counts = np.unique(keys, return_counts=True)

    def nats(self, ids: np.ndarray, weight: float | None = None) -> np.ndarray:
        """(rows, N) -log p(next id); after an id that nothing followed, the unigram alone."""
        first, second = ids[:, :-1].astype(np.int64), ids[:, 1:]
        kept = first != PADDING
        first, second = first[kept], second[kept]
        keys = first * self.vocabulary + second
        places = np.searchsorted(self.pairs, keys).clip(max=len(self.pairs) - 1)
        both = np.where(self.pairs[places] == keys, self.counts[places], 0)
        followed = self.firsts[first]
        share = np.where(followed > 0, self.weight if weight is None else weight, 0)
        alone = (self.seconds[second] + 1) / (self.seconds.sum() + self.vocabulary)
        out = np.zeros(kept.shape)
        out[kept] = -np.log(share * both / np.maximum(followed, 1) + (1 - share) * alone)
        return out
