"""Rows of tokens, however they were handed over, and what a row leaves to the next one."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hyperagg.ops.masks import Documents, Mask

__all__ = ["Padding", "Rows", "State", "find_rows"]

Padding = Literal["right", "left"]


class State(NamedTuple):
    """What a sum needs to know of the tokens before, to go on as if it had never stopped.

    Args:
        sums: (R, D) the sum so far of each of R rows, not normalised, in float32 or better
            (int64 for fixed-point sums). For a window of w tokens (R, w - 1, D), the products
            x_t * p_t of the newest tokens, zeros where there were none.
        num_tokens: (R,) int64, tokens seen so far.
    """

    sums: Tensor
    num_tokens: Tensor


class Rows(NamedTuple):
    """Where the tokens of each row stand in x.flatten(0, 1): (R,) int64 each."""

    starts: Tensor
    lengths: Tensor


def find_rows(mask: Mask | Tensor, x: Tensor, lengths: Tensor | None, padding: Padding) -> Rows:
    """The rows of x (B, N, D): documents where the mask has them, else one a batch entry."""
    batch, n, _ = x.shape
    if isinstance(mask, Documents):
        return Rows(mask.cu_seqlens[:-1], mask.cu_seqlens.diff())
    starts = torch.arange(batch, device=x.device) * n
    if lengths is None:
        return Rows(starts, torch.full((batch,), n, device=x.device))
    lengths = lengths.to(x.device, torch.int64)
    return Rows(starts + (n - lengths) if padding == "left" else starts, lengths)
