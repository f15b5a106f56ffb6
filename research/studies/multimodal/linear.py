"""Linear models of tables, whose regularization is selected by cross-validation.

The features are TF-IDF of words and bigrams, scaled numbers and one-hot categories.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from hyperagg.text import WORD_PATTERN

__all__ = ["LinearModel", "fit_linear"]

_FIRST_GRID = (0.1, 1.0, 10.0, 100.0)


class LinearModel(NamedTuple):
    """A fitted linear model.

    Attributes:
        features: what maps a table to features.
        model: what maps features to predictions, of scikit-learn.
        regularization: the selected value of its parameter.
    """

    features: ColumnTransformer
    model: Any
    regularization: float

    def transform(self, columns: Mapping[str, Sequence[Any]]) -> Any:
        """Return the features of a table by column."""
        return self.features.transform(_table(columns))


def fit_linear(
    make: Callable[[float], Any],
    columns: Mapping[str, Sequence[Any]],
    y: np.ndarray,
    kinds: Mapping[str, str],
    folds: Iterable[tuple[np.ndarray, np.ndarray]],
) -> LinearModel:
    """Fit a linear model; both neighbors of the selected regularization score worse.

    Args:
        make: returns a model of scikit-learn, given its regularization.
        columns: the cells by column; no number is missing.
        y: (rows,) targets.
        kinds: "text", "number" or "category" by column.
        folds: training and held-out rows of each fold. The score is that of the model's `score`.
    """
    table, scores = _table(columns), dict[float, float]()
    parts = []
    for kept, held in folds:
        features = _features(kinds)
        x, x_held = features.fit_transform(table[kept]), features.transform(table[held])
        parts.append((x, y[kept], x_held, y[held]))

    def score(value: float) -> float:
        """Mean score of the folds."""
        if value not in scores:
            own = [make(value).fit(x, kept).score(x_held, held) for x, kept, x_held, held in parts]
            scores[value] = float(np.mean(own))
        return scores[value]

    # Powers of ten around the best one until it has two neighbors, then the halves between them.
    best = max(_FIRST_GRID, key=score)
    while (better := max((best / 10, best, best * 10), key=score)) != best:
        best = better
        if not 1e-6 < best < 1e9:
            break
    best = max((best / math.sqrt(10), best, best * math.sqrt(10)), key=score)
    features = _features(kinds)
    return LinearModel(features, make(best).fit(features.fit_transform(table), y), best)


def _table(columns: Mapping[str, Sequence[Any]]) -> np.ndarray:
    """(rows, columns) objects without missing cells."""
    filled = [["" if cell is None else cell for cell in cells] for cells in columns.values()]
    return np.array(filled, dtype=object).T


def _features(kinds: Mapping[str, str]) -> ColumnTransformer:
    of_kind = {
        kind: [i for i, own in enumerate(kinds.values()) if own == kind]
        for kind in ("text", "number", "category")
    }
    words = [
        (
            f"text {i}",
            TfidfVectorizer(
                ngram_range=(1, 2), sublinear_tf=True, token_pattern=WORD_PATTERN.pattern
            ),
            i,
        )
        for i in of_kind["text"]
    ]
    return ColumnTransformer(
        [
            *words,
            ("numbers", StandardScaler(), of_kind["number"]),
            ("categories", OneHotEncoder(handle_unknown="ignore"), of_kind["category"]),
        ],
        sparse_threshold=1.0,
    )
