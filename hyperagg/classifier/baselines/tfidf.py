"""TF-IDF features with a linear support vector machine, from scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hyperagg.text import WORD_PATTERN

__all__ = ["TfidfClassifier"]


class TfidfClassifier:
    """Classify texts by a LinearSVC on TF-IDF of words and word pairs.

    Features are (1 + log of the term frequency) times the inverse document frequency, scaled to
    unit length. With several labels per text, one machine is trained per label.

    Args:
        C: inverse regularization strength of the LinearSVC.

    Raises:
        ImportError: scikit-learn is not installed.
    """

    GRID = tuple({"C": c} for c in (0.1, 0.3, 1.0, 3.0))
    epochs = 1
    depends_on_seed = False

    def __init__(self, C: float = 0.1) -> None:
        try:
            import sklearn  # noqa: F401
        except ImportError as error:
            raise ImportError(
                "the baseline tfidf needs scikit-learn: pip install 'hyperagg[baselines]'",
                name="sklearn",
            ) from error
        self.C = C

    def fit(self, X: Sequence[str], y: Sequence[Any], *, seed: int = 0) -> TfidfClassifier:
        """Learn from texts and their labels; the seed has no influence."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.multiclass import OneVsRestClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import MultiLabelBinarizer
        from sklearn.svm import LinearSVC

        features = TfidfVectorizer(
            ngram_range=(1, 2), sublinear_tf=True, token_pattern=WORD_PATTERN.pattern
        )
        classifier: Any = LinearSVC(C=self.C, random_state=0)
        labels: Any = y
        self._binarizer: Any = None
        if isinstance(y[0], tuple):
            self._binarizer = MultiLabelBinarizer()
            labels, classifier = self._binarizer.fit_transform(y), OneVsRestClassifier(classifier)
        self._pipeline = make_pipeline(features, classifier).fit(X, labels)
        return self

    def predict(self, X: Sequence[str]) -> list[Any]:
        """Return the label of each text, or a tuple of labels."""
        predicted = self._pipeline.predict(X)
        if self._binarizer is not None:
            return self._binarizer.inverse_transform(predicted)
        return predicted.tolist()

    def num_parameters(self) -> int:
        """Return the number of coefficients and intercepts."""
        classifier = self._pipeline[-1]
        machines = [classifier] if self._binarizer is None else classifier.estimators_
        return sum(machine.coef_.size + machine.intercept_.size for machine in machines)
