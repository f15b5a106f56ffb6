"""Pooling of ragged rows of tokens by aggregation."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hyperagg import ops
from hyperagg.layers.positions import BlockPositions, position_blocks

__all__ = ["PooledAggregation", "occurrence_weights"]

BLOCKS = 16


class PooledAggregation(nn.Module):
    """context = sum_t w_t e_t * p_t / |w|, a position vector for each block of doubling length.

    Args:
        d_model: D.
        pooling: "harmonic": the c-th use of a token in its row has the weight 1/c, and |w| is
            sqrt(sum_t w_t^2); or "mean": all weights are 1, and |w| is their number.

    Cost: O(n D), and a sort of the ids if harmonic; no (B, N, D) tensor is made.
    """

    def __init__(self, d_model: int, pooling: Literal["harmonic", "mean"] = "harmonic") -> None:
        super().__init__()
        self.positions = BlockPositions(d_model, BLOCKS)
        self.pooling = pooling

    def forward(
        self,
        embedding: Float[Tensor, "V D"],
        token_ids: Int[Tensor, " T"],
        cu_seqlens: Int[Tensor, " borders"],
    ) -> Float[Tensor, "B D"]:
        """(B, D) from the embedding (V, D), ids (T,) and borders (B + 1,)."""
        lengths = cu_seqlens.diff()
        longest = int(lengths.max()) if len(lengths) else 0
        table = self.positions.weight
        if self.pooling == "mean":
            weights, norms = None, lengths.clamp(min=1).to(embedding.dtype)
        else:
            rows = torch.repeat_interleave(lengths)
            weights = occurrence_weights(token_ids, rows, len(embedding)).to(embedding.dtype)
            squares = torch.zeros(len(lengths), dtype=embedding.dtype)
            norms = squares.index_add_(0, rows, weights.square()).clamp(min=1).sqrt()
        context = ops.aggregate_tokens(
            token_ids,
            embedding,
            table,
            cu_seqlens=cu_seqlens,
            position_ids=position_blocks(longest, len(table)),
            weights=weights,
        )
        return context / norms[:, None]


def occurrence_weights(token_ids: Tensor, rows: Tensor, vocabulary: int) -> Tensor:
    """(T,) 1/c for the c-th use of an id in its row; `rows` (T,) tells the row of each id."""
    keys = rows * vocabulary + token_ids
    order = keys.argsort(stable=True)
    _, uses = keys[order].unique_consecutive(return_counts=True)
    firsts = torch.repeat_interleave(uses.cumsum(0) - uses, uses)
    weights = torch.empty(len(keys))
    weights[order] = 1 / (torch.arange(1, len(keys) + 1) - firsts)
    return weights
