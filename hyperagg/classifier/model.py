"""A classifier of token sequences: embedding, a mixer that pools, a linear head.

    logits  =  W mixer(e_1 ... e_n) + b

The skeleton is the same for aggregation and for its rivals in `hyperagg.classifier.baselines.attention`; only
the mixer differs, so that a comparison compares mixers.
"""

from __future__ import annotations

from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

__all__ = ["Classifier", "Mixer"]


class Mixer(Protocol):
    """Pools the tokens of ragged rows into one vector a row."""

    def __call__(self, embedding: Tensor, token_ids: Tensor, cu_seqlens: Tensor) -> Tensor: ...


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
