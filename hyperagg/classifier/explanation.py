"""Attributes the logits of a text to its words.

The logits of a classifier are a sum over tokens,

    z_c  =  b_c + sum_t w_t / |w| <W_c, e_t * p_t>

so every token has an exact contribution to each of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hyperagg._common.label_decoder import Label, LabelDecoder
from hyperagg.classifier.model import ClassifierModel
from hyperagg.classifier.pooling import position_blocks
from hyperagg.text import Alignment, Ragged, occurrence_weights

__all__ = ["Explanation", "explain", "top_features"]

_NUM_POSITIONS = 64  # over which the contribution of a token is averaged in `top_features`


@dataclass(frozen=True)
class Explanation:
    """The words of a text and their contributions to the logits.

    bias + contributions.sum(0) equals logits but for rounding.

    Attributes:
        text: the text that was classified.
        spans: the first character of each word in it and its last character + 1.
        decoder: gives the meaning of the columns.
        contributions: (T, C) float64. A token that stands for several words, such as a
            bigram, contributes equally to each.
        feature_spans: the same as `spans`, but of words and n-grams of words.
        feature_contributions: (F, C) float64, what each of these adds by itself.
        bias: (C,) float64.
        logits: (C,) float32, as the classifier computes them.
    """

    text: str
    spans: list[tuple[int, int]]
    decoder: LabelDecoder
    contributions: np.ndarray
    feature_spans: list[tuple[int, int]]
    feature_contributions: np.ndarray
    bias: np.ndarray
    logits: np.ndarray

    @property
    def tokens(self) -> list[str]:
        """The words as they stand in the text."""
        return [self.text[begin:end] for begin, end in self.spans]

    @property
    def classes_(self) -> list[Label]:
        """The labels, in the order of the columns."""
        return list(self.decoder.classes)

    @property
    def label(self) -> Label:
        """The most probable label."""
        return self.classes_[int(self.decoder.best(self.logits))]

    @property
    def probabilities(self) -> np.ndarray:
        """(C,) float64, the probability of every class."""
        return self.decoder.probabilities(self.logits.astype(np.float64))

    def for_label(self, label: Label) -> np.ndarray:
        """Return (T,) float64, the contribution of each word to the logit of one label.

        Raises:
            ValueError: the classifier does not have this label.
        """
        return self.contributions[:, self.column(label)]

    def column(self, label: Label) -> int:
        """Return the column of a label.

        Raises:
            ValueError: the classifier does not have this label.
        """
        if label not in self.classes_:
            expected = ", ".join(map(repr, self.classes_))
            raise ValueError(f"label={label!r}: expected one of {expected}")
        return self.classes_.index(label)


def explain(
    model: ClassifierModel,
    token_ids: np.ndarray,
    text: str,
    alignment: Alignment,
    decoder: LabelDecoder,
    logits: np.ndarray,
) -> Explanation:
    """Return the explanation of a text.

    Args:
        model: the parameters.
        token_ids: (T,) the tokens of the text that the classifier reads.
        text: the text.
        alignment: says which words the tokens stand for.
        decoder: gives the meaning of the columns.
        logits: (C,) of the text.

    Numerics: float64. Cost: O(T D C).
    """
    model.refuse_tree("explain")
    of_tokens = _token_contributions(model, token_ids)
    contributions = alignment.by_word(of_tokens)
    spans = alignment.spans[: len(contributions)]
    bias = model.bias.astype(np.float64)
    return Explanation(
        text, spans, decoder, contributions, *_by_feature(of_tokens, alignment), bias, logits
    )


def _by_feature(
    contributions: np.ndarray, alignment: Alignment
) -> tuple[list[tuple[int, int]], np.ndarray]:
    """Sum the contributions (T, C) of the tokens that stand for the same words."""
    owners = alignment.owners[: len(contributions)]
    pairs, feature_of = np.unique(owners, axis=0, return_inverse=True)
    sums = np.zeros((len(pairs), contributions.shape[1]))
    np.add.at(sums, feature_of.ravel(), contributions)
    spans = alignment.spans
    return [(spans[first][0], spans[last][1]) for first, last in pairs.tolist()], sums


def top_features(model: ClassifierModel, token_ids: np.ndarray, number: int) -> np.ndarray:
    """Return (C, number), those of `token_ids` that are most discriminative for each class, the
    strongest first.

    The score of a token for a class is its mean contribution at the first 64 positions, minus the
    mean of the same over all classes.
    """
    model.refuse_tree("top_features")
    vectors = model.embedding[token_ids].astype(np.float64)
    blocks = position_blocks(_NUM_POSITIONS, len(model.positions))
    positions = model.positions[blocks].astype(np.float64).mean(0)
    scores = (vectors * positions) @ model.weight.astype(np.float64).T
    scores -= scores.mean(1, keepdims=True)
    ranked = np.argsort(-scores, axis=0, kind="stable")[:number]
    return token_ids[ranked.T]


def _token_contributions(model: ClassifierModel, token_ids: np.ndarray) -> np.ndarray:
    n = len(token_ids)
    vectors = model.embedding[token_ids].astype(np.float64)
    vectors *= model.positions[position_blocks(n, len(model.positions))]
    contributions = vectors @ model.weight.astype(np.float64).T
    if model.pooling == "mean":
        return contributions / max(n, 1)
    weights = occurrence_weights(Ragged(token_ids, np.array([0, n])), len(model.embedding))
    weights = weights.astype(np.float64)
    return contributions * weights[:, None] / max(1.0, np.square(weights).sum()) ** 0.5
