"""Encodes a classifier as data of a page, which `scoring.js` reads."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import numpy as np

from hyperagg.classifier import Predictor
from hyperagg.classifier.quantization import INT8, SCALES, pack, round_to_int8
from hyperagg.text import WordTokenizer, characters, normalization

__all__ = ["check_exportable", "describe", "encode_parameters"]

_UNASSIGNED = 6  # in place of the class, which is that of a mark


def check_exportable(predictor: Predictor) -> WordTokenizer:
    """Return the tokenizer of a classifier that a page can hold.

    Raises:
        ValueError: it has hierarchical softmax or another tokenizer than the built-in one.
    """
    predictor.model.refuse_tree("a page")
    if not isinstance(predictor.tokenizer, WordTokenizer):
        raise ValueError(
            f"the classifier has a {type(predictor.tokenizer).__name__}: expected one with the "
            "built-in tokenizer, which a page can run"
        )
    return predictor.tokenizer


def describe(predictor: Predictor) -> dict[str, Any]:
    """Return what a page needs besides the parameters, as JSON values."""
    tokenizer, decoder = check_exportable(predictor), predictor.decoder
    return {
        "classes": [str(label) for label in decoder.classes],
        "multi_label": decoder.multi_label,
        "threshold": decoder.threshold if decoder.multi_label else None,
        "d_model": predictor.model.embedding.shape[1],
        "vocab_size": len(tokenizer),
        "features": tokenizer.features,
        "pooling": predictor.model.pooling,
        "max_tokens": predictor.max_tokens,
        "unicode": {
            "runs": _runs(),
            "formatting": normalization.FORMATTING,
            "folded": normalization.FOLDED,
        },
    }


def encode_parameters(predictor: Predictor) -> str:
    """Return the parameters in base64: compressed, the embedding rounded to 8-bit integers.

    In this order: positions, weight, bias and the scales of the embedding's rows as little-endian
    float32, the embedding as int8, and the vocabulary as a list in JSON.
    """
    model, tokenizer = predictor.model, check_exportable(predictor)
    embedding = model.embedding.copy()
    packed = pack(embedding, round_to_int8(embedding))
    floats = (model.positions, model.weight, model.bias, packed[SCALES])
    vocabulary = json.dumps(tokenizer.vocabulary, ensure_ascii=False, separators=(",", ":"))
    parts = [np.ascontiguousarray(array, dtype="<f4").tobytes() for array in floats]
    parts += [packed[INT8].tobytes(), vocabulary.encode("utf-8", "replace")]
    return base64.b64encode(gzip.compress(b"".join(parts), mtime=0)).decode()


def _runs() -> str:
    """The classes of all code points as runs of equal ones, each in base 36."""
    classes = characters.classes()
    classes[characters.unassigned()] = _UNASSIGNED
    begins = np.flatnonzero(np.diff(classes, prepend=255))
    lengths = np.diff(begins, append=len(classes))
    return " ".join(np.base_repr(n, 36) for n in (lengths * 7 + classes[begins]).tolist())
