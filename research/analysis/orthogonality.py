"""Pairwise cosines of token embeddings.

    cos(i, j)  =  e_i . e_j / (|e_i| |e_j|)      for all i < j

Random directions in D dimensions already have cosines of mean 0 and deviation 1 / sqrt(D). This is
the null hypothesis, given by `untrained`; without it a narrow histogram is not evidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

__all__ = ["BINS", "Cosines", "measure", "pairwise_cosines", "untrained"]

BINS = np.linspace(-1, 1, 201)
FREQUENT = 1_000
MAX_TOKENS = 20_000


@dataclass(frozen=True)
class Cosines:
    """Mean, deviation, minimum and maximum of the cosines of all pairs, and their histogram."""

    tokens: int
    pairs: int
    mean: float
    deviation: float
    minimum: float
    maximum: float
    histogram: tuple[int, ...]


def pairwise_cosines(embedding: np.ndarray, max_tokens: int = MAX_TOKENS, seed: int = 0) -> Cosines:
    """Compute the cosines of all pairs of rows of (V, D), without rows of norm zero.

    Of more than `max_tokens` rows a random sample is used.

    Raises:
        ValueError: fewer than two rows are not zero.

    Cost: O(V^2 D).
    """
    rows = np.asarray(embedding, dtype=np.float32)
    rows = rows[np.linalg.norm(rows, axis=1) > 0]
    if len(rows) > max_tokens:
        rows = rows[np.random.default_rng(seed).choice(len(rows), max_tokens, replace=False)]
    if len(rows) < 2:
        raise ValueError(f"embedding: {len(rows)} rows are not zero; expected at least 2")
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    total = squares = 0.0
    minimum, maximum = 1.0, -1.0
    histogram = np.zeros(len(BINS) - 1, dtype=np.int64)
    block = 1_000
    for start in range(0, len(rows), block):
        products = rows[start : start + block] @ rows[start:].T
        later = np.triu(np.ones(products.shape, dtype=bool), 1)
        cosines = products[later].clip(-1, 1)
        if not len(cosines):
            continue
        total += float(cosines.sum(dtype=np.float64))
        squares += float(np.square(cosines, dtype=np.float64).sum())
        minimum = min(minimum, float(cosines.min()))
        maximum = max(maximum, float(cosines.max()))
        index = ((cosines + 1) * ((len(BINS) - 1) / 2)).astype(np.int32)
        histogram += np.bincount(np.minimum(index, len(BINS) - 2), minlength=len(BINS) - 1)
    pairs = len(rows) * (len(rows) - 1) // 2
    mean = total / pairs
    deviation = max(squares / pairs - mean**2, 0.0) ** 0.5
    return Cosines(
        len(rows), pairs, mean, deviation, minimum, maximum, tuple(int(n) for n in histogram)
    )


def measure(embeddings: Mapping[str, np.ndarray]) -> dict[str, dict[str, Cosines]]:
    """Measure the most frequent words and all words of every model and of an untrained embedding.

    Args:
        embeddings: by model, (V, D) vectors of words in order of falling frequency. There is one
            untrained embedding for every D.

    Returns:
        {panel: {model: cosines}}

    Raises:
        ValueError: a model has fewer than two words.
    """
    for name, table in embeddings.items():
        if len(table) < 2:
            raise ValueError(f"{name}: the model has {len(table)} words; expected at least 2")
    words, shapes = dict(embeddings), {table.shape[1]: table.shape for table in embeddings.values()}
    for d, shape in shapes.items():
        words["untrained" if len(shapes) == 1 else f"untrained, d {d}"] = untrained(shape)
    panels = {f"the {FREQUENT:,} most frequent words": FREQUENT, "all words": None}
    return {
        panel: {name: pairwise_cosines(table[:rows]) for name, table in words.items()}
        for panel, rows in panels.items()
    }


def untrained(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Draw an embedding of that shape as it is before training."""
    return np.random.default_rng(seed).uniform(-0.05, 0.05, shape).astype(np.float32)
