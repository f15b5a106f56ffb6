"""The text classifier and its vectors as scikit-learn estimators.

Both take texts, as `CountVectorizer` does: a list, an array or a column of strings.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from hyperagg import ops
from hyperagg.classifier.estimator import TextClassifier
from hyperagg.classifier.model import ClassifierModel
from hyperagg.text import WordTokenizer

__all__ = ["HyperAggClassifier", "HyperAggVectorizer"]


class _OfTexts(BaseEstimator):
    """What both have in common: X is texts, and nothing of it can be absent."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags


class HyperAggClassifier(ClassifierMixin, _OfTexts):
    """`hyperagg.TextClassifier` as an estimator: for `Pipeline`, `GridSearchCV` and the like.

    Args:
        d_model, max_words, max_ngrams, min_count, epochs, learning_rate, label_smoothing,
            validation_fraction, refit: as `hyperagg.TextClassifier` says.
        random_state: None for a seed of 0, a number, or a RandomState.

    Attributes:
        classes_: the labels, sorted.
        text_classifier_: the TextClassifier, whose labels are places in `classes_`.

    >>> clf = HyperAggClassifier().fit(["good film", "bad film"] * 20, ["yes", "no"] * 20)
    >>> clf.predict(["a good one"]).tolist()
    ['yes']
    """

    def __init__(
        self,
        d_model: int = 64,
        max_words: int = 200_000,
        max_ngrams: int = 300_000,
        min_count: int = 1,
        epochs: int | None = None,
        learning_rate: float | None = None,
        label_smoothing: float | None = None,
        validation_fraction: float = 0.1,
        refit: bool = True,
        random_state: Any = None,
    ) -> None:
        self.d_model = d_model
        self.max_words = max_words
        self.max_ngrams = max_ngrams
        self.min_count = min_count
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.label_smoothing = label_smoothing
        self.validation_fraction = validation_fraction
        self.refit = refit
        self.random_state = random_state

    def fit(self, X: Iterable[str], y: Any) -> HyperAggClassifier:
        """Learn from texts X and labels y, of any type that scikit-learn takes for classes."""
        check_classification_targets(y)
        self.classes_, places = np.unique(y, return_inverse=True)
        config = self.get_params(deep=False)
        seed = _seed(config.pop("random_state"))
        self.text_classifier_ = TextClassifier(**config)
        self.text_classifier_.fit(X, places.tolist(), seed=seed, progress=False)
        return self

    def predict(self, X: Iterable[str]) -> np.ndarray:
        """(B,) labels."""
        return self.classes_[self.predict_proba(X).argmax(1)]

    def predict_proba(self, X: Iterable[str]) -> np.ndarray:
        """(B, C) probabilities, columns as in `classes_`."""
        check_is_fitted(self)
        return self.text_classifier_.predict_proba(X)


class HyperAggVectorizer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, _OfTexts):
    """Texts to vectors of d_model numbers, pooled sums of token vectors, for any estimator.

    With labels, vectors and positions are learned by a HyperAggClassifier. Without, every word has
    a random vector, whose length is the word's inverse document frequency: sums of those keep the
    angles of the bags of words up to about d_model^-1/2.

    Args:
        d_model, max_words, min_count: as for HyperAggClassifier.
        random_state: as there.

    Source of the random vectors: Kanerva, Kristoferson and Holst 2000, "Random indexing of text
    samples for latent semantic analysis".
    """

    def __init__(
        self,
        d_model: int = 256,
        max_words: int = 200_000,
        min_count: int = 1,
        random_state: Any = None,
    ) -> None:
        self.d_model = d_model
        self.max_words = max_words
        self.min_count = min_count
        self.random_state = random_state

    def fit(self, X: Iterable[str], y: Any = None) -> HyperAggVectorizer:
        """Learn the vectors of the words from texts X, and from labels y where there are any."""
        texts = list(X)
        if y is not None:
            learned = HyperAggClassifier(**self.get_params(deep=False)).fit(texts, y)
            self.tokenizer_ = learned.text_classifier_.tokenizer_
            self.model_: ClassifierModel | None = learned.text_classifier_.model_
            return self
        self.tokenizer_ = WordTokenizer.train(texts, self.max_words, self.min_count)
        self.model_ = None
        words = len(self.tokenizer_.vocabulary)
        rows = self.tokenizer_.encode(texts)
        document = np.repeat(np.arange(len(rows)), rows.lengths)
        used = np.unique(document * words + rows.token_ids) % words
        frequency = np.bincount(used, minlength=words)
        generator = torch.Generator().manual_seed(_seed(self.random_state))
        table = torch.randn(words, self.d_model, generator=generator) / self.d_model**0.5
        idf = np.log((1 + len(rows)) / (1 + frequency)) + 1
        self.embedding_ = table * torch.from_numpy(idf).float()[:, None]
        return self

    def transform(self, X: Iterable[str]) -> np.ndarray:
        """(B, d_model) float32."""
        check_is_fitted(self, "tokenizer_")
        rows = self.tokenizer_.encode(list(X))
        ids, borders = torch.from_numpy(rows.token_ids), torch.from_numpy(rows.cu_seqlens)
        if self.model_ is not None:
            # With the identity as its head the model returns the pooled vectors.
            model, d_model = self.model_, self.d_model
            identity = np.eye(d_model, dtype=np.float32), np.zeros(d_model, dtype=np.float32)
            pooled_model = ClassifierModel(
                model.embedding, model.positions, *identity, model.pooling
            )
            return pooled_model.logits(rows)
        pooled = ops.aggregate_tokens(ids, self.embedding_, cu_seqlens=borders, normalize="sqrt")
        return pooled.numpy()

    @property
    def _n_features_out(self) -> int:
        return self.d_model


def _seed(random_state: Any) -> int:
    """A seed for PyTorch; drawing it from a RandomState moves that on, as scikit-learn wants."""
    if random_state is None or isinstance(random_state, int | np.integer):
        return int(random_state or 0)
    return int(check_random_state(random_state).randint(2**31 - 1))
