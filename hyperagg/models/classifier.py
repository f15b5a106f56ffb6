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
from hyperagg.positions import BlockPositions, position_blocks

__all__ = ["AggregationMixer", "Classifier", "Mixer"]


class Mixer(Protocol):
    """Pools the tokens of ragged rows into one vector a row."""

    def __call__(self, embedding: Tensor, token_ids: Tensor, cu_seqlens: Tensor) -> Tensor: ...


class AggregationMixer(nn.Module):
    """context = n^-1/2 sum_t e_t * p_t, with a position vector for each block of doubling length.

    Args:
        d_model: D.

    Cost: O(n D); no (B, N, D) tensor is made.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.positions = BlockPositions(d_model)

    def forward(
        self,
        embedding: Float[Tensor, "V D"],
        token_ids: Int[Tensor, " T"],
        cu_seqlens: Int[Tensor, " borders"],
    ) -> Float[Tensor, "B D"]:
        """(B, D) from the embedding (V, D), ids (T,) and borders (B + 1,)."""
        longest = int(cu_seqlens.diff().max()) if len(cu_seqlens) > 1 else 0
        table = self.positions.weight
        return ops.aggregate_tokens(
            token_ids,
            embedding,
            table,
            cu_seqlens=cu_seqlens,
            position_ids=position_blocks(longest, len(table)),
            normalize="sqrt",
        )


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
