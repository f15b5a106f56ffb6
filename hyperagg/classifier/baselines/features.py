"""TF-IDF features of words and characters, and the rows of a validation split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from hyperagg.classifier.baselines.words import separate_words

__all__ = ["SUBSAMPLE", "Fold", "TfidfFeatures"]

SUBSAMPLE = 5_000

# Elements of sparse matrices that a fold keeps, of 12 bytes each.
_MAX_CACHED = 50_000_000


@dataclass
class Fold:
    """Rows to learn from and rows to measure on.

    Args:
        texts: the texts to learn from.
        labels: their labels.
        held_out_texts: the texts to measure on.
        held_out_labels: their labels.

    Attributes:
        cache: the features that `TfidfFeatures` keeps between two candidates on the same rows.
        subsample: the same fold with at most 5,000 texts to learn from.
    """

    texts: Sequence[str]
    labels: Sequence[Any]
    held_out_texts: Sequence[str]
    held_out_labels: Sequence[Any]
    cache: dict[Any, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def subsample(self) -> Fold:
        rows = np.sort(np.random.default_rng(0).permutation(len(self.texts))[:SUBSAMPLE])
        texts, labels = [self.texts[i] for i in rows], [self.labels[i] for i in rows]
        return Fold(texts, labels, self.held_out_texts, self.held_out_labels)


class TfidfFeatures:
    """Map texts to a sparse matrix of TF-IDF features.

    Features are (1 + log of the term frequency) times the inverse document frequency; those of the
    words and those of the characters are each scaled to unit length.

    Args:
        word_ngrams: largest number of words in a feature, 0 for none.
        char_ngrams: largest number of characters in a feature, 0 for none. The n-grams of 1 to
            that many characters are taken inside words, with a space on either side of a word.
    """

    def __init__(self, word_ngrams: int, char_ngrams: int) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._vectorizers: dict[tuple[str, int], Any] = {}
        if word_ngrams:
            self._vectorizers["word", word_ngrams] = TfidfVectorizer(
                ngram_range=(1, word_ngrams),
                preprocessor=separate_words,
                token_pattern=r"\S+",
                sublinear_tf=True,
            )
        if char_ngrams:
            self._vectorizers["char", char_ngrams] = TfidfVectorizer(
                analyzer="char_wb", ngram_range=(1, char_ngrams), sublinear_tf=True
            )

    def fit_transform(self, texts: Sequence[str]) -> Any:
        """Learn the features of the texts, and return the matrix (texts, features)."""
        return _join([each.fit_transform(texts) for each in self._vectorizers.values()])

    def transform(self, texts: Sequence[str]) -> Any:
        """Return the matrix (texts, features); features that were not learned are left out."""
        return _join([each.transform(texts) for each in self._vectorizers.values()])

    def matrices(self, fold: Fold) -> tuple[Any, Any]:
        """Return `fit_transform` of the texts and `transform` of those held out.

        The latest blocks are kept in `fold.cache`: most candidates of a search differ in something
        else, and all linear models share them.
        """
        blocks = []
        for key, vectorizer in self._vectorizers.items():
            found = fold.cache.pop(key, None)
            if found is None:
                learned = vectorizer.fit_transform(fold.texts)
                found = learned, vectorizer.transform(fold.held_out_texts)
            fold.cache[key] = found  # the latest is the last one
            blocks.append(found)
        while len(fold.cache) > len(blocks) and _size(fold.cache) > _MAX_CACHED:
            del fold.cache[next(iter(fold.cache))]
        return _join([block[0] for block in blocks]), _join([block[1] for block in blocks])


def _size(cache: dict[Any, Any]) -> int:
    return sum(matrix.nnz for block in cache.values() for matrix in block)


def _join(blocks: list[Any]) -> Any:
    from scipy import sparse

    return blocks[0] if len(blocks) == 1 else sparse.hstack(blocks, format="csr")
