"""NB-SVM for two classes, as an estimator of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.preprocessing import normalize
from sklearn.svm import LinearSVC

__all__ = ["BinaryNBSVM"]


class BinaryNBSVM(ClassifierMixin, BaseEstimator):
    """A linear support vector machine on features that are scaled by their log-count ratio.

        r = log (p / |p|_1) - log (q / |q|_1),   p, q = 1 + number of documents with the feature
        w' = (1 - b) mean |w| + b w,             score = (x * r) w' + intercept

    in documents of the positive and of the negative class. x is the presence of each feature,
    scaled to unit length, which Wang and Manning do not do: without it liblinear does not converge
    on character n-grams.

    Args:
        C: inverse regularization strength of the machine.
        interpolation: b; 1 is the machine alone. Wang and Manning recommend 0.25, which is better
            for two classes of equal size and worse for many classes.
        tol: tolerance at which the solver stops.

    Source: Wang, Manning (2012), Baselines and Bigrams.
    """

    def __init__(self, C: float = 1.0, interpolation: float = 0.25, tol: float = 1e-4) -> None:
        self.C = C
        self.interpolation = interpolation
        self.tol = tol

    def fit(self, X: Any, y: Any) -> BinaryNBSVM:
        """Learn from a sparse matrix of features and two classes."""
        y = np.asarray(y)
        self.classes_ = np.unique(y)
        positive = y == self.classes_[-1]
        present = _presence(X)
        counts = [
            1 + np.asarray((present[rows] > 0).sum(0), np.float64).ravel()
            for rows in (np.flatnonzero(positive), np.flatnonzero(~positive))
        ]
        p, q = (each / each.sum() for each in counts)
        ratio = np.log(p / q)
        scaled = present.multiply(ratio).tocsr()
        machine = LinearSVC(C=self.C, tol=self.tol, random_state=0).fit(scaled, positive)
        weights = machine.coef_.ravel()
        mixed = (1 - self.interpolation) * np.abs(weights).mean() + self.interpolation * weights
        self.coef_, self.intercept_ = (mixed * ratio)[None], machine.intercept_
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Return a score per row, positive for the second class."""
        return _presence(X) @ self.coef_.ravel() + self.intercept_[0]

    def predict(self, X: Any) -> np.ndarray:
        """Return the class of each row."""
        return self.classes_[(self.decision_function(X) > 0).astype(int)]


def _presence(X: Any) -> Any:
    present = X.copy()
    present.data = np.ones_like(present.data)
    return normalize(present, copy=False)
