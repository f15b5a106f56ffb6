"""What all modalities have in common: tokens at places, whose products are summed."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from hyperagg import ops
from hyperagg.layers import BidirectionalAggregation
from hyperagg.layers.positions import LearnedPositions

__all__ = ["Block", "Modality", "Tokens", "spread_positions"]


class Tokens(NamedTuple):
    """Token vectors of R rows and where they stand.

    Args:
        vectors: (R, N, D) e_t.
        places: (N, D) p_t, or (R, N, D) where rows have places of their own; None: all one.
        lengths: (R,) tokens of each row, the rest is padding; None: all N.
        weights: (R, N) what each token counts in the sum; None: 1 / sqrt(n), n tokens a row.
    """

    vectors: Float[Tensor, "R N D"]
    places: Float[Tensor, "N D"] | Float[Tensor, "R N D"] | None = None
    lengths: Int[Tensor, " R"] | None = None
    weights: Float[Tensor, "R N"] | None = None

    def addends(self) -> Float[Tensor, "R N D"]:
        """(R, N, D) what the sums are made of; of padding it means nothing."""
        terms = self.vectors if self.places is None else self.vectors * self.places
        if self.weights is not None:
            return terms * self.weights[..., None]
        n = terms.shape[1]
        if self.lengths is None:
            return terms / n**0.5
        return terms / self.lengths.clamp(min=1).sqrt()[:, None, None]


class Modality(nn.Module):
    """A kind of thing that a row may have, as tokens: s sum_t e_t * p_t.

    A subclass says what the tokens are; s is 1 / sqrt(n) unless they have weights of their own, so
    that the sum is linear in the tokens, and a picture of many patches is no louder than a number.
    """

    def tokens(self, *values: Any) -> Tokens:
        raise NotImplementedError

    def forward(self, *values: Any) -> Float[Tensor, "R D"]:
        """(R, D): the sum of each row's tokens. Cost: O(n d) after the tokens."""
        tokens = self.tokens(*values)
        if tokens.weights is not None:
            return tokens.addends().sum(1)
        x, p = tokens.vectors, tokens.places
        if p is not None and p.ndim == 3:
            x, p = x * p, None
        return ops.aggregate(x, p, lengths=tokens.lengths, normalize="sqrt")[:, 0]


class Block(nn.Module):
    """x += mixer(RMSNorm(x)); x += W_2 GELU(W_1 RMSNorm(x)): the language model's, both ways.

    Args:
        d_model: D.
        width: of the feed-forward layer; None: 4 D.
        form: of `BidirectionalAggregation`.
    """

    def __init__(self, d_model: int, width: int | None = None, form: str = "gated") -> None:
        super().__init__()
        self.mixer_norm = nn.RMSNorm(d_model)
        self.mixer = BidirectionalAggregation(d_model, form)
        self.norm = nn.RMSNorm(d_model)
        self.up = nn.Linear(d_model, width or 4 * d_model, bias=False)
        self.down = nn.Linear(width or 4 * d_model, d_model, bias=False)

    def forward(
        self, x: Float[Tensor, "R N D"], lengths: Int[Tensor, " R"] | None = None
    ) -> Float[Tensor, "R N D"]:
        """(R, N, D); what stands past `lengths` (R,) is padding. Cost: O(n d^2)."""
        x = x + self.mixer(self.mixer_norm(x), lengths)
        return x + self.down(F.gelu(self.up(self.norm(x))))


def spread_positions(d_model: int, places: int) -> LearnedPositions:
    """p_t ~ N(1, 1): where a patch stands counts from the first step. Positions that all start near
    one make a bag of patches, and take an epoch to learn to be anything else."""
    return LearnedPositions(d_model, places, init_stddev=1.0)
