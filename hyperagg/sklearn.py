"""The text classifier and its pooled vectors as scikit-learn estimators.

Both take texts, as `CountVectorizer` does: a list, an array or a column of strings.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence, Set
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
    from sklearn.utils.multiclass import check_classification_targets, type_of_target
    from sklearn.utils.validation import check_is_fitted, column_or_1d
except ImportError as error:
    raise ImportError(
        "hyperagg.sklearn needs scikit-learn: pip install 'hyperagg[sklearn]'", name="sklearn"
    ) from error

from hyperagg.classifier import Predictor, TextClassifier
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
        d_model, ..., threads: all arguments of `hyperagg.TextClassifier` but `tokenizer`, with
            their defaults.
        class_weight: weights per label, "balanced" or {label: weight} (default: equal weights).
        random_state: an integer seed or a RandomState (default: seed 0).

    Attributes:
        classes_: (C,) the sorted labels; if y is an indicator matrix, the indices of its columns.
        multilabel_: whether y is an indicator matrix.
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

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def fit(self, X: Iterable[str], y: Any, sample_weight: Any = None) -> HyperAggClassifier:
        """Learn from texts X and labels y of any type that scikit-learn accepts for classes.

        Args:
            X: the texts.
            y: (B,) one label per text, or a (B, C) matrix of 0 and 1, dense or sparse, that
                indicates the labels of each text.
            sample_weight: (B,) weights of the texts in the loss (default: 1 each).

        Returns:
            self.

        Raises:
            ValueError, TypeError: invalid arguments, texts or labels; see `TextClassifier.fit`.
        """
        labels = _check_labels(y)
        self.multilabel_ = labels.ndim == 2
        self.classes_ = np.arange(labels.shape[1]) if self.multilabel_ else np.unique(labels)
        self.text_classifier_, seed = self._new_classifier()
        self.text_classifier_.fit(
            X,
            self._encode(labels),
            class_weight=self._class_weight(),
            sample_weight=sample_weight,
            seed=seed,
            progress=False,
        )
        return self

    def partial_fit(
        self, X: Iterable[str], y: Any, classes: Any = None, sample_weight: Any = None
    ) -> HyperAggClassifier:
        """Continue training on more texts; see `TextClassifier.partial_fit`.

        Args:
            X, y, sample_weight: as in `fit`.
            classes: all labels that will ever occur (default: those of the first call). Labels that
                have not occurred yet have the probability 0.

        Returns:
            self.

        Raises:
            ValueError, TypeError: as in `fit`; or a label is not one of the classes.
        """
        labels = _check_labels(y)
        given = None if classes is None else np.unique(_check_labels(classes))
        first = not hasattr(self, "text_classifier_")
        if first:
            self.multilabel_ = labels.ndim == 2
            found = np.arange(labels.shape[1]) if self.multilabel_ else np.unique(labels)
            self.classes_ = found if given is None else given
            self.text_classifier_, self._partial_seed = self._new_classifier()
        elif given is not None and not np.array_equal(given, self.classes_):
            raise ValueError(
                f"classes: expected those of the first call, {self.classes_.tolist()}, got "
                f"{given.tolist()}"
            )
        try:
            encoded = self._encode(labels)
            self.text_classifier_.partial_fit(
                X,
                encoded,
                class_weight=self._class_weight(),
                sample_weight=sample_weight,
                seed=getattr(self, "_partial_seed", 0),
                progress=False,
            )
        except (TypeError, ValueError):
            if first:
                del self.text_classifier_
            raise
        return self

    def predict(self, X: Iterable[str]) -> np.ndarray:
        """Return the most probable label of each text, (B,), or an indicator matrix (B, C)."""
        check_is_fitted(self)
        if not self.multilabel_:
            return self.classes_[self._logits(X).argmax(1)]
        predictor, texts = self.text_classifier_.predictor, check_texts(X)
        decided = np.zeros((len(texts), len(self.classes_)), dtype=np.int64)
        known = np.array(predictor.classes_, dtype=np.int64)
        decided[:, known] = predictor.decoder.decide(predictor.logits(texts))
        return decided

    def predict_proba(self, X: Iterable[str]) -> np.ndarray:
        """Return the probabilities (B, C), columns as in `classes_`."""
        check_is_fitted(self)
        predictor = self.text_classifier_.predictor
        return self._columns(predictor, predictor.predict_proba(check_texts(X)), 0.0)

    def predict_log_proba(self, X: Iterable[str]) -> np.ndarray:
        """Return the logarithms of the probabilities (B, C), exact also for the smallest ones."""
        logits = self._logits(X).astype(np.float64)
        if self.multilabel_:
            return -np.logaddexp(0, -logits)
        return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)

    def decision_function(self, X: Iterable[str]) -> np.ndarray:
        """Return the logits (B, C), columns as in `classes_`; with two labels, (B,) the logit of
        the second label less that of the first."""
        logits = self._logits(X)
        return (
            logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 and not self.multilabel_ else logits
        )

    def _logits(self, X: Iterable[str]) -> np.ndarray:
        check_is_fitted(self)
        predictor = self.text_classifier_.predictor
        return self._columns(predictor, predictor.logits(check_texts(X)), -np.inf)

    def _columns(self, predictor: Predictor, values: np.ndarray, absent: float) -> np.ndarray:
        """Return columns for all of `classes_`; labels without texts have the value `absent`.

        The predictor is the one that gave the values: another thread may have trained on since.
        """
        known = predictor.classes_
        if known == list(range(len(self.classes_))):
            return values
        columns = np.full((len(values), len(self.classes_)), absent, dtype=values.dtype)
        columns[:, np.array(known, dtype=np.int64)] = values
        return columns

    def _new_classifier(self) -> tuple[TextClassifier, int]:
        arguments = self.get_params(deep=False)
        seed = _seed(arguments.pop("random_state"))
        del arguments["class_weight"]
        return TextClassifier(**arguments), seed

    def _encode(self, labels: np.ndarray) -> Sequence[Any]:
        """Return indices into `classes_`, or a list of them for each text."""
        if self.multilabel_ != (labels.ndim == 2) or (
            self.multilabel_ and labels.shape[1] != len(self.classes_)
        ):
            raise ValueError(
                f"y: expected labels as in the first call, got shape {labels.shape} for "
                f"{len(self.classes_)} classes"
            )
        if self.multilabel_:
            return [np.flatnonzero(row).tolist() for row in labels]
        indices = {label: i for i, label in enumerate(self.classes_.tolist())}
        try:
            return [indices[label] for label in labels.tolist()]
        except KeyError as error:
            raise ValueError(
                f"y: the label {error.args[0]!r} is not one of the classes "
                f"{', '.join(map(repr, indices))}; pass all of them as classes in the first call"
            ) from None

    def _class_weight(self) -> Any:
        weight = self.class_weight
        return self._weight_by_index(weight) if isinstance(weight, dict) else weight

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
    Without labels, or with continuous targets as before a regressor, a text is the sum of one
    random vector per word, divided by the square root of the number of words; the length of a
    random vector is the inverse document frequency of its word. Such sums preserve the angles
    between bags of words up to about d_model^-1/2.

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

        Args:
            X: the texts.
            y: labels as for `HyperAggClassifier`. Continuous targets do not count as labels, nor do
                numbers of which more than half are distinct.

        Returns:
            self.
        """
        texts = check_texts(X)
        supervised = y is not None and not _is_continuous(y)
        self._normalize_by_sqrt = not supervised
        if supervised:
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
    """Return one label per text as an array (B,), or an indicator matrix (B, C).

    Raises:
        ValueError: the labels are lists of labels, or not of a classification.
    """
    if len(getattr(y, "shape", ())) != 2:
        collections = (row for row in y if isinstance(row, list | tuple | Set | np.ndarray))
        if found := next((type(row).__name__ for row in collections), None):
            raise ValueError(
                f"y: expected one label per text or an indicator matrix, got a {found} of labels; "
                "convert lists of labels with sklearn.preprocessing.MultiLabelBinarizer"
            )
    elif y.shape[1] > 1:
        if type_of_target(y) != "multilabel-indicator":
            raise ValueError(
                f"y: expected a matrix of 0 and 1, got one of shape {tuple(y.shape)} that holds "
                "other values"
            )
        return np.asarray(y.toarray() if hasattr(y, "toarray") else y)
    check_classification_targets(y)
    return column_or_1d(y, warn=True)


def _is_continuous(y: Any) -> bool:
    """Whether these are targets of a regression."""
    try:
        values = np.asarray(y.toarray() if hasattr(y, "toarray") else y)
    except ValueError:  # lists of labels
        return False
    if values.dtype.kind == "f" and type_of_target(values).startswith("continuous"):
        return True
    return values.ndim == 1 and values.dtype.kind in "iuf" and 2 * len(np.unique(values)) > len(y)


def _seed(random_state: Any) -> int:
    """Draw a seed; a RandomState advances, as scikit-learn requires."""
    if random_state is None or isinstance(random_state, int | np.integer):
        return int(random_state or 0)
    return int(check_random_state(random_state).randint(2**31 - 1))
