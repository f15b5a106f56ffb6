"""The definition of associative sums in the plainest PyTorch, one token at a time.

Every other implementation is tested against this module: outputs, states and all gradients. It is
written to be read and is never tuned. It runs in any floating-point type, float64 included, and
autograd differentiates it as it stands.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hyperagg.ops.masks import Causal, Documents
from hyperagg.ops.state import Padding, State, find_rows

__all__ = ["associative"]


def associative(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor | None = None,
    decay: Tensor | None = None,
    mask: Causal | Documents = Causal(),
    lengths: Tensor | None = None,
    *,
    padding: Padding = "right",
    state: State | None = None,
) -> tuple[Tensor, State]:
    """Define `hyperagg.ops.associative`: return o and the state after the last token.

    For each head of each sequence, from S_0, the state or zeros, on

        S' = Diag(a_t) S_{t-1}    u_t = beta_t (v_t - S'^T k_t)    S_t = S' + k_t u_t^T
        o_t = S_t^T q_t

    a_t is the decay, one number or one per key channel; u_t = v_t where beta is None.

    Args:
        q, k: (B, N, H, K).
        v: (B, N, H, E).
        beta: (B, N, H), or None.
        decay: (B, N, H) or (B, N, H, K), or None.
        mask: Causal(), or the documents of a packed sequence.
        lengths: (B,) the number of tokens of each sequence; None means N.
        padding: the side on which the rest of a sequence is padding.
        state: the state after the tokens before the first.

    Returns:
        o (B, N, H, E) with zeros at padding, and the State, whose sums are S (R, H, K, E).

    Numerics: in the type of q; use float64.
    Cost: O(N H K E) time, one token after the other.

    >>> k = torch.ones(1, 2, 1, 1, dtype=torch.float64)
    >>> v = torch.tensor([1.0, 10.0], dtype=torch.float64).view(1, 2, 1, 1)
    >>> associative(k, k, v, decay=torch.full((1, 2, 1), 0.5))[0].flatten().tolist()
    [1.0, 10.5]
    """
    batch, n, heads, keys = q.shape
    rows = find_rows(mask, q, lengths, padding)
    tokens = [each if each is None else each.flatten(0, 1) for each in (q, k, v, beta, decay)]
    outputs = v.new_zeros(batch * n, heads, v.shape[3])
    sums = []
    for row, (start, length) in enumerate(zip(rows.starts.tolist(), rows.lengths.tolist())):
        s = v.new_zeros(heads, keys, v.shape[3]) if state is None else state.sums[row].to(q.dtype)
        read = []
        for t in range(start, start + length):
            q_t, k_t, u_t, beta_t, a_t = (each if each is None else each[t] for each in tokens)
            assert q_t is not None and k_t is not None and u_t is not None
            if a_t is not None:
                s = (a_t if a_t.ndim == 2 else a_t[:, None]).to(q.dtype)[..., None] * s
            if beta_t is not None:
                u_t = beta_t[:, None].to(q.dtype) * (u_t - torch.einsum("hke,hk->he", s, k_t))
            s = s + torch.einsum("hk,he->hke", k_t, u_t)
            read.append(torch.einsum("hke,hk->he", s, q_t))
        if length:
            outputs[start : start + length] = torch.stack(read)
        sums.append(s)
    num_tokens = rows.lengths if state is None else rows.lengths + state.num_tokens
    after = torch.stack(sums) if sums else v.new_zeros(0, heads, keys, v.shape[3])
    return outputs.view_as(v), State(after, num_tokens)
