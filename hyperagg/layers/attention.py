"""Multi-head self-attention, which sums of bound vectors are compared with."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

__all__ = ["SelfAttention"]


class SelfAttention(nn.Module):
    """Multi-head attention over all tokens of a row, fused, padding masked.

    Args:
        d_model: D, shared out among the heads.
        heads: how many; must divide D.

    Cost: O(n^2 D + n D^2).
    """

    def __init__(self, d_model: int, heads: int) -> None:
        super().__init__()
        if d_model % heads:
            raise ValueError(f"heads={heads}: must divide d_model={d_model}")
        self.heads = heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(
        self, x: Float[Tensor, "B N D"], kept: Bool[Tensor, "B N"] | None = None
    ) -> Float[Tensor, "B N D"]:
        """(B, N, D) from x (B, N, D) and kept (B, N), true where a token is no padding; None: all
        are none."""
        batch, n, d = x.shape
        q, k, v = self.qkv(x).view(batch, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mask = None if kept is None else kept[:, None, None, :]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(y.transpose(1, 2).reshape(batch, n, d))
