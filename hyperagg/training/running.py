"""A document that grows, and that can be classified at any time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hyperagg.models.classifier import Classifier
from hyperagg.text import WordTokenizer, settled
from hyperagg.training import fused
from hyperagg.training.steppers import softmax

__all__ = ["RunningDocument"]


class RunningDocument:
    """A document in the making: `TextClassifier.open` makes one.

    Its answers are those of the whole text so far, to the last bit. Kept are the sums of the token
    vectors in each block of places, and the last word while it may still go on.

    Cost: O(d) a token; memory O(d), however long the document.
    """

    def __init__(self, model: Classifier, tokenizer: WordTokenizer, classes: Sequence[str | int]):
        self.classes_ = list(classes)
        self._tokenizer = tokenizer
        tables = fused.tables(model)
        self._embedding, self._head = tables.pop("embedding"), tables
        self._sums = np.zeros(tables["positions"].shape)
        self._words, self._tokens = 0, 0
        self._last_word, self._open_end = 0, ""

    def append(self, text: str) -> RunningDocument:
        """Goes on with `text`, at any character: a word may be cut anywhere."""
        if not isinstance(text, str):
            raise TypeError(f"text: is {type(text).__name__}; give str")
        text = self._open_end + text
        end = settled(text)
        tokens, words, self._last_word = self._add(text[:end], self._sums)
        self._tokens, self._words = self._tokens + tokens, self._words + words
        self._open_end = text[end:]
        return self

    def __len__(self) -> int:
        """Words so far, one that may still go on among them."""
        return self._words + self._add(self._open_end, self._sums.copy())[1]

    def logits(self) -> np.ndarray:
        """(C,) float32."""
        sums = self._sums.copy()
        n = self._tokens + self._add(self._open_end, sums)[0]
        out = np.empty(len(self.classes_), dtype=np.float32)
        fused.score_sums(sums, n, **self._head, out=out)
        return out

    def predict(self) -> str | int:
        """The most probable label of the text so far."""
        return self.classes_[int(self.logits().argmax())]

    def predict_proba(self) -> np.ndarray:
        """(C,) probabilities, in the order of `classes_`."""
        return softmax(self.logits())

    def _add(self, text: str, sums: np.ndarray) -> tuple[int, int, int]:
        """Adds the tokens of `text` to the sums. How many tokens and words it has, and the hash of
        its last word."""
        ids, words, last = self._tokenizer.encode_on(text, self._last_word)
        fused.add_tokens(ids, self._tokens, self._embedding, sums)
        return len(ids), words, last
