"""Linear models on TF-IDF features, from scikit-learn."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from hyperagg.classifier.baselines.features import Fold, TfidfFeatures
from hyperagg.classifier.baselines.search import Axis, OneTwoFive, Steps

__all__ = [
    "ComplementNBClassifier",
    "LinearSVCClassifier",
    "LogisticRegressionClassifier",
    "NBSVMClassifier",
    "TfidfClassifier",
]


# liblinear's own tolerance for dual problems is 0.1. With 0.01 r8 and mr have the held-out accuracy
# of scikit-learn's 0.0001 in half the time; weak regularization takes longest.
_TOLERANCE = 0.01


class TfidfClassifier:
    """Classify texts by a linear model on TF-IDF of words and characters; see `TfidfFeatures`.

    With several labels per text, one model is trained per label.

    Args:
        word_ngrams: largest number of words in a feature, 0 for none.
        char_ngrams: largest number of characters in a feature, 0 for none.
        strength: C, the inverse regularization strength of the model, or for naive Bayes alpha,
            the count that is added to every feature.

    Raises:
        ImportError: scikit-learn is not installed.
    """

    AXES: ClassVar[Mapping[str, Axis]] = {
        "strength": OneTwoFive(),
        "word_ngrams": Steps(0),
        "char_ngrams": Steps(0),
    }
    SCALING: ClassVar[Sequence[str]] = ("strength",)
    STARTS: ClassVar[Sequence[Mapping[str, Any]]] = (
        {"word_ngrams": 2, "char_ngrams": 0, "strength": 1.0},
        {"word_ngrams": 2, "char_ngrams": 4, "strength": 1.0},
    )
    epochs = 1
    depends_on_seed = False
    # Whether the model separates two classes and has to be trained once per class.
    _binary = True

    def __init__(
        self, *, word_ngrams: int = 2, char_ngrams: int = 0, strength: float = 1.0
    ) -> None:
        try:
            import sklearn  # noqa: F401
        except ImportError as error:
            raise ImportError(
                "the baselines linear_svc, logistic_regression, complement_nb and nb_svm need "
                "scikit-learn: pip install 'hyperagg[baselines]'",
                name="sklearn",
            ) from error
        self.strength = strength
        self._features = TfidfFeatures(word_ngrams, char_ngrams)

    @staticmethod
    def canonical(parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return parameters with at least one kind of feature."""
        word_ngrams = parameters["word_ngrams"] or int(not parameters["char_ngrams"])
        return {**parameters, "word_ngrams": word_ngrams}

    def fit(self, X: Sequence[str], y: Sequence[Any], *, seed: int = 0) -> TfidfClassifier:
        """Learn from texts and their labels; the seed has no influence."""
        return self._fit(self._features.fit_transform(X), y)

    def predict(self, X: Sequence[str]) -> list[Any]:
        """Return the label of each text, or a tuple of labels."""
        return self._predict(self._features.transform(X))

    def predict_fold(self, fold: Fold) -> list[Any]:
        """Learn from the rows of a fold and return the labels of those held out."""
        learned, held_out = self._features.matrices(fold)
        return self._fit(learned, fold.labels)._predict(held_out)

    def num_parameters(self) -> int:
        """Return the number of coefficients and intercepts."""
        models = getattr(self._model, "estimators_", [self._model])
        return sum(
            getattr(each, name).size
            for each in models
            for name in ("coef_", "intercept_", "feature_log_prob_")
            if hasattr(each, name)
        )

    def _fit(self, matrix: Any, y: Sequence[Any]) -> TfidfClassifier:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.multiclass import OneVsRestClassifier
        from sklearn.preprocessing import MultiLabelBinarizer

        labels: Any = y
        self._binarizer: Any = None
        if isinstance(y[0], tuple):
            self._binarizer = MultiLabelBinarizer()
            labels = self._binarizer.fit_transform(y)
        self._model = self._make()
        if self._binary or self._binarizer is not None:
            self._model = OneVsRestClassifier(self._model)
        with warnings.catch_warnings():
            # Weak regularization needs more passes than liblinear takes; its score shows whether
            # that matters.
            warnings.simplefilter("ignore", ConvergenceWarning)
            # A label that all texts have, or none, is a constant.
            warnings.filterwarnings("ignore", "Label .* is present in all training examples")
            self._model.fit(matrix, labels)
        return self

    def _predict(self, matrix: Any) -> list[Any]:
        predicted = self._model.predict(matrix)
        if self._binarizer is not None:
            return self._binarizer.inverse_transform(predicted)
        return predicted.tolist()

    def _make(self) -> Any:
        raise NotImplementedError


class LinearSVCClassifier(TfidfClassifier):
    """Linear support vector machine, one class against the rest."""

    _binary = False

    def _make(self) -> Any:
        from sklearn.svm import LinearSVC

        return LinearSVC(C=self.strength, tol=_TOLERANCE, random_state=0)


class LogisticRegressionClassifier(TfidfClassifier):
    """Logistic regression, one class against the rest.

    liblinear solves the dual problem: lbfgs keeps twenty vectors as long as all coefficients, and
    took three to nine times as long on r8 with word bigrams.
    """

    def _make(self) -> Any:
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(
            C=self.strength, tol=_TOLERANCE, solver="liblinear", dual=True, random_state=0
        )


class ComplementNBClassifier(TfidfClassifier):
    """Complement naive Bayes (Rennie et al. 2003)."""

    STARTS = tuple({**start, "strength": 0.2} for start in TfidfClassifier.STARTS)
    _binary = False

    def _make(self) -> Any:
        from sklearn.naive_bayes import ComplementNB

        return ComplementNB(alpha=self.strength)


class NBSVMClassifier(TfidfClassifier):
    """Support vector machine on features scaled by their log-count ratio; see `BinaryNBSVM`.

    Args:
        word_ngrams, char_ngrams, strength: as for `TfidfClassifier`.
        interpolation: weight of the machine, the rest is naive Bayes.
    """

    AXES: ClassVar[Mapping[str, Axis]] = {
        **TfidfClassifier.AXES,
        "interpolation": Steps(0.25, 1, 0.25),
    }
    STARTS: ClassVar[Sequence[Mapping[str, Any]]] = (
        {**TfidfClassifier.STARTS[0], "interpolation": 0.25},
        {**TfidfClassifier.STARTS[0], "interpolation": 1.0},
        {**TfidfClassifier.STARTS[1], "interpolation": 1.0},
    )

    def __init__(
        self,
        *,
        word_ngrams: int = 2,
        char_ngrams: int = 0,
        strength: float = 1.0,
        interpolation: float = 1.0,
    ) -> None:
        super().__init__(word_ngrams=word_ngrams, char_ngrams=char_ngrams, strength=strength)
        self.interpolation = interpolation

    def _make(self) -> Any:
        from hyperagg.classifier.baselines.nb_svm import BinaryNBSVM

        return BinaryNBSVM(self.strength, self.interpolation, _TOLERANCE)
