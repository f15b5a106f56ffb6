"""What the cells of a table hold: words, numbers, categories."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hyperagg.layers.pooling import PooledAggregation, occurrence_weights
from hyperagg.layers.positions import position_blocks
from hyperagg.multimodal.modalities.base import Modality, Tokens

__all__ = ["Category", "Number", "Words"]


class Words(Modality):
    """Words and grams, as the text classifier has them.

    s_t = w_t / |w|: the c-th use of a word counts w = 1/c; p_t are shared by blocks of places of
    doubling length.

    Args:
        d_model: D.
        vocabulary: V.

    Cost: O(n d); the gradient of the embedding is row-sparse.
    """

    def __init__(self, d_model: int, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(vocabulary, d_model).uniform_(-0.05, 0.05))
        self.mixer = PooledAggregation(d_model)

    def forward(
        self, token_ids: Int[Tensor, " T"], cu_seqlens: Int[Tensor, " borders"]
    ) -> Float[Tensor, "R D"]:
        """(R, D) of ids (T,) of rows end to end, with borders (R + 1,)."""
        return self.mixer(self.embedding, token_ids, cu_seqlens)

    def tokens(self, token_ids: Int[Tensor, " T"], cu_seqlens: Int[Tensor, " borders"]) -> Tokens:
        """The same as padded tokens, for explanations and rivals."""
        lengths = cu_seqlens.diff()
        n = max(1, int(lengths.max()))
        kept = torch.arange(n, device=lengths.device) < lengths[:, None]
        ids = token_ids.new_zeros(kept.shape, dtype=torch.int64)
        ids[kept] = token_ids.long()
        rows = torch.repeat_interleave(lengths)
        weights = torch.zeros(kept.shape, dtype=self.embedding.dtype, device=lengths.device)
        weights[kept] = occurrence_weights(token_ids, rows, len(self.embedding)).to(weights.dtype)
        weights = weights / weights.square().sum(1, keepdim=True).clamp(min=1).sqrt()
        table = self.mixer.positions.weight
        places = table[position_blocks(n, len(table)).to(table.device)]
        vectors = nn.functional.embedding(ids, self.embedding, sparse=True)
        return Tokens(vectors, places, lengths, weights)


class Number(Modality):
    """One token for a number: a straight line between learned values at the knots.

    e = b + sum_k clamp((x - knot_k) / (knot_{k+1} - knot_k), 0, 1) w_k

    Args:
        d_model: D.
        knots: at least two rising numbers, such as quantiles of the training rows; beyond the
            outermost the number counts as these.

    Source: piecewise-linear encodings, Gorishniy et al. 2022, "On embeddings for numerical features
        in tabular deep learning".
    """

    knots: Tensor

    def __init__(self, d_model: int, knots: list[float]) -> None:
        super().__init__()
        self.linear = nn.Linear(len(knots) - 1, d_model)
        self.register_buffer("knots", torch.tensor(knots, dtype=torch.float64), persistent=False)

    def tokens(self, numbers: Float[Tensor, " R"]) -> Tokens:
        """Of numbers (R,)."""
        low, high = self.knots[:-1], self.knots[1:]
        share = ((numbers.double()[:, None] - low) / (high - low)).clamp(0, 1)
        return Tokens(self.linear(share.to(self.linear.weight.dtype))[:, None])


class Category(Modality):
    """One token, a free vector for each of the categories.

    Args:
        d_model: D.
        categories: how many.
    """

    def __init__(self, d_model: int, categories: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(categories, d_model)
        nn.init.normal_(self.embedding.weight, 0.0, d_model**-0.5)

    def tokens(self, ids: Int[Tensor, " R"]) -> Tokens:
        """Of category ids (R,)."""
        return Tokens(self.embedding(ids)[:, None])
