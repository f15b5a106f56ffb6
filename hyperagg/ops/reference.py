"""What every form means, in the plainest PyTorch there is, row by row. Never tuned.

    y_i  =  n_i^-power  sum_t  w_it  (prod_{t < s <= i} a_s)  x_t * p_t

w_it says whether place i sums token t, a_s is what one step leaves of what came before (a decay,
a gate, or one), n_i = sum_t w_it. Places are counted from a row's first token, and the tokens of
a state stand before it. Works in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hyperagg.ops.masks import Causal, Documents, Full, Mask, Prefix, Window
from hyperagg.ops.state import Padding, State, find_rows

__all__ = ["aggregate", "aggregate_tokens", "summed"]


def summed(mask: Mask, n: int) -> Tensor:
    """(n, n) true where place i of a row sums token t; of a pooled mask the last place counts."""
    i, t = torch.arange(n)[:, None], torch.arange(n)[None, :]
    match mask:
        case Full() | Causal() | Documents():
            return t <= i
        case Window(size):
            return (t <= i) & (t > i - size)
        case Prefix(size):
            return (t <= i) | ((i < size) & (t < size))
    raise TypeError(f"mask: {mask!r} has no meaning here")


def remaining(a: Tensor) -> Tensor:
    """(n, n, D): prod_{t < s <= i} a_s at [i, t], from a (n, D); zero for t > i."""
    row = torch.zeros_like(a)
    rows = []
    for i in range(len(a)):
        here = (torch.arange(len(a), device=a.device) == i)[:, None]
        row = torch.where(here, torch.ones_like(a), row * a[i])
        rows.append(row)
    return torch.stack(rows)


def aggregate(
    x: Tensor,
    p: Tensor | None,
    mask: Mask | Tensor,
    lengths: Tensor | None = None,
    power: float = 0.0,
    *,
    decay: Tensor | None = None,
    gate: Tensor | None = None,
    state: State | None = None,
    padding: Padding = "right",
) -> tuple[Tensor, State | None]:
    """y and the state after it; arguments as of `hyperagg.ops.aggregate`.

    Outputs at padding are zero. Cost: O(n^2 d), all forms, by definition.
    """
    batch, n, d = x.shape
    starts, counts = find_rows(mask, x, lengths, padding)
    tokens = x.flatten(0, 1)
    complex_decay = decay is not None and decay.is_complex()
    outputs = tokens.new_zeros(batch * n, d)
    pooled, carried = [], []
    for row, (start, m) in enumerate(zip(starts.tolist(), counts.tolist())):
        v = tokens[start : start + m]
        if p is not None:
            v = v * p[:m]
        if isinstance(mask, Tensor):
            first = start - row * n
            w = mask.expand(batch, n, n)[row, first : first + m, first : first + m].to(v.dtype)
            y = w @ v / w.sum(1, keepdim=True).clamp(min=1) ** power
            outputs[start : start + m] = y
            continue
        before = 0 if state is None else int(state.num_tokens[row])
        if isinstance(mask, Window):
            earlier = v.new_zeros(mask.size - 1, d) if state is None else state.sums[row]
            v = torch.cat([earlier.to(v.dtype), v])
            carried.append(v[len(v) - mask.size + 1 :])
        a = torch.ones_like(v)
        if complex_decay:
            v = torch.view_as_complex(v.contiguous().unflatten(-1, (-1, 2)))
        if decay is not None:
            a = decay.expand(len(v), -1)
        if gate is not None:
            a = gate.flatten(0, 1)[start : start + m]
            if isinstance(mask, Window):
                a = torch.cat([torch.ones(mask.size - 1, d, dtype=a.dtype), a])
        w = summed(mask, len(v)).to(v.device)
        if isinstance(mask, Prefix):
            y = w.to(v.dtype) @ v
        else:
            y = (
                torch.einsum("it,itd,td->id", w.to(v.dtype), remaining(a).to(v.dtype), v)
                if m
                else v
            )
        number = w.sum(1, keepdim=True).to(x.dtype)
        if isinstance(mask, Window):
            y = y[mask.size - 1 :]
            number = (before + 1 + torch.arange(m)[:, None]).clamp(max=mask.size).to(x.dtype)
        else:
            h = v.new_zeros(v.shape[1:])
            if state is not None:
                h = state.sums[row].to(x.dtype)
                h = torch.view_as_complex(h.unflatten(-1, (-1, 2))) if complex_decay else h
                y = y + a.cumprod(0) * h
                number = number + before
            h = y[-1] if m else h
            carried.append(torch.view_as_real(h).flatten() if complex_decay else h)
        y = torch.view_as_real(y).flatten(1) if complex_decay else y
        if mask.pooled:
            pooled.append(carried[-1] / max(m + before, 1) ** power)
        elif m:
            outputs[start : start + m] = y / number.clamp(min=1) ** power
    if isinstance(mask, Tensor):
        return outputs.view_as(x), None
    seen = counts if state is None else counts + state.num_tokens
    after = State(torch.stack(carried), seen) if carried else None
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
    power: float = 0.0,
) -> Tensor:
    """c_b = sum_t w_s embedding[token_ids_s] * p[position_ids_t] / n_b^power, s = starts_b + t.

    (B, D); a row without tokens gives zeros.
    """
    rows = []
    for start, n in zip(starts.tolist(), lengths.tolist()):
        x = embedding[token_ids[start : start + n].long()]
        if p is not None:
            x = x * (p[:n] if position_ids is None else p[position_ids[:n]])
        if weights is not None:
            x = x * weights[start : start + n, None]
        rows.append(x.sum(0) / max(n, 1) ** power)
    return torch.stack(rows) if rows else embedding.new_zeros(0, embedding.shape[1])
