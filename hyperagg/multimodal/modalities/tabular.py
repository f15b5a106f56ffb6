"""Tokens of the cells of a table: words, numbers and categories."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hyperagg.layers.pooling import PooledAggregation, occurrence_weights
from hyperagg.layers.positions import position_blocks
from hyperagg.multimodal.modalities.base import Modality, Tokens

__all__ = ["Category", "Number", "Words"]


class Words(Modality):
    """Embeds words and n-grams with the weights and positions of the text classifier.

    s_t = w_t / |w|,  w_t = 1/c for the c-th occurrence of a word

    Blocks of positions of doubling length share a vector p_t.

    Args:
        d_model: dimension D of the tokens.
        vocab_size: number of words and n-grams, V.

    Cost: O(n d); the gradient of the embedding is row-sparse.

    >>> Words(8, 20)(torch.tensor([1, 2, 3]), torch.tensor([0, 1, 3])).shape
    torch.Size([2, 8])
    """

    def __init__(self, d_model: int, vocab_size: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(vocab_size, d_model).uniform_(-0.05, 0.05))
        self.mixer = PooledAggregation(d_model)

    def forward(
        self, token_ids: Int[Tensor, " T"], cu_seqlens: Int[Tensor, " borders"]
    ) -> Float[Tensor, "R D"]:
        """Return the weighted sum of each row's tokens without padding them.

        Args:
            token_ids: (T,) ids of all rows, concatenated.
            cu_seqlens: (R + 1,) offsets of the rows in `token_ids`.

        Returns:
            (R, D).
        """
        return self.mixer(self.embedding, token_ids, cu_seqlens)

    def tokens(self, token_ids: Int[Tensor, " T"], cu_seqlens: Int[Tensor, " borders"]) -> Tokens:
        """Return the same tokens padded, for explanations and the fusion by attention."""
        lengths = cu_seqlens.diff()
        n = max(1, int(lengths.max()))
        valid = torch.arange(n, device=lengths.device) < lengths[:, None]
        ids = token_ids.new_zeros(valid.shape, dtype=torch.int64)
        ids[valid] = token_ids.long()
        rows = torch.repeat_interleave(lengths)
        weights = torch.zeros(valid.shape, dtype=self.embedding.dtype, device=lengths.device)
        weights[valid] = occurrence_weights(token_ids, rows, len(self.embedding)).to(weights.dtype)
        weights = weights / weights.square().sum(1, keepdim=True).clamp(min=1).sqrt()
        table = self.mixer.positions.weight
        positions = table[position_blocks(n, len(table)).to(table.device)]
        vectors = nn.functional.embedding(ids, self.embedding, sparse=True)
        return Tokens(vectors, positions, lengths, weights)


class Number(Modality):
    """Maps a number to one token by linear interpolation between learned values at the knots.

    e = b + sum_k clamp((x - knot_k) / (knot_{k+1} - knot_k), 0, 1) w_k

    Args:
        d_model: dimension D of the token.
        knots: at least two increasing numbers, such as quantiles of the training rows; numbers
            beyond the outermost knots are clipped to them.

    Source: piecewise-linear encodings, Gorishniy et al. 2022, "On embeddings for numerical features
        in tabular deep learning".

    >>> Number(8, [0.0, 1.0, 10.0])(torch.tensor([0.5, 3.0])).shape
    torch.Size([2, 8])
    """

    knots: Tensor

    def __init__(self, d_model: int, knots: list[float]) -> None:
        super().__init__()
        self.linear = nn.Linear(len(knots) - 1, d_model)
        self.register_buffer("knots", torch.tensor(knots, dtype=torch.float64), persistent=False)

    def tokens(self, numbers: Float[Tensor, " R"]) -> Tokens:
        """Return one token per number.

        Args:
            numbers: (R,).
        """
        low, high = self.knots[:-1], self.knots[1:]
        fraction = ((numbers.double()[:, None] - low) / (high - low)).clamp(0, 1)
        return Tokens(self.linear(fraction.to(self.linear.weight.dtype))[:, None])


class Category(Modality):
    """Embeds a category as one token.

    Args:
        d_model: dimension D of the token.
        num_categories: number of categories.

    >>> Category(8, 3)(torch.tensor([0, 2])).shape
    torch.Size([2, 8])
    """

    def __init__(self, d_model: int, num_categories: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_categories, d_model)
        nn.init.normal_(self.embedding.weight, 0.0, d_model**-0.5)

    def tokens(self, ids: Int[Tensor, " R"]) -> Tokens:
        """Return one token per category id.

        Args:
            ids: (R,).
        """
        return Tokens(self.embedding(ids)[:, None])
