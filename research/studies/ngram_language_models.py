"""Language models by counting: the baselines that a trained model has to beat.

    unigram   p(w)      =  (n(w) + 1) / (n + V - 1)
    bigram    p(w | v)  =  a n(v, w) / n(v) + (1 - a) (n(w) + 1) / (n + V)

Both predict padding after padding with certainty. The unigram also knows where a text ends; the
bigram has to predict it, so its w may be padding, as for every trained model.
"""

from __future__ import annotations

import numpy as np

__all__ = ["PADDING", "Bigram", "Unigram"]

PADDING = 0
WEIGHTS = tuple(k / 20 for k in range(1, 20))


class Unigram:
    """Predict each id by its frequency; the first id of a row is not predicted.

    Args:
        ids: (rows, N + 1) token ids, PADDING after the end of a row.
        vocab_size: V, the number of ids with PADDING.
    """

    def __init__(self, ids: np.ndarray, vocab_size: int) -> None:
        counts = np.bincount(ids[:, 1:].reshape(-1), minlength=vocab_size) + 1.0
        counts[PADDING] = 0
        p = counts / counts.sum()
        p[PADDING] = 1
        self.nats_per_id = -np.log(p)
        self.parameters = vocab_size - 1

    def nats(self, ids: np.ndarray) -> np.ndarray:
        """Compute -log p(next id), (rows, N); 0 where the next id is padding."""
        return self.nats_per_id[ids[:, 1:]]


class Bigram:
    """Predict each id by how often it follows the one before, mixed with its frequency.

    `weight`, the weight of the pairs, is the best of 0.05 ... 0.95 on the last tenth of the rows
    after the others were counted. Then all rows are counted.

    Args:
        ids: (rows, N + 1) token ids, PADDING after the end of a row.
        vocab_size: V, the number of ids with PADDING.

    Raises:
        ValueError: fewer than two rows.
    """

    def __init__(self, ids: np.ndarray, vocab_size: int) -> None:
        if len(ids) < 2:
            raise ValueError(f"ids: {len(ids)} rows; expected at least 2, one is held out")
        held_out = max(1, len(ids) // 10)
        self.vocab_size = vocab_size
        self._count(ids[:-held_out])
        self.weight = min(WEIGHTS, key=lambda a: float(self.nats(ids[-held_out:], a).mean()))
        self._count(ids)
        self.parameters = len(self.pairs) + vocab_size

    def _count(self, ids: np.ndarray) -> None:
        first, second = ids[:, :-1].astype(np.int64), ids[:, 1:]
        kept = first != PADDING
        self.firsts = np.bincount(first[kept], minlength=self.vocab_size)
        self.seconds = np.bincount(second[kept], minlength=self.vocab_size)
        keys = first[kept] * self.vocab_size + second[kept]
        self.pairs, self.counts = np.unique(keys, return_counts=True)

    def nats(self, ids: np.ndarray, weight: float | None = None) -> np.ndarray:
        """Compute -log p(next id), (rows, N).

        After an id that was never followed by another one, the frequency alone decides.
        """
        first, second = ids[:, :-1].astype(np.int64), ids[:, 1:]
        kept = first != PADDING
        first, second = first[kept], second[kept]
        keys = first * self.vocab_size + second
        index = np.searchsorted(self.pairs, keys).clip(max=len(self.pairs) - 1)
        both = np.where(self.pairs[index] == keys, self.counts[index], 0)
        followed = self.firsts[first]
        mix = np.where(followed > 0, self.weight if weight is None else weight, 0)
        frequency = (self.seconds[second] + 1) / (self.seconds.sum() + self.vocab_size)
        out = np.zeros(kept.shape)
        out[kept] = -np.log(mix * both / np.maximum(followed, 1) + (1 - mix) * frequency)
        return out
