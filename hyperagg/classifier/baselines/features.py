"""TF-IDF features of words and characters, and the rows of a validation split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hyperagg._common.split import train_validation_split
from hyperagg.classifier.baselines.words import separate_words
from hyperagg.classifier.training.labels import encode_labels, first_classes, unique_labels

__all__ = ["Fold", "TfidfFeatures"]

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
    """

    texts: Sequence[str]
    labels: Sequence[Any]
    held_out_texts: Sequence[str]
    held_out_labels: Sequence[Any]
    cache: dict[Any, Any] = field(default_factory=dict, repr=False)

    def sample(self, count: int) -> Fold:
        """Return the fold with about `count` of the texts to learn from, and all that are held out.

        The texts are drawn per class (the first one, of several labels), at least one of each.
        A fold that has no more than `count` texts is returned itself.
        """
        if len(self.texts) <= count:
            return self
        classes = first_classes(encode_labels(self.labels, unique_labels(self.labels), "labels"))
        left_out = 1 - count / len(self.texts)
        rows, _ = train_validation_split(classes, left_out, 0, "stratified")
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
            self._vectorizers["char", char_ngrams] = _CharacterTfidf(char_ngrams)

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


class _CharacterTfidf:
    """scikit-learn's TfidfVectorizer(analyzer="char_wb", sublinear_tf=True), made faster.

    That analyzer never crosses the border of a word, so the n-grams of a text are those of its
    words. Each distinct word is analyzed once, and the counts of a text are a product of sparse
    matrices: texts by words, times words by n-grams. The values are equal up to rounding.
    """

    def __init__(self, char_ngrams: int) -> None:
        from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

        self._ngrams = CountVectorizer(
            analyzer="char_wb", ngram_range=(1, char_ngrams), lowercase=False
        )
        self._tfidf = TfidfTransformer(sublinear_tf=True)

    def fit_transform(self, texts: Sequence[str]) -> Any:
        words, counts = _count_words(texts)
        return self._tfidf.fit_transform(_sorted(counts @ self._ngrams.fit_transform(words)))

    def transform(self, texts: Sequence[str]) -> Any:
        words, counts = _count_words(texts)
        return self._tfidf.transform(_sorted(counts @ self._ngrams.transform(words)))


def _count_words(texts: Sequence[str]) -> tuple[Any, Any]:
    """The distinct words between spaces, and a matrix (texts, words) of their counts."""
    from sklearn.feature_extraction.text import CountVectorizer

    vectorizer = CountVectorizer(analyzer=_lower_words)
    counts = vectorizer.fit_transform(texts)
    return vectorizer.get_feature_names_out(), counts


def _lower_words(text: str) -> list[str]:
    return text.lower().split()


def _sorted(matrix: Any) -> Any:
    matrix.sort_indices()
    return matrix


def _size(cache: dict[Any, Any]) -> int:
    return sum(matrix.nnz for block in cache.values() for matrix in block)


def _join(blocks: list[Any]) -> Any:
    from scipy import sparse

    return blocks[0] if len(blocks) == 1 else sparse.hstack(blocks, format="csr")
