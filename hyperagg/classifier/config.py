"""What a `TextClassifier` is made of and how it is trained."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from reprlib import repr as shorten
from typing import Literal, get_args

from hyperagg.classifier.pooling import Pooling
from hyperagg.classifier.training_config import Recipe

__all__ = ["ClassifierConfig"]

MixerName = Literal["aggregation", "attention", "transformer"]

# Each found on held-out training rows; docs/log.md has the grids. Aggregation's rate grows with the
# classes: what tells one of C classes from the rest is learned from a C-th of the documents.
# And few texts leave few steps to get anywhere.
RATE_A_CLASS, RATE_OF_FEW, HIGHEST_RATE = 0.0015, 0.2, 0.04
MIN_STEPS, MAX_EPOCHS = 10_000, 200
RECIPES = {
    "aggregation": Recipe(epochs=10),
    "attention": Recipe(epochs=5, learning_rate=0.01),
    "transformer": Recipe(epochs=4, learning_rate=0.0005),
}


@dataclass(frozen=True)
class ClassifierConfig:
    """What a `TextClassifier` is made of; saved as config.json.

    Args:
        mixer: "aggregation", or one of its rivals "attention" and "transformer".
        d_model: the dimension of the embedding.
        max_words: the most frequent words that are kept.
        min_count: uses in the training texts below which a word is not kept.
        max_ngrams: as many pairs of neighbouring words, beginnings and endings of long words are
            tokens as well; see `WordTokenizer`. Rivals have none.
        pooling: how aggregation weighs the uses of a token; see `PooledAggregation`.
        max_tokens: what of a text is read; None: all of it, however long. Rivals read 512, since
            their time grows with the square.
        epochs, learning_rate, label_smoothing, batch_size: see `Recipe`; None: what is best for
            the mixer. Aggregation's rate is 0.0015 a class, at least 0.2 / sqrt(texts) and at most
            0.04; its epochs are 10, for fewer than 1,000 texts as many as make 10,000 steps, at
            most 200. Where texts have several labels it is twice as many, without smoothing.
        validation_fraction: the part of the training rows that is held out, when none is given to
            `fit`, to tell which epoch was best and how sure to be of an answer.
        refit: whether then to learn all rows, the held-out ones too, for as many epochs.
    """

    mixer: MixerName = "aggregation"
    d_model: int = 64
    max_words: int = 200_000
    min_count: int = 1
    max_ngrams: int = 300_000
    pooling: Pooling = "harmonic"
    max_tokens: int | None = None
    epochs: int | None = None
    learning_rate: float | None = None
    label_smoothing: float | None = None
    batch_size: int | None = None
    validation_fraction: float = 0.1
    refit: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.mixer, str) or self.mixer not in RECIPES:
            raise ValueError(f"mixer={shorten(self.mixer)}: there are {', '.join(RECIPES)}")
        if self.pooling not in get_args(Pooling):
            raise ValueError(
                f"pooling={shorten(self.pooling)}: there are {', '.join(get_args(Pooling))}"
            )
        optional = {f.name for f in fields(self) if f.default is None}
        whole = ("d_model", "max_words", "min_count", "max_tokens", "epochs", "batch_size")
        for name in (*whole, "max_ngrams"):
            value = getattr(self, name)
            if value is None and name in optional:
                continue
            least = 0 if name == "max_ngrams" else 1
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name}={shorten(value)}: give a whole number, {least} or more")
        if not isinstance(self.refit, bool):
            raise TypeError(f"refit={shorten(self.refit)}: give True or False")
        for name in ("learning_rate", "label_smoothing", "validation_fraction"):
            value = getattr(self, name)
            if value is None and name in optional:
                continue
            if not isinstance(value, float | int):
                raise TypeError(f"{name}={shorten(value)}: give a number")
            if name == "learning_rate":
                if not 0 < value < float("inf"):
                    raise ValueError(f"{name}={value}: give a finite number above 0")
            elif not 0 <= value < 1:
                raise ValueError(f"{name}={value}: give 0 or more, below 1")

    @property
    def documents_per_batch(self) -> int:
        return self.batch_size or RECIPES[self.mixer].batch_size

    def recipe(self, classes: int, texts: int, several: bool = False) -> Recipe:
        """How a classifier of so many classes, one or several a text, learns from so many texts."""
        recipe = RECIPES[self.mixer]
        if self.mixer == "aggregation":
            rate = min(
                HIGHEST_RATE, max(RATE_A_CLASS * classes, RATE_OF_FEW / max(1, texts) ** 0.5)
            )
            epochs = min(MAX_EPOCHS, max(recipe.epochs, MIN_STEPS // max(1, texts)))
            recipe = replace(recipe, epochs=epochs, learning_rate=rate)
        if several:
            recipe = replace(recipe, epochs=2 * recipe.epochs, label_smoothing=0.0)
        given = {f.name: getattr(self, f.name) for f in fields(Recipe)}
        return replace(recipe, **{k: v for k, v in given.items() if v is not None})
