"""Mixers of the neural baselines: one attention layer, and one transformer block.

Both use PyTorch's fused attention with padding masked, add sinusoidal positions to the token
vectors, and pool by the mean over the tokens of a document.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hyperagg.layers.attention import SelfAttention
from hyperagg.layers.positions import SinusoidalPositions

__all__ = ["NUM_HEADS", "AttentionMixer", "PaddedMixer", "TransformerMixer"]

NUM_HEADS = 4


class PaddedMixer(nn.Module):
    """Pads ragged rows, embeds them with positions, and pools the result of `mix`."""

    # Embeddings are initialized within 0.05, so positions of unit size would dominate them.
    position_scale = 0.05

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.d_model = d_model

    def forward(self, embedding: Tensor, token_ids: Tensor, cu_seqlens: Tensor) -> Tensor:
        """Pool the rows token_ids[cu_seqlens[b] : cu_seqlens[b + 1]] of the embedding (V, D).

        Returns:
            (B, D) one vector per row.
        """
        lengths = cu_seqlens.diff()
        n = max(1, int(lengths.max())) if len(lengths) else 1
        mask = torch.arange(n) < lengths[:, None]
        ids = torch.zeros(len(lengths), n, dtype=torch.int64)
        ids[mask] = token_ids.long()
        x = F.embedding(ids, embedding, sparse=True)
        x = x + SinusoidalPositions(self.d_model, n, trainable=False)(n) * self.position_scale
        # Attention over a row of padding only would be NaN.
        y = self.mix(x, mask | (lengths == 0)[:, None])
        return (y * mask[..., None]).sum(1) / lengths.clamp(min=1)[:, None]

    def mix(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map x (B, N, D) to (B, N, D); mask (B, N) is False at padding."""
        raise NotImplementedError


class AttentionMixer(PaddedMixer):
    """One attention layer with a residual connection, x + attention(x)."""

    def __init__(self, d_model: int, num_heads: int = NUM_HEADS) -> None:
        super().__init__(d_model)
        self.attention = SelfAttention(d_model, num_heads)

    def mix(self, x: Tensor, mask: Tensor) -> Tensor:
        return x + self.attention(x, mask)


class TransformerMixer(PaddedMixer):
    """One pre-norm transformer block: attention, then a feed-forward layer of width 4 D."""

    def __init__(self, d_model: int, num_heads: int = NUM_HEADS) -> None:
        super().__init__(d_model)
        self.attention_norm = nn.LayerNorm(d_model)
        self.attention = SelfAttention(d_model, num_heads)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(d_model),
            nn.Linear(d_model, 4 * d_model),
            nn.GELU(),
            nn.Linear(4 * d_model, d_model),
        )
        self.final_norm = nn.LayerNorm(d_model)

    def mix(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x), mask)
        return self.final_norm(x + self.feed_forward(x))
