"""Pooled sums directly from token ids."""

from __future__ import annotations

import numba
import torch
from torch import Tensor

from hyperagg.ops import plain, registration
from hyperagg.ops._validation import (
    NORM_EXPONENTS,
    Normalize,
    check_choice,
    check_lengths,
    check_tensors,
)
from hyperagg.ops.transforms import active_transform

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
    """Pool the embedding rows of token ids without making a (B, N, D) tensor.

    c_b = n_b^-e sum_t w_bt embedding[token_ids_bt] * p_t,   t = 0, ..., n_b - 1

    e is 0, 1/2 or 1 for normalize "none", "sqrt" or "mean".

    Args:
        token_ids: int32 or int64. (B, N) ids of padded sequences, with `lengths`, or (T,) ids of
            sequences end to end, with `cu_seqlens`.
        embedding: (V, D), float32 or float64, on the CPU.
        p: (P, D) position vectors in the type of the embedding, or None. P is at least the length
            of the longest sequence, unless `position_ids` selects the vectors.
        lengths: (B,) the number of tokens of each padded sequence; None means N.
        cu_seqlens: (B + 1,) cumulative lengths 0, n_1, n_1 + n_2, ..., T of packed sequences.
        position_ids: (N',) the row of p for each position, N' at least the longest sequence.
        weights: w, of the shape of `token_ids` and the type of the embedding, without a gradient;
            None means one.
        normalize: divide each sum by one ("none"), by the square root of the number of its tokens
            ("sqrt") or by that number ("mean").

    Returns:
        (B, D) in the type of the embedding. An empty sequence has zeros.

    Raises:
        ValueError, TypeError: an argument has the wrong shape, type or value; an id is outside the
            embedding; `cu_seqlens` do not fit `token_ids`; there are too few positions.

    Numerics: sums in the type of the embedding and in the order of t. One thread computes each
        output, so the bits do not depend on the number of threads.
    Cost: O(T d) time. The gradient of the embedding is a coalesced sparse tensor with the rows of
        the tokens: O(T d) as well, however large the vocabulary is. Forward-mode derivatives and
        the gradients of `torch.func` run in plain PyTorch, with memory for T d numbers.
    Source: the pooled form of Ekin (2025), core mechanics.

    >>> import torch
    >>> from hyperagg import ops
    >>> embedding = torch.tensor([[1.0], [10.0]])
    >>> token_ids, cu_seqlens = torch.tensor([0, 1, 1, 0]), torch.tensor([0, 3, 4])
    >>> ops.aggregate_tokens(token_ids, embedding, cu_seqlens=cu_seqlens).tolist()
    [[21.0], [1.0]]
    """
    check_choice("normalize", normalize, tuple(NORM_EXPONENTS))
    _check_tensors(
        {"token_ids": token_ids, "embedding": embedding},
        {"p": p, "cu_seqlens": cu_seqlens, "position_ids": position_ids, "weights": weights},
    )
    starts, counts = _find_rows(token_ids, lengths, cu_seqlens)
    flat_ids = token_ids.reshape(-1)
    _check_tokens(flat_ids, embedding, p, counts, position_ids)
    if weights is not None:
        _check_weights(weights, token_ids, embedding)
        weights = weights.reshape(-1).contiguous()
    is_plain = numba.config.DISABLE_JIT or active_transform()
    return (plain.aggregate_tokens if is_plain else registration.aggregate_tokens)(
        flat_ids.contiguous(),
        embedding.contiguous(),
        starts,
        counts,
        None if p is None else p.contiguous(),
        None if position_ids is None else position_ids.long(),
        weights,
        NORM_EXPONENTS[normalize],
    )


def _check_tensors(required: dict[str, object], optional: dict[str, object]) -> None:
    for name, value in check_tensors(required, optional).items():
        if name in ("cu_seqlens", "position_ids"):
            if value.dtype not in (torch.int32, torch.int64):
                raise TypeError(f"{name}: {value.dtype}; expected int32 or int64")
            if value.ndim != 1:
                raise ValueError(f"{name}: shape {tuple(value.shape)}; expected one dimension")


def _find_rows(
    token_ids: Tensor, lengths: Tensor | None, cu_seqlens: Tensor | None
) -> tuple[Tensor, Tensor]:
    """(B,) first tokens and lengths of the sequences."""
    if cu_seqlens is not None:
        if token_ids.ndim != 1:
            raise ValueError(
                f"token_ids: shape {tuple(token_ids.shape)}; expected (T,) with cu_seqlens"
            )
        if lengths is not None:
            raise ValueError("lengths: expected None with cu_seqlens")
        boundaries = cu_seqlens.long()
        counts = boundaries.diff()
        total = len(token_ids)
        valid = len(boundaries) > 0 and boundaries[0] == 0 and boundaries[-1] == total
        if not valid or bool((counts < 0).any()):
            raise ValueError(
                f"cu_seqlens: expected integers from 0 to {total}, the number of token_ids, that "
                "do not decrease"
            )
        return boundaries[:-1].contiguous(), counts
    if token_ids.ndim != 2:
        raise ValueError(
            f"token_ids: shape {tuple(token_ids.shape)}; expected (B, N), or (T,) with cu_seqlens"
        )
    batch, n = token_ids.shape
    if lengths is None:
        counts = torch.full((batch,), n)
    else:
        check_lengths(lengths, batch, n)
        counts = lengths.long()
    return torch.arange(batch) * n, counts


def _check_weights(weights: Tensor, token_ids: Tensor, embedding: Tensor) -> None:
    if weights.shape != token_ids.shape or weights.dtype != embedding.dtype:
        raise ValueError(
            f"weights: shape {tuple(weights.shape)}, {weights.dtype}; expected "
            f"{tuple(token_ids.shape)}, the shape of token_ids, and {embedding.dtype}"
        )
    if weights.requires_grad:
        raise ValueError("weights: a gradient is not supported; expected weights.detach()")


def _check_tokens(
    token_ids: Tensor,
    embedding: Tensor,
    p: Tensor | None,
    lengths: Tensor,
    position_ids: Tensor | None,
) -> None:
    if token_ids.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"token_ids: {token_ids.dtype}; expected int32 or int64")
    if embedding.ndim != 2:
        raise ValueError(f"embedding: shape {tuple(embedding.shape)}; expected (V, D)")
    if embedding.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"embedding: {embedding.dtype}; expected float32 or float64")
    if embedding.device.type != "cpu":
        raise ValueError(f"embedding: on {embedding.device}; expected cpu, the only device")
    if len(token_ids):
        low, high = token_ids.aminmax()
        if low < 0 or high >= len(embedding):
            raise ValueError(
                f"token_ids: from {int(low)} to {int(high)}; expected 0 to {len(embedding) - 1}, "
                "the rows of the embedding"
            )
    if p is None:
        if position_ids is not None:
            raise ValueError("position_ids: expected None without p")
        return
    if p.ndim != 2 or p.shape[1] != embedding.shape[1] or p.dtype != embedding.dtype:
        raise ValueError(
            f"p: shape {tuple(p.shape)}, {p.dtype}; expected (P, {embedding.shape[1]}), "
            f"{embedding.dtype}, as the embedding"
        )
    if position_ids is not None and len(position_ids):
        low, high = position_ids.aminmax()
        if low < 0 or high >= len(p):
            raise ValueError(
                f"position_ids: from {int(low)} to {int(high)}; expected 0 to {len(p) - 1}, the "
                "rows of p"
            )
    longest = int(lengths.max()) if len(lengths) else 0
    num_positions = len(p) if position_ids is None else len(position_ids)
    if num_positions < longest:
        name = "p" if position_ids is None else "position_ids"
        raise ValueError(
            f"{name}: {num_positions} positions; expected at least {longest}, the length of the "
            "longest sequence"
        )
