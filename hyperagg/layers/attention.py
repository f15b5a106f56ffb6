"""Multi-head self-attention, the baseline that aggregation is compared with."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from hyperagg.layers._validation import check_tokens

__all__ = ["SelfAttention"]


class SelfAttention(nn.Module):
    """Apply bidirectional multi-head attention to all tokens of a row.

    y = W_o concat_h softmax(Q_h K_h^T / sqrt(D / H)) V_h

    Args:
        d_model: D, an integer >= 1.
        num_heads: H, a divisor of D.

    Raises:
        ValueError: if `num_heads` does not divide `d_model`.

    Numerics: PyTorch's fused scaled dot-product attention.
    Cost: O(n^2 D + n D^2) time; 4 D^2 parameters.
    Source: Vaswani et al. 2017, "Attention is all you need".

    Example:
        >>> import torch
        >>> SelfAttention(d_model=8, num_heads=2)(torch.randn(1, 5, 8)).shape
        torch.Size([1, 5, 8])
    """

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        if num_heads < 1 or d_model % num_heads:
            raise ValueError(f"num_heads={num_heads}: must divide d_model={d_model}")
        self.num_heads = num_heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(
        self, x: Float[Tensor, "B N D"], mask: Bool[Tensor, "B N"] | None = None
    ) -> Float[Tensor, "B N D"]:
        """Mix the tokens of each row.

        Args:
            x: (B, N, D).
            mask: (B, N), true for a token and false for padding, which is not attended to. None:
                every position holds a token.

        Returns:
            (B, N, D).

        Raises:
            ValueError: if x has the wrong shape.
        """
        check_tokens("x", x, self.qkv.in_features)
        batch, n, d = x.shape
        q, k, v = self.qkv(x).view(batch, n, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        attended = None if mask is None else mask[:, None, None, :]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=attended)
        return self.out(y.transpose(1, 2).reshape(batch, n, d))
