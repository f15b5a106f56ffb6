"""Holds the arguments of a `TextClassifier` and derives how it is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from hyperagg._common.validation import check_bool, check_choice, check_integer, check_real
from hyperagg.classifier.pooling import POOLINGS, Pooling
from hyperagg.text import FeatureChoice

__all__ = ["ClassifierConfig", "TrainingConfig"]

# Each was found on held-out training rows; docs/log.md has the grids. The learning rate grows with
# the number of classes, since what separates one of C classes from the others is learned from a
# C-th of the documents. A small training set needs large steps and many epochs.
_LEARNING_RATE_PER_CLASS = 0.0015
_LEARNING_RATE_SMALL_DATA = 0.2  # divided by the square root of the number of texts
_MAX_LEARNING_RATE = 0.04
_EPOCHS = 10
MIN_STEPS = 10_000
_MAX_EPOCHS = 200
_LABEL_SMOOTHING = 0.1

_MAX_COUNT = 2**31 - 1
_MAX_DIMENSION = 2**20


@dataclass(frozen=True)
class TrainingConfig:
    """How a classifier is trained.

    Args:
        epochs: the number of passes over the training documents.
        learning_rate: the initial learning rate; it decays linearly to 0.
        label_smoothing: the probability that is taken from the true class and spread over all
            classes; in multi-label problems from every class, half of it to each answer.
    """

    epochs: int
    learning_rate: float
    label_smoothing: float


@dataclass(frozen=True)
class ClassifierConfig:
    """The arguments of a `TextClassifier` that its config.json holds; see there.

    The defaults are those of `TextClassifier`, so `TextClassifier().config` has them.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.
    """

    d_model: int
    max_words: int
    min_count: int
    max_ngrams: int
    features: FeatureChoice
    pooling: Pooling
    max_tokens: int | None
    epochs: int | None
    learning_rate: float | None
    label_smoothing: float | None
    validation_fraction: float
    refit: bool

    def __post_init__(self) -> None:
        def check(name: str, function: Any, *args: Any, optional: bool = False, **kw: Any) -> None:
            value = getattr(self, name)
            if value is not None or not optional:
                # Frozen for everyone else; NumPy's numbers become Python's, which JSON can hold.
                object.__setattr__(self, name, function(name, value, *args, **kw))

        check("d_model", check_integer, 1, _MAX_DIMENSION)
        check("max_words", check_integer, 1, _MAX_COUNT)
        check("min_count", check_integer, 1, _MAX_COUNT)
        check("max_ngrams", check_integer, 0, _MAX_COUNT)
        check("features", check_choice, get_args(FeatureChoice))
        check("pooling", check_choice, POOLINGS)
        check("max_tokens", check_integer, 1, optional=True)
        check("epochs", check_integer, 1, optional=True)
        check("learning_rate", check_real, 0, open_minimum=True, optional=True)
        check("label_smoothing", check_real, 0, 1, open_maximum=True, optional=True)
        check("validation_fraction", check_real, 0, 1, open_maximum=True)
        check("refit", check_bool)

    def training_config(
        self, num_classes: int, num_texts: int, multi_label: bool = False
    ) -> TrainingConfig:
        """Return how a classifier with so many classes learns from so many texts."""
        num_texts = max(1, num_texts)
        learning_rate = max(
            _LEARNING_RATE_PER_CLASS * num_classes, _LEARNING_RATE_SMALL_DATA / num_texts**0.5
        )
        epochs = min(_MAX_EPOCHS, max(_EPOCHS, MIN_STEPS // num_texts))
        defaults = TrainingConfig(
            epochs=2 * epochs if multi_label else epochs,
            learning_rate=min(_MAX_LEARNING_RATE, learning_rate),
            label_smoothing=0.0 if multi_label else _LABEL_SMOOTHING,
        )
        return TrainingConfig(
            **{
                name: default if (given := getattr(self, name)) is None else given
                for name, default in vars(defaults).items()
            }
        )
