"""The standard error of a mean loss per token, of tokens that depend on each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

__all__ = ["StandardError", "Unit", "standard_error"]

Unit = Literal["documents", "blocks"]

# A standard error of fewer units is too uncertain: with 16 its own is 18 % of it.
_MIN_UNITS = 16
_NUM_BLOCKS = 32


@dataclass(frozen=True)
class StandardError:
    """Hold the standard error of a mean loss.

    Args:
        value: the standard error in nats per token.
        num_units: the number of documents or blocks that it was computed from.
        unit: "documents", or "blocks" of consecutive tokens.
    """

    value: float
    num_units: int
    unit: Unit


def standard_error(losses: Sequence[np.ndarray]) -> StandardError | None:
    """Compute the standard error of the mean loss per token from the losses of documents.

    The tokens of a document depend on each other, so the documents are the independent units. Their
    lengths differ, so the mean is a ratio of two sums, L = Σ s_g / Σ n_g with the loss s_g and the
    n_g tokens of document g, whose standard error is, by linearization (Cochran 1977, chapter 6),

        sqrt( G / (G - 1) Σ (s_g - L n_g)² ) / Σ n_g

    If there are fewer than 16 documents, or a few have most of the tokens, so that (Σ n_g)² is less
    than 16 Σ n_g², the units are 32 blocks of consecutive tokens instead, nearly equal in length.
    Blocks show how much the mean would differ on other parts of the same texts, not on other texts.

    Args:
        losses: the losses of each document's tokens, in their order.

    Returns:
        A `StandardError`, or None if there are fewer than 16 tokens.

    Numerics: float64. Cost: O(tokens).

    Example:
        >>> standard_error([np.array([1.0, 3.0]), np.array([2.0])] * 16)
        StandardError(value=0.0, num_units=32, unit='documents')
    """
    lengths = np.array([len(each) for each in losses], dtype=np.float64)
    if lengths.sum() < _MIN_UNITS:
        return None
    unit: Unit = "documents"
    if lengths.sum() ** 2 < _MIN_UNITS * (lengths**2).sum():
        unit = "blocks"
        tokens = np.concatenate(losses)
        losses = np.array_split(tokens, min(_NUM_BLOCKS, len(tokens)))
        lengths = np.array([len(each) for each in losses], dtype=np.float64)
    used = int((lengths > 0).sum())
    sums = np.array([each.sum(dtype=np.float64) for each in losses])
    deviations = sums - sums.sum() / lengths.sum() * lengths
    value = np.sqrt(used / (used - 1) * (deviations**2).sum()) / lengths.sum()
    return StandardError(float(value), used, unit)
