"""What each token of a text adds to each class's logit.

Aggregation's logits are a sum over tokens,

    z_c  =  b_c + sum_t w_t / |w| <W_c, e_t * p_t>

so every token has an exact part in them. Of any other mixer the first-order account is given,
<dz_c / de_t, e_t>, which need not add up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from hyperagg._common.label_decoder import LabelDecoder
from hyperagg.classifier.model import Classifier
from hyperagg.classifier.training.labels import Label
from hyperagg.layers.pooling import PooledAggregation
from hyperagg.layers.positions import position_blocks
from hyperagg.text import Alignment, Ragged, occurrence_weights

__all__ = ["Explanation", "by_word", "explain", "top_features"]

_PLACES = 64


@dataclass(frozen=True)
class Explanation:
    """A text's tokens, which are its words, and what they add to the logits.

    Attributes:
        text: what was classified.
        spans: first and last character + 1 of each token in it.
        tokens: the tokens as they stand there.
        answers: what the columns stand for.
        contributions: (T, C) float64.
        bias: (C,).
        logits: (C,) as the classifier computes them.
        exact: whether bias + contributions.sum(0) is logits but for rounding.
    """

    text: str
    spans: list[tuple[int, int]]
    answers: LabelDecoder
    contributions: np.ndarray
    bias: np.ndarray
    logits: np.ndarray
    exact: bool

    @property
    def tokens(self) -> list[str]:
        return [self.text[begin:end] for begin, end in self.spans]

    @property
    def classes(self) -> list[Label]:
        """The labels, in the order of the columns."""
        return list(self.answers.classes)

    @property
    def label(self) -> Label:
        """The most probable label."""
        return self.classes[int(self.logits.argmax())]

    @property
    def probabilities(self) -> np.ndarray:
        return self.answers.probabilities(self.logits.astype(np.float64))

    def of(self, label: Label) -> np.ndarray:
        """(T,) what each token adds to one class's logit.

        Raises:
            ValueError: no such class.
        """
        if label not in self.classes:
            raise ValueError(
                f"label {label!r}: the classes are {', '.join(map(str, self.classes))}"
            )
        return self.contributions[:, self.classes.index(label)]


def explain(
    model: Classifier,
    token_ids: np.ndarray,
    text: str,
    alignment: Alignment,
    answers: LabelDecoder,
    logits: np.ndarray,
) -> Explanation:
    """The Explanation of one row of token ids; what words share, each has half of."""
    exact = isinstance(model.mixer, PooledAggregation)
    of_ids = (_exact_parts if exact else _first_order_parts)(model, token_ids)
    parts = by_word(of_ids, alignment)
    spans = alignment.spans[: len(parts)]
    bias = model.head.bias.detach().double().numpy()
    return Explanation(text, spans, answers, parts, bias, logits, exact)


def by_word(of_ids: np.ndarray, alignment: Alignment) -> np.ndarray:
    """(words, C) from what each token id has, (T, C); what two words share, each has half of."""
    owners = alignment.owners[: len(of_ids)]  # a rival may have read no more
    parts = np.zeros((int(owners.max(initial=-1)) + 1, of_ids.shape[1]))
    for side in (0, 1):
        np.add.at(parts, owners[:, side], of_ids / 2)
    return parts


def top_features(model: Classifier, ids: np.ndarray, number: int) -> np.ndarray:
    """(C, number) of `ids` those that speak most for each class, the strongest first."""
    if not isinstance(model.mixer, PooledAggregation):
        raise ValueError("top_features: only aggregation's logits are a sum over tokens")
    with torch.no_grad():
        vectors = model.embedding[torch.from_numpy(ids)].double()
        place = model.mixer.positions(_PLACES).double().mean(0)
        parts = (vectors * place) @ model.head.weight.double().T
        parts -= parts.mean(1, keepdim=True)
        best = parts.topk(min(number, len(vectors)), dim=0).indices.T
    return ids[best.numpy()]


def _exact_parts(model: Classifier, token_ids: np.ndarray) -> np.ndarray:
    assert isinstance(model.mixer, PooledAggregation)
    n = len(token_ids)
    with torch.no_grad():
        positions = model.mixer.positions.weight.double()
        vectors = model.embedding[torch.from_numpy(token_ids).long()].double()
        vectors = vectors * positions[position_blocks(n, len(positions))]
        parts = (vectors @ model.head.weight.double().T).numpy()
    if model.mixer.pooling == "mean":
        return parts / max(n, 1)
    weights = occurrence_weights(Ragged(token_ids, np.array([0, n])), len(model.embedding))
    weights = weights.astype(np.float64)
    return parts * weights[:, None] / max(1.0, np.square(weights).sum()) ** 0.5


def _first_order_parts(model: Classifier, token_ids: np.ndarray) -> np.ndarray:
    """The token vectors become an embedding of their own, whose gradient is asked for."""
    n = len(token_ids)
    ids = torch.arange(n)
    vectors = model.embedding.detach()[torch.from_numpy(token_ids).long()].requires_grad_()
    context = model.mixer(vectors, ids, torch.tensor([0, n]))
    logits = model.head(context)[0]
    parts = np.zeros((n, len(logits)))
    for c in range(len(logits) if n else 0):
        (gradient,) = torch.autograd.grad(logits[c], vectors, retain_graph=True)
        dense = gradient.to_dense() if gradient.is_sparse else gradient
        parts[:, c] = (dense * vectors.detach()).sum(1).double().numpy()
    return parts
