"""The definition of every operation, in the plainest PyTorch, one sequence at a time.

Every other implementation is tested against this module: outputs, states and all gradients. It is
written to be read and is never tuned. It runs in any floating-point type, float64 included, and
autograd differentiates it as it stands.

For position i of a sequence, and channel by channel,

    y_i  =  n_i^-b  sum_t  w_it  (prod_{t < s <= i} a_s)  x_t * p_t

    x_t    token vector t, (D,)
    p_t    position vector t, (D,); one where there are no positions
    w_it   the mask: one where output i sums token t, otherwise zero; or any weight of a dense mask
    a_s    the factor by which the step to token s multiplies the sum before it: a constant decay,
           real or complex, or a gate that depends on s; one where there is neither
    n_i    the number of summed tokens, sum_t w_it
    b      the normalization exponent: 0, 1/2 or 1

Positions count from the first token of a sequence, so padding on the left and the documents before
one in a packed sequence have no effect. The tokens of an initial state precede the first token:
they count in n_i and in a window, but the positions that are passed are those of the new tokens.

A pooled mask has one output per sequence, that of its last token.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hyperagg.ops.masks import Causal, Documents, Full, Mask, Prefix, Window
from hyperagg.ops.state import Padding, State, find_rows

__all__ = ["aggregate", "aggregate_tokens", "decay_products", "mask_matrix"]


def mask_matrix(mask: Mask, n: int) -> Tensor:
    """Return w as an (n, n) boolean matrix: whether output i of n tokens sums token t.

    Args:
        mask: any mask but a dense one. A pooled mask has the matrix of Causal(), of which only the
            last output counts. Documents has that of each of its documents.
        n: the number of tokens of one sequence.

    >>> mask_matrix(Window(2), 3).int().tolist()
    [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    """
    i, t = torch.arange(n)[:, None], torch.arange(n)[None, :]
    match mask:
        case Full() | Causal() | Documents():
            return t <= i
        case Window(size):
            return (t <= i) & (t > i - size)
        case Prefix(size):
            return (t <= i) | ((i < size) & (t < size))
    raise TypeError(f"mask={mask!r}: expected one of Full, Causal, Window, Prefix, Documents")


def decay_products(a: Tensor) -> Tensor:
    """Return prod_{t < s <= i} a_s at [i, t], for factors a (n, D): (n, n, D), zero for t > i.

    The diagonal is one: the factor of a step applies to the sum before it, not to its own token.

    >>> decay_products(torch.tensor([[2.0], [3.0], [5.0]]))[..., 0].tolist()
    [[1.0, 0.0, 0.0], [3.0, 1.0, 0.0], [15.0, 5.0, 1.0]]
    """
    row = torch.zeros_like(a)
    rows = []
    for i in range(len(a)):
        diagonal = (torch.arange(len(a), device=a.device) == i)[:, None]
        row = torch.where(diagonal, torch.ones_like(a), row * a[i])
        rows.append(row)
    return torch.stack(rows)


def aggregate(
    x: Tensor,
    p: Tensor | None,
    mask: Mask | Tensor,
    lengths: Tensor | None = None,
    norm_exponent: float = 0.0,
    *,
    decay: Tensor | None = None,
    gate: Tensor | None = None,
    state: State | None = None,
    padding: Padding = "right",
) -> tuple[Tensor, State | None]:
    """Define `hyperagg.ops.aggregate`: return y and the state after the last token.

    Args:
        x: (B, N, D) token vectors.
        p: (P, D) position vectors, or None.
        mask: which tokens each output sums; a (B, N, N) or (1, N, N) tensor is a dense mask.
        lengths: (B,) the number of tokens of each sequence; None means N.
        norm_exponent: b.
        decay: (D,) real factors, or (D / 2,) complex ones, which multiply channels 2k and 2k + 1
            as the real and the imaginary part of one number.
        gate: (B, N, D) factors, in place of a decay.
        state: the state after the tokens before the first.
        padding: the side on which the rest of a sequence is padding.

    Returns:
        y: (B, 1, D) for a pooled mask, (1, num_documents, D) for pooled documents, otherwise
        (B, N, D) with zeros at padding. And the State, or None for a dense mask and for Prefix.

    Numerics: every sum is a matrix product in the type of x; use float64.
    Cost: O(n^2 d) time and memory for every mask, by definition.

    >>> x = torch.ones(1, 3, 2, dtype=torch.float64)
    >>> y, state = aggregate(x, None, Causal(), decay=torch.tensor([1.0, 0.5]))
    >>> y.tolist()
    [[[1.0, 1.0], [2.0, 1.5], [3.0, 1.75]]]
    >>> state.num_tokens.tolist()
    [3]
    """
    batch, n, d = x.shape
    rows = find_rows(mask, x, lengths, padding)
    tokens = x.flatten(0, 1)
    complex_decay = decay is not None and decay.is_complex()
    outputs = tokens.new_zeros(batch * n, d)
    pooled, sums = [], []
    for row, (start, length) in enumerate(zip(rows.starts.tolist(), rows.lengths.tolist())):
        v = tokens[start : start + length]
        if p is not None:
            v = v * p[:length]

        if isinstance(mask, Tensor):
            first = start - row * n
            last = first + length
            w = mask.expand(batch, n, n)[row, first:last, first:last].to(v.dtype)
            y = w @ v / w.sum(1, keepdim=True).clamp(min=1) ** norm_exponent
            outputs[start : start + length] = y
            continue

        num_before = 0 if state is None else int(state.num_tokens[row])
        if isinstance(mask, Window):
            # The state of a window is its newest terms. They precede the new ones.
            before = v.new_zeros(mask.size - 1, d) if state is None else state.sums[row]
            v = torch.cat([before.to(v.dtype), v])
            sums.append(v[len(v) - mask.size + 1 :])

        a = torch.ones_like(v)
        if complex_decay:
            v = torch.view_as_complex(v.contiguous().unflatten(-1, (-1, 2)))
        if decay is not None:
            a = decay.expand(len(v), -1)
        if gate is not None:
            a = gate.flatten(0, 1)[start : start + length]
            if isinstance(mask, Window):
                a = torch.cat([torch.ones(mask.size - 1, d, dtype=a.dtype), a])

        w = mask_matrix(mask, len(v)).to(v.device)
        if isinstance(mask, Prefix):
            y = w.to(v.dtype) @ v
        elif length:
            y = torch.einsum("it,itd,td->id", w.to(v.dtype), decay_products(a).to(v.dtype), v)
        else:
            y = v
        count = w.sum(1, keepdim=True).to(x.dtype)

        if isinstance(mask, Window):
            y = y[mask.size - 1 :]
            count = (num_before + 1 + torch.arange(length)[:, None]).clamp(max=mask.size)
            count = count.to(x.dtype)
        else:
            last_sum = v.new_zeros(v.shape[1:])
            if state is not None:
                last_sum = state.sums[row].to(x.dtype)
                if complex_decay:
                    last_sum = torch.view_as_complex(last_sum.unflatten(-1, (-1, 2)))
                y = y + a.cumprod(0) * last_sum
                count = count + num_before
            last_sum = y[-1] if length else last_sum
            sums.append(torch.view_as_real(last_sum).flatten() if complex_decay else last_sum)

        y = torch.view_as_real(y).flatten(1) if complex_decay else y
        if mask.pooled:
            pooled.append(sums[-1] / max(length + num_before, 1) ** norm_exponent)
        elif length:
            outputs[start : start + length] = y / count.clamp(min=1) ** norm_exponent

    if isinstance(mask, Tensor):
        return outputs.view_as(x), None
    num_tokens = rows.lengths if state is None else rows.lengths + state.num_tokens
    if not sums:  # a batch of no rows
        shape = (0, mask.size - 1, d) if isinstance(mask, Window) else (0, d)
        return outputs.view(0, 1 if mask.pooled else n, d), State(x.new_zeros(shape), num_tokens)
    after = State(torch.stack(sums), num_tokens)
    if mask.pooled:
        y = torch.stack(pooled)
        return (y[None] if isinstance(mask, Documents) else y[:, None]), after
    return outputs.view_as(x), after


def aggregate_tokens(
    token_ids: Tensor,
    embedding: Tensor,
    starts: Tensor,
    lengths: Tensor,
    p: Tensor | None,
    position_ids: Tensor | None,
    weights: Tensor | None = None,
    norm_exponent: float = 0.0,
) -> Tensor:
    """Define `hyperagg.ops.aggregate_tokens`: return one pooled sum per sequence, (B, D).

    c_b = n_b^-norm_exponent sum_t w_s embedding[token_ids_s] * p[position_ids_t],  s = starts_b + t

    Args:
        token_ids: (T,) ids of all sequences.
        embedding: (V, D).
        starts: (B,) index of the first token of each sequence in `token_ids`.
        lengths: (B,) n_b, the number of tokens of each sequence. An empty one has zeros for a sum.
        p: (P, D) position vectors, or None.
        position_ids: the row of p at each position; None means t.
        weights: (T,) w; None means one.
        norm_exponent: 0, 1/2 or 1.

    Cost: O(T d) time and memory.

    >>> embedding = torch.tensor([[1.0], [10.0]])
    >>> one_sequence = torch.tensor([0]), torch.tensor([3])
    >>> aggregate_tokens(torch.tensor([0, 1, 1]), embedding, *one_sequence, None, None).tolist()
    [[21.0]]
    """
    sums = []
    for start, n in zip(starts.tolist(), lengths.tolist()):
        x = embedding[token_ids[start : start + n].long()]
        if p is not None:
            x = x * (p[:n] if position_ids is None else p[position_ids[:n]])
        if weights is not None:
            x = x * weights[start : start + n, None]
        sums.append(x.sum(0) / max(n, 1) ** norm_exponent)
    return torch.stack(sums) if sums else embedding.new_zeros(0, embedding.shape[1])
