"""From texts to labels, and no more: the part of a classifier that serves.

It needs no PyTorch, which takes longer to import than a hundred thousand predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hyperagg._common.label_decoder import LabelDecoder
from hyperagg.classifier import serialization as model_folder
from hyperagg.classifier.config import ClassifierConfig
from hyperagg.classifier.kernels import scoring
from hyperagg.classifier.kernels.scoring import Weights
from hyperagg.classifier.streaming import StreamingDocument
from hyperagg.classifier.training.labels import Label, check_texts
from hyperagg.text import Ragged, Tokenizer, WordTokenizer, scan

__all__ = ["Predictor", "encode", "load_predictor"]


class Predictor:
    """What a `TextClassifier` predicts with; any number of threads may call it at once.

    Args:
        config: what the classifier is made of.
        tokenizer: from texts to rows of token ids.
        answers: from logits to labels.
        model: aggregation's weights; or of a rival, what gives the logits (B, C) of rows.

    Numerics: aggregation's are float32, sums in float64. Cost: O(n d) a text, any length.
    """

    def __init__(
        self,
        config: ClassifierConfig,
        tokenizer: Tokenizer,
        answers: LabelDecoder,
        model: Weights | Callable[[Ragged], np.ndarray],
    ) -> None:
        self.config, self.tokenizer, self.answers = config, tokenizer, answers
        self._model = model

    @property
    def classes_(self) -> list[Label]:
        """The labels, in the order of the columns of `predict_proba`."""
        return list(self.answers.classes)

    def predict(self, texts: Iterable[str]) -> list[Any]:
        """The most probable label of each text, or where there may be several a tuple."""
        return self.answers.labels(self.logits(texts))

    def predict_proba(self, texts: Iterable[str]) -> np.ndarray:
        """(B, C) probabilities, columns as in `classes_`."""
        return self.answers.probabilities(self.logits(texts))

    def logits(self, texts: Iterable[str]) -> np.ndarray:
        """(B, C) float32, columns as in `classes_`."""
        texts, tokenizer, model = check_texts(texts), self.tokenizer, self._model
        if (
            len(texts) == 1
            and isinstance(tokenizer, WordTokenizer)
            and isinstance(model, Weights)
            and self.config.max_tokens is None
        ):
            data = scan.text_to_bytes(texts[0])
            return scoring.logits_of_text(model, data, tokenizer.table, tokenizer.has_ngrams)
        return self.score(encode(tokenizer, texts, self.config.max_tokens))

    def score(self, rows: Ragged) -> np.ndarray:
        """(B, C) logits of rows of token ids."""
        if isinstance(self._model, Weights):
            return scoring.logits(self._model, rows)
        return self._model(rows)

    def open(self) -> StreamingDocument:
        """An empty document that text is appended to, and that can be classified at any time.

        Raises:
            ValueError: what the classifier reads of a word depends on what follows: a rival, a
                tokenizer of the `tokenizers` library, or max_tokens.
        """
        if not isinstance(self._model, Weights):
            raise ValueError(f"open: not for mixer={self.config.mixer!r}, which reads texts whole")
        if not isinstance(self.tokenizer, WordTokenizer):
            raise ValueError("open: not for a tokenizer that was given, which reads texts whole")
        if self.config.max_tokens is not None:
            raise ValueError(f"open: not with max_tokens={self.config.max_tokens}")
        return StreamingDocument(self._model, self.tokenizer, self.answers)


def encode(tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int | None) -> Ragged:
    """What a classifier reads of each text; None: all of it."""
    rows = tokenizer.encode(texts)
    return rows if max_tokens is None else rows.truncate(max_tokens)


def load_predictor(folder: str | Path) -> Predictor:
    """What predicts with the classifier that `save_pretrained` wrote, or with one of the Hugging
    Face hub. Only a rival of aggregation needs PyTorch for it.

    Raises:
        ValueError: as `TextClassifier.from_pretrained`.
    """
    saved = model_folder.read(folder)
    if saved.config.mixer != "aggregation":
        from hyperagg.classifier.estimator import TextClassifier

        return TextClassifier.from_pretrained(folder).predictor
    found, _ = saved.weights()
    embedding, positions, weight, bias = (found[name] for name in model_folder.TABLES)
    weights = Weights(embedding, positions, weight, bias, saved.config.pooling == "harmonic")
    return Predictor(saved.config, saved.tokenizer, saved.answers, weights)
