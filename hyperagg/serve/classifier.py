"""A text classifier that is served."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from hyperagg.classifier import Predictor, load_predictor

__all__ = ["ServedClassifier"]


class ServedClassifier:
    """A text classifier that is served; `load_models` makes it.

    A request takes `predictor` once and uses nothing else, so a model that replaces it never mixes
    with it.

    Args:
        source: the folder or the repository id that the user gave.
        name: its name in paths.
        folder: where the model is.
        threads: the number of threads that a call may use.
    """

    kind: Literal["classifier"] = "classifier"

    def __init__(self, source: str, name: str, folder: Path, *, threads: int | None = None) -> None:
        self.source, self.name, self.folder, self.threads = source, name, folder, threads
        self.predictor: Predictor = _load(folder, threads)

    def warm_up(self) -> None:
        """Compile, or load from the cache, every kernel that requests use."""
        predictor = self.predictor
        text = "A text of a few words, read twice. "
        predictor.logits([text])
        predictor.logits([text] * 3)
        if self.can_stream:
            predictor.stream().append(text).append(text).logits()

    @property
    def can_stream(self) -> bool:
        """Whether a text may arrive in pieces."""
        try:
            self.predictor.stream()
        except ValueError:
            return False
        return True

    def info(self) -> dict[str, Any]:
        """Return the fields of Text Embeddings Inference, and what is particular to this model."""
        predictor = self.predictor
        names = [str(label) for label in predictor.classes_]
        return {
            "model_id": self.source,
            "model_sha": predictor.fingerprint,
            "model_dtype": str(np.dtype(np.float32)),
            "model_type": {
                "classifier": {
                    "id2label": {str(c): name for c, name in enumerate(names)},
                    "label2id": {name: c for c, name in enumerate(names)},
                }
            },
            "kind": self.kind,
            "multi_label": predictor.multi_label_,
            "threshold": predictor.decoder.threshold if predictor.multi_label_ else None,
            "streaming": self.can_stream,
        }


def _load(folder: Path, threads: int | None) -> Predictor:
    try:
        return load_predictor(folder, mmap=True, threads=threads)
    except ValueError:  # a quantized embedding cannot be mapped; any other reason comes again
        return load_predictor(folder, threads=threads)
