"""The state of an aggregation, and where the tokens of each sequence are in a batch."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hyperagg.ops.masks import Documents, Mask

__all__ = ["Padding", "Rows", "State", "find_rows"]

Padding = Literal["right", "left"]


class State(NamedTuple):
    """Hold what an aggregation needs of earlier tokens to continue after them.

    A state is a result of `aggregate` and `associative` with `return_state=True` and of the steps
    of both, and the argument `initial_state` of the next call. R is the number of sequences: B, or
    the documents of a packed sequence.

    Args:
        sums: (R, D) the sum of each sequence, not normalized, in float32 or better (int64 for
            fixed-point sums). For a window of w tokens (R, w - 1, D): the terms x_t * p_t of the
            newest tokens, zeros where there were fewer. For `associative` (R, H, K, E).
        num_tokens: (R,) int64, the number of tokens so far.
    """

    sums: Tensor
    num_tokens: Tensor


class Rows(NamedTuple):
    """Where each sequence is in x.flatten(0, 1): (R,) int64 first tokens and lengths."""

    starts: Tensor
    lengths: Tensor


def find_rows(mask: Mask | Tensor, x: Tensor, lengths: Tensor | None, padding: Padding) -> Rows:
    """Return the sequences of x (B, N, ...): the documents of the mask, or one per batch entry."""
    batch, n = x.shape[:2]
    if isinstance(mask, Documents):
        return Rows(mask.cu_seqlens[:-1], mask.cu_seqlens.diff())
    starts = torch.arange(batch, device=x.device) * n
    if lengths is None:
        return Rows(starts, torch.full((batch,), n, device=x.device))
    lengths = lengths.to(x.device, torch.int64)
    return Rows(starts + (n - lengths) if padding == "left" else starts, lengths)
