"""The rivals: attention and a transformer block, in the classifier's skeleton.

Both use PyTorch's fused attention with the padding masked, add sinusoidal positions to the token
vectors and pool by the mean over a row's own tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from hyperagg.layers.attention import SelfAttention
from hyperagg.layers.positions import SinusoidalPositions

__all__ = ["AttentionMixer", "TransformerMixer"]


class _PaddedMixer(nn.Module):
    """Pads ragged rows, embeds them with positions, and pools what `mix` makes of them."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.d_model = d_model

    def forward(
        self,
        embedding: Float[Tensor, "V D"],
        token_ids: Int[Tensor, " T"],
        cu_seqlens: Int[Tensor, " borders"],
    ) -> Float[Tensor, "B D"]:
        lengths = cu_seqlens.diff()
        n = max(1, int(lengths.max())) if len(lengths) else 1
        kept = torch.arange(n) < lengths[:, None]
        ids = torch.zeros(len(lengths), n, dtype=torch.int64)
        ids[kept] = token_ids.long()
        x = F.embedding(ids, embedding, sparse=True)
        x = x + SinusoidalPositions(self.d_model, n, trainable=False)(n) * self.position_scale
        # A row of padding alone would give attention nothing to look at, hence NaN.
        seen = kept | (lengths == 0)[:, None]
        y = self.mix(x, seen)
        return (y * kept[..., None]).sum(1) / lengths.clamp(min=1)[:, None]

    # Embeddings start within 0.05, so positions of size one would drown them.
    position_scale = 0.05

    def mix(self, x: Tensor, kept: Tensor) -> Tensor:
        raise NotImplementedError


class AttentionMixer(_PaddedMixer):
    """One attention layer with a residual: x + attention(x), then the mean."""

    def __init__(self, d_model: int, heads: int = 4) -> None:
        super().__init__(d_model)
        self.attention = SelfAttention(d_model, heads)

    def mix(self, x: Tensor, kept: Tensor) -> Tensor:
        return x + self.attention(x, kept)


class TransformerMixer(_PaddedMixer):
    """One pre-norm transformer block (attention, feed-forward of 4 D), then the mean."""

    def __init__(self, d_model: int, heads: int = 4) -> None:
        super().__init__(d_model)
        self.attention_norm = nn.LayerNorm(d_model)
        self.attention = SelfAttention(d_model, heads)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(d_model),
            nn.Linear(d_model, 4 * d_model),
            nn.GELU(),
            nn.Linear(4 * d_model, d_model),
        )
        self.final_norm = nn.LayerNorm(d_model)

    def mix(self, x: Tensor, kept: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x), kept)
        return self.final_norm(x + self.feed_forward(x))
