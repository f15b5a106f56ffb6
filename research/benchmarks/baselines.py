"""Other implementations of the same causal sums, each at its best."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["CHUNKS", "attention", "chunked", "cumsum", "masked_product"]

CHUNKS = (32, 64, 128)


def cumsum(x: Tensor, p: Tensor) -> Tensor:
    """Compute the sums by torch.cumsum."""
    return (x * p).cumsum(1)


def chunked(x: Tensor, p: Tensor, size: int) -> Tensor:
    """Compute a triangular product per chunk, and add the sums of the chunks before it."""
    batch, n, d = x.shape
    v = (x * p).view(batch, n // size, size, d)
    before = v.sum(2).cumsum(1)
    before = F.pad(before[:, :-1], (0, 0, 1, 0))
    triangle = torch.ones(size, size, dtype=x.dtype, device=x.device).tril()
    return (triangle @ v + before[:, :, None]).view(batch, n, d)


def masked_product(x: Tensor, p: Tensor) -> Tensor:
    """Compute the causal form of Ekin (2025): an (N, N) mask times the products."""
    n = x.shape[1]
    mask = torch.ones(n, n, dtype=x.dtype, device=x.device).tril()
    return torch.einsum("ij,bjd->bid", mask, x * p)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute causal fused attention."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)
