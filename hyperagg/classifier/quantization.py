"""Makes a classifier small: fewer tokens, and 8-bit integers for the embedding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hyperagg.classifier.model import ClassifierModel
from hyperagg.text import WordTokenizer

__all__ = ["INT8", "SCALES", "most_important_tokens", "pack", "prune", "round_to_int8", "unpack"]

# The names of the tensors that a quantized embedding is saved as.
INT8, SCALES = "embedding.int8", "embedding.scales"


def most_important_tokens(
    model: ClassifierModel, token_counts: np.ndarray, max_tokens: int
) -> np.ndarray:
    """Return row 0, "[UNK]", and the `max_tokens` most important rows of the embedding, ascending.

    The importance of row v is count_v sum_c <W_c - mean W, e_v>^2: the square of what the token
    adds to the logits, over all its occurrences in training.
    """
    logits = model.embedding @ (model.weight - model.weight.mean(0)).T
    importance = np.square(logits).sum(1) * token_counts
    importance[0] = np.inf
    return np.sort(np.argsort(-importance, kind="stable")[: max_tokens + 1])


def prune(
    model: ClassifierModel, tokenizer: WordTokenizer, token_counts: np.ndarray, max_tokens: int
) -> tuple[ClassifierModel, WordTokenizer]:
    """Return a model and a tokenizer of the `max_tokens` most important tokens and "[UNK]"."""
    kept = most_important_tokens(model, token_counts, max_tokens)
    return replace(model, embedding=model.embedding[kept]), tokenizer.subset(kept.tolist())


def round_to_int8(rows: np.ndarray) -> np.ndarray:
    """Round each row of (V, D) in place to integer multiples of its scale.

    Returns:
        (V,) float32, the scales: the greatest absolute value of each row divided by 127.
    """
    scales = np.maximum(np.abs(rows).max(1), np.float32(1e-30)) / np.float32(127)
    np.divide(rows, scales[:, None], out=rows)
    np.rint(rows, out=rows)
    rows *= scales[:, None]
    return scales


def pack(rows: np.ndarray, scales: np.ndarray) -> dict[str, np.ndarray]:
    """Return rows that are integer multiples of their scales as 8-bit integers and scales."""
    return {INT8: np.rint(rows / scales[:, None]).astype(np.int8), SCALES: scales}


def unpack(integers: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Return the float32 rows that `pack` got."""
    return integers * scales[:, None]
