"""A document that grows, and that can be classified at any time."""

from __future__ import annotations

from typing import Any

import numpy as np

from hyperagg._common.label_decoder import LabelDecoder
from hyperagg.classifier.kernels.scoring import Weights, add_tokens, score_sums
from hyperagg.text import WordTokenizer, stable_length
from hyperagg.text.term_frequency import new_counts, remove_occurrences

__all__ = ["StreamingDocument"]


class StreamingDocument:
    """A document in the making: `open` of a classifier makes one.

    Its answers are those of the whole text so far, to the last bit. Kept are the sums of the token
    vectors in each block of places, how often each token was used, and the last word while it may
    still go on.

    Cost: O(d) a token; memory O(d + V), however long the document.
    """

    def __init__(self, weights: Weights, tokenizer: WordTokenizer, answers: LabelDecoder) -> None:
        self.classes_ = list(answers.classes)
        self._answers = answers
        self._tokenizer = tokenizer
        self._weights = weights
        self._sums = np.zeros(weights.positions.shape)
        self._squares = np.zeros(1)
        self._uses = new_counts(len(weights.embedding))
        self._words, self._tokens = 0, 0
        self._last_word, self._open_end = 0, ""

    def append(self, text: str) -> StreamingDocument:
        """Goes on with `text`, at any character: a word may be cut anywhere."""
        if not isinstance(text, str):
            raise TypeError(f"text: is {type(text).__name__}; give str")
        text = self._open_end + text
        end = stable_length(text)
        ids, words, self._last_word = self._add(text[:end], self._sums, self._squares)
        self._tokens, self._words = self._tokens + len(ids), self._words + words
        self._open_end = text[end:]
        return self

    def __len__(self) -> int:
        """Words so far, one that may still go on among them."""
        return self._words + self._tokenizer.encode_continuation(self._open_end, self._last_word)[1]

    def logits(self) -> np.ndarray:
        """(C,) float32."""
        sums, squares = self._sums.copy(), self._squares.copy()
        ids, _, _ = self._add(self._open_end, sums, squares)
        remove_occurrences(ids, *self._uses)
        out = np.empty(len(self.classes_), dtype=np.float32)
        n, (_, *head, harmonic) = self._tokens + len(ids), self._weights
        score_sums(sums, squares, n, harmonic, *head, out)
        return out

    def predict(self) -> Any:
        """The most probable label of the text so far, or where there may be several a tuple."""
        return self._answers.labels(self.logits()[None])[0]

    def predict_proba(self) -> np.ndarray:
        """(C,) probabilities, in the order of `classes_`."""
        return self._answers.probabilities(self.logits())

    def _add(self, text: str, sums: np.ndarray, squares: np.ndarray) -> tuple[np.ndarray, int, int]:
        """Adds the tokens of `text`. Their ids, how many words they are, and the hash of the last
        word."""
        ids, words, last = self._tokenizer.encode_continuation(text, self._last_word)
        embedding, harmonic = self._weights.embedding, self._weights.harmonic
        add_tokens(ids, self._tokens, embedding, harmonic, sums, squares, *self._uses)
        return ids, words, last
