"""The tokenizer of a classifier that was exported as an ONNX graph. It needs neither onnx nor
PyTorch."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping

import numpy as np

from hyperagg._common.label_decoder import Label
from hyperagg.classifier.interop.fasttext_tokenizer import KIND, FastTextTokenizer
from hyperagg.classifier.training.labels import check_label, check_texts
from hyperagg.text import HubTokenizer, Tokenizer, read_tokenizer, register_tokenizer

__all__ = ["OnnxTokenizer", "tokenizer_metadata"]

_TEXT, _DIGEST = "tokenizer", "tokenizer_sha256"

register_tokenizer(KIND, FastTextTokenizer.from_json)  # a model of fastText can be exported too


class OnnxTokenizer:
    """Maps texts to the inputs of a graph that `TextClassifier.export_onnx` wrote.

    The graph contains its tokenizer, so that it cannot be given the ids of another one.

    Args:
        metadata: the metadata of the graph, which is
            `session.get_modelmeta().custom_metadata_map` in onnxruntime.

    Attributes:
        tokenizer: maps texts to token ids.
        classes: the labels, in the order of the columns of the graph's outputs.
        multi_label: whether a text may have any number of labels instead of exactly one.
        threshold: if so, the probability above which it has a label.

    Raises:
        ValueError: the metadata are not those of such a graph, or the tokenizer was changed.
        ImportError: the `tokenizers` library is required and not installed.

    Cost: reading the vocabulary; then that of `tokenizer.encode`.

    Example:
        >>> import onnxruntime
        >>> from hyperagg import TextClassifier
        >>> clf = TextClassifier().fit(["good film", "bad film"] * 20, ["yes", "no"] * 20)
        >>> clf.export_onnx("model.onnx")
        >>> session = onnxruntime.InferenceSession("model.onnx")
        >>> tokenizer = OnnxTokenizer(session.get_modelmeta().custom_metadata_map)
        >>> logits, probabilities = session.run(None, tokenizer(["a good one"]))
        >>> tokenizer.classes[probabilities[0].argmax()]
        'yes'
    """

    def __init__(self, metadata: Mapping[str, str]) -> None:
        for name in ("classes", "multi_label", "threshold", _TEXT, _DIGEST):
            if not isinstance(metadata.get(name), str):
                raise ValueError(
                    f"metadata: {name!r} is missing; expected those of a classifier that this "
                    "version of hyperagg exported"
                )
        text = metadata[_TEXT]
        if _digest(text) != metadata[_DIGEST]:
            raise ValueError(f"metadata: {_TEXT!r} was changed after the export; export again")
        self.tokenizer: Tokenizer = read_tokenizer(text)
        self.classes: list[Label] = _classes(metadata["classes"])
        self.multi_label = metadata["multi_label"] == "true"
        self.threshold = _threshold(metadata["threshold"])

    def __call__(self, texts: str | Iterable[str]) -> dict[str, np.ndarray]:
        """Return the inputs for some texts, or for a single one.

        Returns:
            {"token_ids": (T,) int32, the ids of all texts end to end; "cu_seqlens": (B + 1,) int64,
            their boundaries}.

        Raises:
            TypeError: a text is not a str.
        """
        if isinstance(texts, str):
            texts = [texts]
        rows = self.tokenizer.encode(check_texts(texts, "texts", "a str or a list of str"))
        return {"token_ids": rows.token_ids, "cu_seqlens": rows.cu_seqlens}


def tokenizer_metadata(tokenizer: Tokenizer) -> dict[str, str]:
    """Return the metadata that `OnnxTokenizer` reads besides the labels.

    Of a tokenizer of the `tokenizers` library the part that adds special tokens is left out, since
    the ids of a classifier have none: the library gives the ids of `tokenizer.encode` by default.
    """
    text = tokenizer.to_json()
    if isinstance(tokenizer, HubTokenizer):
        text = json.dumps(json.loads(text) | {"post_processor": None}, ensure_ascii=False)
    return {_TEXT: text, _DIGEST: _digest(text)}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _classes(text: str) -> list[Label]:
    try:
        classes = json.loads(text)
    except (ValueError, RecursionError):
        classes = None
    if not isinstance(classes, list):
        raise ValueError("metadata: 'classes': expected a JSON list of labels")
    return [check_label(label, f"classes[{i}]") for i, label in enumerate(classes)]


def _threshold(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise ValueError("metadata: 'threshold': expected a number from 0 to 1")
    return value
