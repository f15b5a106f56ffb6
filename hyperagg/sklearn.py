"""The text classifier and its pooled vectors as scikit-learn estimators.

Both take texts, as `CountVectorizer` does: a list, an array or a column of strings.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Set
from typing import Any

import numpy as np

try:
    from sklearn.base import (
        BaseEstimator,
        ClassifierMixin,
        ClassNamePrefixFeaturesOutMixin,
        TransformerMixin,
    )
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, column_or_1d
except ImportError as error:
    raise ImportError(
        "hyperagg.sklearn needs scikit-learn: pip install 'hyperagg[sklearn]'", name="sklearn"
    ) from error

from hyperagg.classifier import TextClassifier
from hyperagg.classifier.model import ClassifierModel
from hyperagg.classifier.training.labels import check_texts
from hyperagg.text import WordTokenizer

__all__ = ["HyperAggClassifier", "HyperAggVectorizer"]

# The defaults are stated once, in the signature of TextClassifier.
_DEFAULTS: dict[str, Any] = {
    name: parameter.default
    for name, parameter in inspect.signature(TextClassifier).parameters.items()
}


class _TextEstimator(BaseEstimator):
    """X is a one-dimensional array of texts."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags


class HyperAggClassifier(ClassifierMixin, _TextEstimator):
    """Classify texts by `hyperagg.TextClassifier`, in `Pipeline`, `GridSearchCV` and the like.

    Args:
        d_model, max_words, min_count, max_ngrams, features, pooling, max_tokens, epochs,
            learning_rate, label_smoothing, validation_fraction, refit, threads: as for
            `hyperagg.TextClassifier`, with its defaults.
        class_weight: weights per label, "balanced" or {label: weight} (default: equal weights).
        random_state: an integer seed or a RandomState (default: seed 0).

    Attributes:
        classes_: (C,) the sorted labels.
        text_classifier_: the TextClassifier; its labels are indices into `classes_`.

    Numerics: as for `hyperagg.TextClassifier`.

    Cost: O(n D) per text of n tokens, for training and prediction.

    >>> clf = HyperAggClassifier().fit(["good film", "bad film"] * 20, ["yes", "no"] * 20)
    >>> clf.predict(["a good one"]).tolist()
    ['yes']
    """

    def __init__(
        self,
        d_model: int = _DEFAULTS["d_model"],
        max_words: int = _DEFAULTS["max_words"],
        min_count: int = _DEFAULTS["min_count"],
        max_ngrams: int = _DEFAULTS["max_ngrams"],
        features: str = _DEFAULTS["features"],
        pooling: str = _DEFAULTS["pooling"],
        max_tokens: int | None = _DEFAULTS["max_tokens"],
        epochs: int | None = _DEFAULTS["epochs"],
        learning_rate: float | None = _DEFAULTS["learning_rate"],
        label_smoothing: float | None = _DEFAULTS["label_smoothing"],
        validation_fraction: float = _DEFAULTS["validation_fraction"],
        refit: bool = _DEFAULTS["refit"],
        threads: int | None = _DEFAULTS["threads"],
        class_weight: Any = None,
        random_state: Any = None,
    ) -> None:
        self.d_model = d_model
        self.max_words = max_words
        self.min_count = min_count
        self.max_ngrams = max_ngrams
        self.features = features
        self.pooling = pooling
        self.max_tokens = max_tokens
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.label_smoothing = label_smoothing
        self.validation_fraction = validation_fraction
        self.refit = refit
        self.threads = threads
        self.class_weight = class_weight
        self.random_state = random_state

    def fit(self, X: Iterable[str], y: Any, sample_weight: Any = None) -> HyperAggClassifier:
        """Learn from texts X and labels y of any type that scikit-learn accepts for classes.

        Args:
            X: the texts.
            y: (B,) one label per text.
            sample_weight: (B,) weights of the texts in the loss (default: 1 each).

        Returns:
            self.

        Raises:
            ValueError, TypeError: invalid arguments, texts or labels; see `TextClassifier.fit`.
        """
        self.classes_, indices = np.unique(_check_labels(y), return_inverse=True)
        arguments = self.get_params(deep=False)
        seed = _seed(arguments.pop("random_state"))
        weight = arguments.pop("class_weight")
        if isinstance(weight, dict):
            weight = self._weight_by_index(weight)
        self.text_classifier_ = TextClassifier(**arguments)
        self.text_classifier_.fit(
            X,
            indices.tolist(),
            class_weight=weight,
            sample_weight=sample_weight,
            seed=seed,
            progress=False,
        )
        return self

    def predict(self, X: Iterable[str]) -> np.ndarray:
        """Return the most probable label of each text, (B,)."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(1)]

    def predict_proba(self, X: Iterable[str]) -> np.ndarray:
        """Return the probabilities (B, C), columns as in `classes_`."""
        check_is_fitted(self)
        return self.text_classifier_.predict_proba(check_texts(X))

    def _weight_by_index(self, weight: dict[Any, float]) -> dict[int, float]:
        index = {label: i for i, label in enumerate(self.classes_.tolist())}
        for label in weight:
            if label not in index:
                raise ValueError(
                    f"class_weight: the label {label!r} does not occur in y; expected some of "
                    f"{', '.join(map(repr, index))}"
                )
        return {index[label]: value for label, value in weight.items()}


class HyperAggVectorizer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, _TextEstimator):
    """Map texts to pooled vectors of d_model numbers, for any estimator.

    With labels, token and position vectors are those of a `HyperAggClassifier` that learns them.
    Without labels, the text is the sum of one random vector per word, divided by the square root of
    the number of words; the length of a random vector is the inverse document frequency of its
    word. Such sums preserve the angles between bags of words up to about d_model^-1/2.

    Args:
        d_model: number of features (default: 256).
        max_words, min_count: as for `HyperAggClassifier`.
        random_state: an integer seed or a RandomState (default: seed 0).

    Attributes:
        tokenizer_: maps texts to token ids.
        model_: the parameters, with the identity in place of the linear head.

    Numerics: float32 vectors, summed in float64.

    Cost: O(n D + D^2) per text of n tokens.

    Source of the random vectors: Kanerva, Kristoferson and Holst (2000), "Random indexing of text
    samples for latent semantic analysis".

    >>> HyperAggVectorizer(d_model=16).fit_transform(["good film", "bad film"]).shape
    (2, 16)
    """

    def __init__(
        self,
        d_model: int = 256,
        max_words: int = _DEFAULTS["max_words"],
        min_count: int = _DEFAULTS["min_count"],
        random_state: Any = None,
    ) -> None:
        self.d_model = d_model
        self.max_words = max_words
        self.min_count = min_count
        self.random_state = random_state

    def fit(self, X: Iterable[str], y: Any = None) -> HyperAggVectorizer:
        """Learn the token vectors from texts X, and from labels y if given.

        Returns:
            self.
        """
        texts = check_texts(X)
        self._normalize_by_sqrt = y is None
        if y is not None:
            classifier = HyperAggClassifier(**self.get_params(deep=False)).fit(texts, y)
            self.tokenizer_: Any = classifier.text_classifier_.tokenizer_
            learned = classifier.text_classifier_.model_
            self._set_model(learned.embedding, learned.positions, learned.pooling)
            return self
        self.tokenizer_ = WordTokenizer.train(texts, self.max_words, self.min_count)
        rows, vocab_size = self.tokenizer_.encode(texts), len(self.tokenizer_)
        document = np.repeat(np.arange(len(rows)), rows.lengths)
        occurring = np.unique(document * vocab_size + rows.token_ids) % vocab_size
        frequency = np.bincount(occurring, minlength=vocab_size)
        idf = np.log((1 + len(rows)) / (1 + frequency)) + 1
        rng = np.random.default_rng(_seed(self.random_state))
        embedding = rng.standard_normal((vocab_size, self.d_model), dtype=np.float32)
        embedding *= (idf / self.d_model**0.5).astype(np.float32)[:, None]
        self._set_model(embedding, np.ones((1, self.d_model), dtype=np.float32), "mean")
        return self

    def transform(self, X: Iterable[str]) -> np.ndarray:
        """Return the vectors of the texts, (B, d_model) float32."""
        check_is_fitted(self, "tokenizer_")
        rows = self.tokenizer_.encode(check_texts(X))
        vectors = self.model_.logits(rows)
        if self._normalize_by_sqrt:
            vectors *= np.sqrt(rows.lengths, dtype=np.float32)[:, None]
        return vectors

    def _set_model(self, embedding: np.ndarray, positions: np.ndarray, pooling: Any) -> None:
        # With the identity as its head, the logits of the model are the pooled vectors.
        identity = np.eye(self.d_model, dtype=np.float32)
        zeros = np.zeros(self.d_model, dtype=np.float32)
        self.model_ = ClassifierModel(embedding, positions, identity, zeros, pooling)

    @property
    def _n_features_out(self) -> int:
        return self.d_model


def _check_labels(y: Any) -> np.ndarray:
    """Return one label per text as an array (B,).

    Raises:
        ValueError: the labels are those of a multi-label problem, or not of a classification.
    """
    shape = tuple(getattr(y, "shape", ()))
    if len(shape) == 2 and shape[1] > 1:
        found: str | None = f"a table of shape {shape}"
    elif len(shape) == 2:
        found = None
    else:
        collections = (row for row in y if isinstance(row, list | tuple | Set | np.ndarray))
        found = next((f"a {type(row).__name__} of labels" for row in collections), None)
    if found:
        raise ValueError(
            f"y: expected one label per text, got {found}; for a multi-label problem use "
            "hyperagg.TextClassifier, with a list of labels for each text"
        )
    check_classification_targets(y)
    return column_or_1d(y, warn=True)


def _seed(random_state: Any) -> int:
    """Draw a seed; a RandomState advances, as scikit-learn requires."""
    if random_state is None or isinstance(random_state, int | np.integer):
        return int(random_state or 0)
    return int(check_random_state(random_state).randint(2**31 - 1))
