"""Pooling of ragged token rows by aggregation."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hyperagg import ops
from hyperagg.layers.positions import BlockPositions, position_blocks

__all__ = ["PooledAggregation", "occurrence_weights"]

NUM_BLOCKS = 16


class PooledAggregation(nn.Module):
    """Pool each row of tokens into one vector, with block positions and occurrence weights.

    context = sum_t w_t e_t * p_t / |w|

    Args:
        d_model: D, an integer >= 1.
        pooling: "harmonic" (default): the c-th occurrence of a token in its row weighs 1/c, and
            |w| = sqrt(sum_t w_t^2). "mean": all weights are 1, and |w| is the number of tokens.

    Raises:
        ValueError: if `pooling` is unknown or `d_model` is below 1.

    Numerics: sums in float32 or better.
    Cost: O(n D), and a sort of the token ids with "harmonic". No (B, N, D) tensor is built.

    Example:
        >>> pool = PooledAggregation(d_model=8)
        >>> token_ids, cu_seqlens = torch.tensor([3, 1, 3, 0]), torch.tensor([0, 3, 4])
        >>> pool(torch.randn(5, 8), token_ids, cu_seqlens).shape
        torch.Size([2, 8])
    """

    def __init__(self, d_model: int, pooling: Literal["harmonic", "mean"] = "harmonic") -> None:
        super().__init__()
        if pooling not in ("harmonic", "mean"):
            raise ValueError(f"pooling={pooling!r}: expected one of harmonic, mean")
        self.positions = BlockPositions(d_model, NUM_BLOCKS)
        self.pooling = pooling

    def forward(
        self,
        embedding: Float[Tensor, "V D"],
        token_ids: Int[Tensor, " T"],
        cu_seqlens: Int[Tensor, " borders"],
    ) -> Float[Tensor, "B D"]:
        """Pool B rows that are stored end to end.

        Args:
            embedding: (V, D).
            token_ids: (T,) ids of all rows.
            cu_seqlens: (B + 1,) offsets of the rows in `token_ids`, from 0 to T.

        Returns:
            (B, D), one vector per row; zero for an empty row.

        Raises:
            ValueError: if the embedding has the wrong shape.
        """
        d_model = self.positions.weight.shape[1]
        if embedding.ndim != 2 or embedding.shape[1] != d_model:
            raise ValueError(
                f"embedding: shape {tuple(embedding.shape)}; expected (V, D) with "
                f"D = d_model = {d_model}"
            )
        lengths = cu_seqlens.diff()
        longest = int(lengths.max()) if len(lengths) else 0
        table = self.positions.weight
        if self.pooling == "mean":
            weights, norms = None, lengths.clamp(min=1).to(embedding.dtype)
        else:
            rows = torch.repeat_interleave(lengths)
            weights = occurrence_weights(token_ids, rows, len(embedding)).to(embedding.dtype)
            squares = embedding.new_zeros(len(lengths))
            norms = squares.index_add_(0, rows, weights.square()).clamp(min=1).sqrt()
        context = ops.aggregate_tokens(
            token_ids,
            embedding,
            table,
            cu_seqlens=cu_seqlens,
            position_ids=position_blocks(longest, len(table)).to(token_ids.device),
            weights=weights,
        )
        return context / norms[:, None]


def occurrence_weights(token_ids: Tensor, rows: Tensor, vocab_size: int) -> Tensor:
    """Weigh the c-th occurrence of a token in its row by 1/c.

    Args:
        token_ids: (T,) integers in [0, vocab_size).
        rows: (T,) the row index of each token.
        vocab_size: V.

    Returns:
        (T,) float32.

    Cost: O(T log T), a stable sort.

    Example:
        >>> occurrence_weights(torch.tensor([7, 2, 7, 7]), torch.tensor([0, 0, 0, 1]), 10)
        tensor([1.0000, 1.0000, 0.5000, 1.0000])
    """
    keys = rows * vocab_size + token_ids
    order = keys.argsort(stable=True)
    _, counts = keys[order].unique_consecutive(return_counts=True)
    first = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    weights = torch.empty(len(keys), device=keys.device)
    weights[order] = 1 / (torch.arange(1, len(keys) + 1, device=keys.device) - first)
    return weights
