"""Associative sums in plain PyTorch, for all devices and types: matrix products over chunks.

In a chunk of C tokens after the state S, with P_ij the product of the decays after token j up to
and including token i (zero for j > i) and g_i that of all decays up to token i,

    A = (P * Q K^T)    L = tril(beta (P * K K^T), -1)    U = (I + L)^-1 beta (V - (g * K) S)
    O = (g * Q) S + A U                                  S <- g_C * S + (P_C * K)^T U

and U = V without the delta rule. The products are computed as such. As exp of differences of sums
of logarithms they would overflow or lose a decay of zero, and exp(g_i) exp(-g_j) overflows.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

from hyperagg.ops.masks import Causal, Documents
from hyperagg.ops.plain import positions_in_rows
from hyperagg.ops.registration import accumulator_dtype_of
from hyperagg.ops.state import Padding, State, find_rows

__all__ = ["associative"]

# The products of a decay per key channel take C^2 K numbers per chunk.
_CHUNK_SIZE, _CHUNK_SIZE_PER_KEY = 64, 16


def associative(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor | None,
    decay: Tensor | None,
    mask: Causal | Documents,
    lengths: Tensor | None = None,
    *,
    padding: Padding = "right",
    state: State | None = None,
) -> tuple[Tensor, State]:
    """Return o and the state of `hyperagg.ops.associative_reference.associative`."""
    if isinstance(mask, Documents):
        return _associative_documents(q, k, v, beta, decay, mask, state)
    batch, n, heads, keys = q.shape
    dtype = accumulator_dtype_of(q.dtype)
    rows = find_rows(mask, q, lengths, padding)
    _, is_token = positions_in_rows(q, rows.lengths, padding)
    no_token = ~is_token[..., None, None]
    factors = decay[..., None] if decay is not None and decay.ndim == 3 else decay
    sizes = None if beta is None else beta[..., None]
    bound = [x for x in (k, v, factors, sizes) if x is not None]
    not_finite = ~torch.stack([x.isfinite().all(-1, keepdim=True) for x in bound]).all(0)
    # Padding binds nothing and keeps the sum as it is. So does a token that is not finite: its
    # products with zero would reach earlier outputs of its chunk. The later ones are NaN.
    empty = no_token | not_finite
    query = q.to(dtype).masked_fill(no_token, 0)
    key, value = (x.to(dtype).masked_fill(empty, 0) for x in (k, v))
    if factors is not None:
        factors = factors.to(dtype).masked_fill(empty, 1)
    if sizes is not None:
        sizes = sizes.to(dtype).masked_fill(empty, 0)
    is_after = (not_finite & ~no_token).cumsum(1) > 0
    sums = query.new_zeros(batch, heads, keys, v.shape[3])
    if state is not None:
        sums = state.sums.to(dtype)
    if n:
        with without_autocast(q.device.type):
            o, sums = _over_chunks(query, key, value, sizes, factors, sums)
        o = o.masked_fill(is_after, torch.nan)
        sums = sums.masked_fill(is_after[:, -1, :, :, None], torch.nan)
    else:
        o = value
    o = o.masked_fill(no_token, 0).to(v.dtype)
    num_tokens = rows.lengths if state is None else rows.lengths + state.num_tokens
    return o, State(sums, num_tokens)


def _over_chunks(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor | None, decay: Tensor | None, sums: Tensor
) -> tuple[Tensor, Tensor]:
    """Return o (B, N, H, E) and the last S; N > 0, beta (B, N, H, 1), decay (B, N, H, 1 or K)."""
    n = q.shape[1]
    per_key = decay is not None and decay.shape[-1] > 1
    size = min(n, _CHUNK_SIZE_PER_KEY if per_key else _CHUNK_SIZE)
    q, k, v = (_to_chunks(each, size, 0.0) for each in (q, k, v))
    beta = None if beta is None else _to_chunks(beta, size, 0.0)
    steps = q.new_ones(1, 1, 1, size, 1) if decay is None else _to_chunks(decay, size, 1.0)
    products, up_to = _decay_products(steps), steps.cumprod(-2)

    scores = _decayed_scores(q, k, products)
    read = up_to * q
    kept = up_to[..., -1, :, None].expand(*q.shape[:3], -1, 1)
    bound = (products[..., -1, :, :] * k).transpose(-1, -2)
    update, taken = v, None
    if beta is not None:
        lower = (beta * _decayed_scores(k, k, products)).tril(-1)
        right = torch.cat([beta * v, beta * up_to * k], -1)
        solved = torch.linalg.solve_triangular(lower, right, upper=False, unitriangular=True)
        update, taken = solved.split([v.shape[-1], k.shape[-1]], -1)
    outputs = []
    for c in range(q.shape[2]):
        u = update[:, :, c] if taken is None else update[:, :, c] - taken[:, :, c] @ sums
        outputs.append(read[:, :, c] @ sums + scores[:, :, c] @ u)
        sums = kept[:, :, c] * sums + bound[:, :, c] @ u
    return torch.cat(outputs, 2)[:, :, :n].transpose(1, 2), sums


def _to_chunks(x: Tensor, size: int, fill: float) -> Tensor:
    """(B, N, H, M) as (B, H, chunks, size, M), the last chunk filled up."""
    x = F.pad(x.transpose(1, 2), (0, 0, 0, -x.shape[1] % size), value=fill)
    return x.unflatten(2, (x.shape[2] // size, size))


def _decay_products(a: Tensor) -> Tensor:
    """prod_{j < s <= i} a_s at [..., i, j, :] for factors a (..., C, M); zero for j > i."""
    order = torch.arange(a.shape[-2], device=a.device)
    later = (order[:, None] > order)[..., None]
    steps = torch.where(later, a[..., :, None, :], torch.ones_like(a[..., :1, None, :]))
    return steps.cumprod(-3).masked_fill((order[:, None] < order)[..., None], 0)


def _decayed_scores(x: Tensor, k: Tensor, products: Tensor) -> Tensor:
    """sum_m x_im products_ijm k_jm at [..., i, j]."""
    if products.shape[-1] == 1:
        return (x @ k.transpose(-1, -2)) * products[..., 0]
    return (x[..., :, None, :] * products * k[..., None, :, :]).sum(-1)


def without_autocast(device: str) -> AbstractContextManager[None]:
    """The sums stay in float32 where autocast would multiply matrices in half precision."""
    if not torch.amp.is_autocast_available(device):
        return nullcontext()
    return torch.autocast(device, enabled=False)


def _associative_documents(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor | None,
    decay: Tensor | None,
    mask: Documents,
    state: State | None,
) -> tuple[Tensor, State]:
    """Compute each document on its own, as a batch of one."""
    if mask.boundaries is None:
        raise ValueError(
            "mask: impl='plain' needs the boundaries on the host; expected a Documents made "
            "outside the compiled function"
        )
    outputs, states = [], []
    for i, (a, b) in enumerate(zip(mask.boundaries, mask.boundaries[1:])):
        o, after = associative(
            q[:, a:b],
            k[:, a:b],
            v[:, a:b],
            None if beta is None else beta[:, a:b],
            None if decay is None else decay[:, a:b],
            Causal(),
            state=None if state is None else State(*(field[i : i + 1] for field in state)),
        )
        outputs.append(o)
        states.append(after)
    return torch.cat(outputs, 1), State(*(torch.cat(fields) for fields in zip(*states)))
