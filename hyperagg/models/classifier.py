"""A classifier of token sequences: embedding, a mixer that pools, a linear head.

    logits  =  W mixer(e_1 ... e_n) + b

The skeleton is the same for aggregation and for its rivals in `hyperagg.models.attention`; only
the mixer differs, so that a comparison compares mixers.
"""

from __future__ import annotations

from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hyperagg import ops
from hyperagg.models.pooling import BLOCKS, Pooling
from hyperagg.positions import BlockPositions, position_blocks

__all__ = ["AggregationMixer", "Classifier", "Mixer", "use_weights"]


class Mixer(Protocol):
    """Pools the tokens of ragged rows into one vector a row."""

    def __call__(self, embedding: Tensor, token_ids: Tensor, cu_seqlens: Tensor) -> Tensor: ...


class AggregationMixer(nn.Module):
    """context = sum_t w_t e_t * p_t / |w|, a position vector for each block of doubling length.

    Args:
        d_model: D.
        pooling: "damped": the c-th use of a token in its row has the weight 1/c, and |w| is
            sqrt(sum_t w_t^2); or "mean": all weights are 1, and |w| is their number.

    Cost: O(n D), and a sort of the ids if damped; no (B, N, D) tensor is made.
    """

    def __init__(self, d_model: int, pooling: Pooling = "damped") -> None:
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
            weights = use_weights(token_ids, rows, len(embedding)).to(embedding.dtype)
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


def use_weights(token_ids: Tensor, rows: Tensor, vocabulary: int) -> Tensor:
    """(T,) 1/c for the c-th use of an id in its row; `rows` (T,) tells the row of each id."""
    keys = rows * vocabulary + token_ids
    order = keys.argsort(stable=True)
    _, uses = keys[order].unique_consecutive(return_counts=True)
    firsts = torch.repeat_interleave(uses.cumsum(0) - uses, uses)
    weights = torch.empty(len(keys))
    weights[order] = 1 / (torch.arange(1, len(keys) + 1) - firsts)
    return weights


class Classifier(nn.Module):
    """Ragged rows of token ids to logits.

    Args:
        vocabulary: V, the rows of the embedding.
        classes: C.
        d_model: D.
        mixer: what pools a row's vectors into one.
    """

    def __init__(self, vocabulary: int, classes: int, d_model: int, mixer: nn.Module) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(vocabulary, d_model).uniform_(-0.05, 0.05))
        self.mixer = mixer
        self.head = nn.Linear(d_model, classes)

    def forward(
        self, token_ids: Int[Tensor, " T"], cu_seqlens: Int[Tensor, " borders"]
    ) -> Float[Tensor, "B C"]:
        """(B, C) logits of the rows token_ids[cu_seqlens[b] : cu_seqlens[b + 1]]."""
        return self.head(self.mixer(self.embedding, token_ids, cu_seqlens))

    def count_parameters(self) -> dict[str, int]:
        """Trainable parameters in all, and those outside the embedding."""
        total = sum(p.numel() for p in self.parameters() if p.requires_grad)
        return {"parameters": total, "without_embedding": total - self.embedding.numel()}
