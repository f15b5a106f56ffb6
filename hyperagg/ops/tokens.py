"""Pooled sums straight from token ids."""

from __future__ import annotations

import torch
from torch import Tensor

from hyperagg.ops import registration
from hyperagg.ops._validation import POWERS, Normalize, check_lengths

__all__ = ["aggregate_tokens"]


def aggregate_tokens(
    token_ids: Tensor,
    embedding: Tensor,
    p: Tensor | None = None,
    *,
    lengths: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    position_ids: Tensor | None = None,
    weights: Tensor | None = None,
    normalize: Normalize = "none",
) -> Tensor:
    """Pool rows of an embedding straight from token ids; no (B, N, D) tensor is ever made.

    c_b = sum_t w_bt embedding[token_ids_bt] * p_t / n_b^a     t from 0 to n_b - 1

    Args:
        token_ids: (B, N) ids with `lengths`, or (T,) ids of rows end to end with `cu_seqlens`;
            int32 or int64.
        embedding: (V, D) float32 or float64.
        p: (P, D) position vectors or None. P must reach the longest row, unless position_ids
            says which vector a place has.
        lengths: (B,) tokens of each row of a padded batch; None: all N.
        cu_seqlens: (B + 1,) borders of ragged rows: 0, n_1, n_1 + n_2, ...
        position_ids: (N',) row of p for each place, N' at least the longest row.
        weights: of the shape of token_ids and the type of the embedding, or None: all 1. They
            have no gradient.
        normalize: divide by 1, the root of n_b, or n_b.

    Returns:
        (B, D). A row without tokens gives zeros.

    Raises:
        ValueError: an id outside the embedding, borders that do not fit, too few positions,
            weights of another shape or type, or that ask for a gradient.

    Numerics: sums in the type of the embedding, in order of t, by one thread an output: the same
        bits for any number of threads.
    Cost: O(T d) time; the gradient of the embedding is row-sparse (a coalesced COO tensor), O(T d).
    """
    if normalize not in POWERS:
        raise ValueError(f"normalize={normalize!r}: there are {', '.join(POWERS)}")
    starts, counts = _rows(token_ids, lengths, cu_seqlens)
    flat = token_ids.reshape(-1)
    _check_tokens(flat, embedding, p, counts, position_ids)
    if weights is not None:
        _check_weights(weights, token_ids, embedding)
        weights = weights.reshape(-1).contiguous()
    return registration.aggregate_tokens(
        flat.contiguous(),
        embedding.contiguous(),
        starts,
        counts,
        None if p is None else p.contiguous(),
        None if position_ids is None else position_ids.long(),
        weights,
        POWERS[normalize],
    )


def _rows(
    token_ids: Tensor, lengths: Tensor | None, cu_seqlens: Tensor | None
) -> tuple[Tensor, Tensor]:
    if cu_seqlens is not None:
        if token_ids.ndim != 1 or lengths is not None:
            raise ValueError("cu_seqlens: goes with token_ids of shape (T,) and without lengths")
        borders = cu_seqlens.long()
        counts = borders.diff()
        fits = len(borders) > 0 and borders[0] == 0 and borders[-1] == len(token_ids)
        if not fits or bool((counts < 0).any()):
            raise ValueError(
                f"cu_seqlens: borders rise from 0 to the {len(token_ids)} tokens there are"
            )
        return borders[:-1].contiguous(), counts
    if token_ids.ndim != 2:
        raise ValueError(
            f"token_ids: shape {tuple(token_ids.shape)}; give (B, N), or (T,) with cu_seqlens"
        )
    batch, n = token_ids.shape
    counts = torch.full((batch,), n) if lengths is None else lengths.long()
    check_lengths(counts, batch, n)
    return torch.arange(batch) * n, counts


def _check_weights(weights: Tensor, token_ids: Tensor, embedding: Tensor) -> None:
    if weights.shape != token_ids.shape or weights.dtype != embedding.dtype:
        raise ValueError(
            f"weights: shape {tuple(weights.shape)}, {weights.dtype}; give one for each of "
            f"token_ids, {tuple(token_ids.shape)}, {embedding.dtype}"
        )
    if weights.requires_grad:
        raise ValueError("weights: have no gradient here; give weights.detach()")


def _check_tokens(
    token_ids: Tensor,
    embedding: Tensor,
    p: Tensor | None,
    lengths: Tensor,
    position_ids: Tensor | None,
) -> None:
    if token_ids.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"token_ids: type {token_ids.dtype}; give int32 or int64")
    if embedding.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"embedding: type {embedding.dtype}; give float32 or float64")
    if embedding.device.type != "cpu":
        raise ValueError(f"embedding: on {embedding.device}; this op has a CPU kernel only")
    if len(token_ids):
        low, high = token_ids.aminmax()
        if low < 0 or high >= len(embedding):
            raise ValueError(
                f"token_ids: from {int(low)} to {int(high)}, but the embedding has rows "
                f"0 to {len(embedding) - 1}"
            )
    if p is None:
        return
    if p.ndim != 2 or p.shape[1] != embedding.shape[1] or p.dtype != embedding.dtype:
        raise ValueError(
            f"p: shape {tuple(p.shape)}, {p.dtype}; give (P, {embedding.shape[1]}), "
            f"{embedding.dtype}, as the embedding"
        )
    longest = int(lengths.max()) if len(lengths) else 0
    reach = len(p) if position_ids is None else len(position_ids)
    if reach < longest:
        name = "p" if position_ids is None else "position_ids"
        raise ValueError(f"{name}: reaches {reach} places, but the longest row has {longest}")
