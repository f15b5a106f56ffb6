"""What the answers of classifiers of texts and of tables have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hyperagg._common.calibration import sigmoid, softmax
from hyperagg._common.label_decoder import LabelDecoder
from hyperagg.serve.errors import RequestError

__all__ = ["check_number_of_scores", "choose_labels", "describe_model", "rank"]

# An answer of so many scores is about 10 MB.
_MAX_SCORES = 250_000
# Below this number of classes, sorting a list is faster than NumPy's overhead.
_FEW_CLASSES = 64

_FUNCTIONS = {"sigmoid": sigmoid, "softmax": softmax, "none": lambda logits: logits}


def describe_model(
    source: str, decoder: LabelDecoder, fingerprint: str | None = None
) -> dict[str, Any]:
    """Return the fields of `/info` that Text Embeddings Inference has."""
    names = [str(label) for label in decoder.classes]
    return {
        "model_id": source,
        "model_sha": fingerprint,
        "model_dtype": "float32",
        "model_type": {
            "classifier": {
                "id2label": {str(c): name for c, name in enumerate(names)},
                "label2id": {name: c for c, name in enumerate(names)},
            }
        },
    }


def check_number_of_scores(rows: int, decoder: LabelDecoder, top_k: int | None) -> None:
    """Check, before anything is computed, that the answer is not too large.

    Raises:
        RequestError: it is.
    """
    per_row = min(top_k or len(decoder.classes), len(decoder.classes))
    if rows * per_row > _MAX_SCORES:
        most = _MAX_SCORES // rows
        raise RequestError(
            413,
            f"the answer would have {rows * per_row} scores: expected at most {_MAX_SCORES}; pass "
            f"top_k of at most {most}",
            param="top_k",
        )


def rank(
    decoder: LabelDecoder, logits: np.ndarray, top_k: int | None, function: str | None = None
) -> list[list[dict[str, Any]]]:
    """Return the labels of each row with their scores, the highest score first.

    Args:
        decoder: the labels, and the function that makes probabilities of logits.
        logits: (B, C).
        top_k: the number of labels per row (default: all).
        function: "sigmoid", "softmax" or "none" (default: that of the decoder).

    Returns:
        For each row a list of {"label", "score"}.
    """
    scores = (decoder.probabilities if function is None else _FUNCTIONS[function])(logits)
    names = [str(label) for label in decoder.classes]
    if len(names) <= _FEW_CLASSES:
        answers = []
        for row in scores.tolist():
            # Stable, so that equal scores keep the order of the classes.
            ranked = sorted(zip(row, names), key=_first, reverse=True)[:top_k]
            answers.append([{"label": name, "score": score} for score, name in ranked])
        return answers
    columns = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
    ranked_scores = np.take_along_axis(scores, columns, 1)
    return [
        [{"label": names[c], "score": score} for c, score in zip(own, values)]
        for own, values in zip(columns.tolist(), ranked_scores.tolist())
    ]


def choose_labels(
    decoder: LabelDecoder, logits: np.ndarray, labels: Sequence[str] | None, top_k: int | None
) -> list[int]:
    """Return the columns of the labels to explain, the highest logit first.

    Args:
        decoder: the labels.
        logits: (C,).
        labels: the wanted ones (default: all).
        top_k: the number of them.

    Raises:
        RequestError: a label is not one of the model.
    """
    names = [str(label) for label in decoder.classes]
    wanted = range(len(names))
    if labels is not None:
        column = {name: c for c, name in enumerate(names)}
        for label in labels:
            if label not in column:
                listed = ", ".join(map(repr, names[:20])) + (", ..." if len(names) > 20 else "")
                raise RequestError(
                    422, f"labels: {label!r} is not valid: expected {listed}", param="labels"
                )
        wanted = sorted({column[label] for label in labels})  # type: ignore[assignment]
    return sorted(wanted, key=lambda c: -float(logits[c]))[:top_k]


def _first(pair: tuple[float, str]) -> float:
    return pair[0]
