"""Classifies a document while it is being read."""

from __future__ import annotations

from typing import Any

import numpy as np

from hyperagg._common.label_decoder import LabelDecoder
from hyperagg.classifier.kernels.scoring import ModelArrays, add_tokens, score_sums
from hyperagg.text import WordTokenizer, stable_length
from hyperagg.text.scan import new_context
from hyperagg.text.term_frequency import new_counts, remove_occurrences

__all__ = ["StreamingDocument"]


class StreamingDocument:
    """A document that grows and can be classified at any time; `TextClassifier.stream` makes one.

    Its predictions have the same bits as those of the whole text so far. It keeps the sums of the
    token vectors in each block of positions, the number of occurrences of each token, and the last
    words as far as n-grams may continue them.

    Cost: O(D) per token, and for each piece and each prediction O(characters) of a word that has
    not ended; memory O(D + V) for a document of any length, and the word that has not ended.

    Example:
        >>> from hyperagg import TextClassifier
        >>> clf = TextClassifier().fit(["good film", "bad film"] * 20, ["yes", "no"] * 20)
        >>> document = clf.stream().append("a go").append("od one")
        >>> document.predict()
        'yes'
    """

    def __init__(
        self, arrays: ModelArrays, tokenizer: WordTokenizer, decoder: LabelDecoder
    ) -> None:
        self.classes_ = list(decoder.classes)
        self._decoder = decoder
        self._tokenizer = tokenizer
        self._arrays = arrays
        self._sums = np.zeros(arrays.positions.shape)
        self._squares = np.zeros(1)
        self._counts = new_counts(len(arrays.embedding))
        self._num_words, self._num_tokens = 0, 0
        self._context, self._unfinished = new_context(), ""

    def append(self, text: str) -> StreamingDocument:
        """Append text; it may begin and end in the middle of a word.

        Returns:
            The document itself.

        Raises:
            TypeError: `text` is not a str.
        """
        if not isinstance(text, str):
            raise TypeError(f"text: expected str, got {type(text).__name__}")
        begin, text = len(self._unfinished), self._unfinished + text
        end = stable_length(text, begin)
        ids, words = self._add(text[:end], self._context, self._sums, self._squares)
        self._num_tokens, self._num_words = self._num_tokens + len(ids), self._num_words + words
        self._unfinished = text[end:]
        return self

    def __len__(self) -> int:
        """Return the number of words so far, the unfinished one included."""
        context = self._context.copy()
        return self._num_words + self._tokenizer.encode_continuation(self._unfinished, context)[1]

    @property
    def num_unfinished(self) -> int:
        """The number of characters at the end of the text whose words may still change."""
        return len(self._unfinished)

    def logits(self) -> np.ndarray:
        """Return the logits (C,) float32 of the text so far."""
        sums, squares = self._sums.copy(), self._squares.copy()
        ids, _ = self._add(self._unfinished, self._context.copy(), sums, squares)
        remove_occurrences(ids, *self._counts)
        out = np.empty(len(self.classes_), dtype=np.float32)
        n, (_, *head, harmonic) = self._num_tokens + len(ids), self._arrays
        score_sums(sums, squares, n, harmonic, *head, out)
        return out

    def predict(self, top_k: int | None = None, threshold: float | None = None) -> Any:
        """Return the prediction for the text so far; see `TextClassifier.predict`."""
        return self._decoder.labels(self.logits()[None], top_k, threshold)[0]

    def predict_proba(self) -> np.ndarray:
        """Return the probabilities (C,), in the order of `classes_`."""
        return self._decoder.probabilities(self.logits())

    def _add(
        self, text: str, context: np.ndarray, sums: np.ndarray, squares: np.ndarray
    ) -> tuple[np.ndarray, int]:
        """Add the tokens of `text`; return their ids and the number of words."""
        ids, words = self._tokenizer.encode_continuation(text, context)
        embedding, harmonic = self._arrays.embedding, self._arrays.harmonic
        add_tokens(ids, self._num_tokens, embedding, harmonic, sums, squares, *self._counts)
        return ids, words
