"""The interface of a modality: token vectors bound to position vectors, and their sum."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from hyperagg import ops
from hyperagg.layers import BidirectionalAggregation
from hyperagg.layers.positions import LearnedPositions

__all__ = ["Block", "Modality", "Tokens", "random_positions"]


class Tokens(NamedTuple):
    """Token vectors of R rows and their position vectors.

    Args:
        vectors: (R, N, D) e_t.
        positions: (N, D) p_t, or (R, N, D) if rows have their own; None: all ones.
        lengths: (R,) number of tokens of each row, the rest is padding; None: N everywhere.
        weights: (R, N) weight of each token in the sum; None: 1 / sqrt(n) for a row of n tokens.
    """

    vectors: Float[Tensor, "R N D"]
    positions: Float[Tensor, "N D"] | Float[Tensor, "R N D"] | None = None
    lengths: Int[Tensor, " R"] | None = None
    weights: Float[Tensor, "R N"] | None = None

    def terms(self) -> Float[Tensor, "R N D"]:
        """(R, N, D) terms of the sums; the values at padding are undefined."""
        terms = self.vectors if self.positions is None else self.vectors * self.positions
        if self.weights is not None:
            return terms * self.weights[..., None]
        n = terms.shape[1]
        if self.lengths is None:
            return terms / n**0.5
        return terms / self.lengths.clamp(min=1).sqrt()[:, None, None]


class Modality(nn.Module):
    """Maps the values of one modality to one vector per row: s sum_t e_t * p_t.

    A subclass implements `tokens`. The scale s is 1 / sqrt(n) for n tokens unless the tokens have
    weights of their own. It is known before the sum, so the sum stays linear in the tokens, and an
    image of many patches has the same magnitude as a single number.
    """

    def tokens(self, *values: Any) -> Tokens:
        """Return the tokens of R rows."""
        raise NotImplementedError

    def forward(self, *values: Any) -> Float[Tensor, "R D"]:
        """Return the weighted sum of each row's tokens.

        Args:
            values: what `tokens` takes.

        Returns:
            (R, D).

        Cost: O(n d) after the tokens.
        """
        tokens = self.tokens(*values)
        if tokens.weights is not None:
            return tokens.terms().sum(1)
        x, p = tokens.vectors, tokens.positions
        if p is not None and p.ndim == 3:
            x, p = x * p, None
        return ops.aggregate(x, p, lengths=tokens.lengths, normalize="sqrt")[:, 0]


class Block(nn.Module):
    """A residual block of bidirectional aggregation and a feed-forward layer.

    x += mixer(RMSNorm(x)); x += W_2 GELU(W_1 RMSNorm(x))

    Args:
        d_model: dimension D of the tokens.
        hidden_dim: width of the feed-forward layer; None: 4 D.
        form: of the mixer, see `BidirectionalAggregation`.

    Cost: O(n d^2).

    >>> import torch
    >>> Block(8)(torch.zeros(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(self, d_model: int, hidden_dim: int | None = None, form: str = "gated") -> None:
        super().__init__()
        hidden_dim = hidden_dim or 4 * d_model
        self.mixer_norm = nn.RMSNorm(d_model)
        self.mixer = BidirectionalAggregation(d_model, form)
        self.norm = nn.RMSNorm(d_model)
        self.up = nn.Linear(d_model, hidden_dim, bias=False)
        self.down = nn.Linear(hidden_dim, d_model, bias=False)

    def forward(
        self, x: Float[Tensor, "R N D"], lengths: Int[Tensor, " R"] | None = None
    ) -> Float[Tensor, "R N D"]:
        """Return the mixed tokens.

        Args:
            x: (R, N, D) tokens.
            lengths: (R,) number of tokens of each row, the rest is padding; None: N everywhere.

        Returns:
            (R, N, D); the values at padding are undefined.
        """
        x = x + self.mixer(self.mixer_norm(x), lengths)
        return x + self.down(F.gelu(self.up(self.norm(x))))


def random_positions(d_model: int, num_positions: int) -> LearnedPositions:
    """Position vectors that are drawn from N(1, 1).

    Position vectors that start near one make a bag of patches, and an epoch passes before the model
    uses where a patch lies.
    """
    return LearnedPositions(d_model, num_positions, init_stddev=1.0)
