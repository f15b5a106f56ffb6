"""Predicts the labels of texts with trained parameters.

This is the part of a classifier that serves. It does not import the modules that train, so that a
process which only predicts starts quickly.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hyperagg._common.label_decoder import Label, LabelDecoder
from hyperagg.classifier import serialization
from hyperagg.classifier.kernels import scoring
from hyperagg.classifier.model import ClassifierModel
from hyperagg.classifier.streaming import StreamingDocument
from hyperagg.classifier.training.labels import check_texts
from hyperagg.text import Ragged, Tokenizer, WordTokenizer, scan

__all__ = ["Predictor", "encode", "load_predictor"]


class Predictor:
    """Predicts the labels of texts; any number of threads may use it at the same time.

    Args:
        model: the parameters.
        tokenizer: converts texts to rows of token ids.
        decoder: converts logits to labels.
        max_tokens: the number of tokens of a text that are read (default: all of them).

    Numerics: float32, sums over tokens in float64. Cost: O(n D + C D) per text of n tokens.
    """

    def __init__(
        self,
        model: ClassifierModel,
        tokenizer: Tokenizer,
        decoder: LabelDecoder,
        max_tokens: int | None = None,
    ) -> None:
        self.model, self.tokenizer, self.decoder = model, tokenizer, decoder
        self.max_tokens = max_tokens

    @property
    def classes_(self) -> list[Label]:
        """The labels, in the order of the columns of `predict_proba`."""
        return list(self.decoder.classes)

    @property
    def multi_label_(self) -> bool:
        """Whether a text may have any number of labels instead of exactly one."""
        return self.decoder.multi_label

    def predict(
        self,
        X: str | Iterable[str],
        top_k: int | None = None,
        threshold: float | None = None,
    ) -> Any:
        """Return the predicted label of each text; see `TextClassifier.predict`."""
        if isinstance(X, str):
            return self.decoder.labels(self.logits([X]), top_k, threshold)[0]
        return self.decoder.labels(self.logits(X), top_k, threshold)

    def predict_proba(self, X: str | Iterable[str]) -> np.ndarray:
        """Return the probabilities (B, C), columns as in `classes_`; (C,) for a single string."""
        return self.decoder.probabilities(self.logits(X))

    def logits(self, X: str | Iterable[str]) -> np.ndarray:
        """Return the logits (B, C) float32, columns as in `classes_`; (C,) for a single string."""
        if isinstance(X, str):
            return self.logits([X])[0]
        texts, tokenizer = check_texts(X), self.tokenizer
        if len(texts) == 1 and isinstance(tokenizer, WordTokenizer) and self.max_tokens is None:
            data = scan.text_to_bytes(texts[0])
            parameters = self.model.kernel_arguments
            return scoring.logits_of_text(parameters, data, tokenizer.table, tokenizer.has_ngrams)
        return self.model.logits(encode(tokenizer, texts, self.max_tokens))

    def stream(self) -> StreamingDocument:
        """Return an empty document; see `TextClassifier.stream`."""
        if not isinstance(self.tokenizer, WordTokenizer):
            raise ValueError(
                f"stream: expected the built-in tokenizer, got {type(self.tokenizer).__name__}, "
                "which reads texts whole"
            )
        if self.max_tokens is not None:
            raise ValueError(f"stream: not available with max_tokens={self.max_tokens}")
        return StreamingDocument(self.model.kernel_arguments, self.tokenizer, self.decoder)


def encode(tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int | None) -> Ragged:
    """Return the token ids of the texts, the first `max_tokens` of each unless it is None."""
    rows = tokenizer.encode(texts)
    return rows if max_tokens is None else rows.truncate(max_tokens)


def load_predictor(
    folder: str | Path, *, revision: str | None = None, token: str | bool | None = None
) -> Predictor:
    """Load the part of a saved classifier that predicts.

    Args:
        folder: a folder that `TextClassifier.save_pretrained` wrote, or a repository id
            "owner/name" of the Hugging Face Hub.
        revision: the branch, tag or commit of the repository.
        token: the access token for a private repository.

    Raises:
        ValueError: as `TextClassifier.from_pretrained`.
    """
    saved = serialization.read(folder, revision=revision, token=token)
    model, _ = saved.model()
    return Predictor(model, saved.tokenizer, saved.decoder, saved.config.max_tokens)
