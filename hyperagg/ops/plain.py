"""Every mask in plain PyTorch in O(n d): for all devices and types that PyTorch supports.

Half-precision inputs are summed in float32. Decays and gates run as an odd-even scan of log2(n)
levels and O(n) work, which autograd differentiates without a rule of its own.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hyperagg.ops.masks import Causal, Documents, Full, Mask, Prefix, Window
from hyperagg.ops.state import Padding, State, find_rows

__all__ = ["aggregate", "aggregate_dense", "aggregate_tokens", "positions_in_rows"]


def aggregate(
    x: Tensor,
    p: Tensor | None,
    mask: Mask,
    lengths: Tensor | None = None,
    norm_exponent: float = 0.0,
    *,
    decay: Tensor | None = None,
    gate: Tensor | None = None,
    state: State | None = None,
    padding: Padding = "right",
) -> tuple[Tensor, State]:
    """Return y and the state of `hyperagg.ops.reference.aggregate`, for all but dense masks."""
    if isinstance(mask, Documents):
        return _aggregate_documents(x, p, mask, norm_exponent, decay=decay, gate=gate, state=state)
    batch, n, _ = x.shape
    # Integers come from `fixed_point` and stay integers.
    accumulator_dtype = (
        torch.promote_types(x.dtype, torch.float32) if x.is_floating_point() else x.dtype
    )
    rows = find_rows(mask, x, lengths, padding)
    position, is_token = positions_in_rows(x, rows.lengths, padding)
    v = x.to(accumulator_dtype)
    if p is not None:
        at_first = padding == "right" or lengths is None
        aligned = p[:n] if at_first else p[position.clamp(0, len(p) - 1)]
        v = v * aligned.to(accumulator_dtype)
    v = v.masked_fill(~is_token[..., None], 0)
    a = None
    if decay is not None or gate is not None:
        factors = decay if gate is None else gate.to(accumulator_dtype)
        assert factors is not None
        # Padding adds nothing and keeps the sum as it is.
        a = torch.where(is_token[..., None], factors, torch.ones_like(factors))
    if a is not None and a.is_complex():
        v = torch.view_as_complex(v.contiguous().unflatten(-1, (-1, 2)))

    if isinstance(mask, Window):
        before = v.new_zeros(batch, mask.size - 1, v.shape[2])
        if state is not None:
            before = state.sums.to(accumulator_dtype)
            if v.is_complex():
                before = torch.view_as_complex(before.unflatten(-1, (-1, 2)))
        terms = torch.cat([before, v], 1)
        if a is not None:
            a_before = torch.ones_like(before) if decay is None else decay.expand_as(before)
            a = torch.cat([a_before, a], 1)
        y = _window(terms, a, mask.size)[:, mask.size - 1 :]
        # The newest terms of a row end where its tokens do.
        last = n if padding == "left" else rows.lengths[:, None]
        newest = torch.arange(mask.size - 1, device=x.device) + last
        newest = newest.expand(batch, -1)[..., None].expand(-1, -1, v.shape[2])
        sums = terms.gather(1, newest)
    elif isinstance(mask, Prefix):
        in_prefix = (position < mask.size)[..., None]
        prefix_sum = v.masked_fill(~in_prefix, 0).sum(1, keepdim=True)
        y = torch.where(in_prefix, prefix_sum, v.cumsum(1))
        sums = v.sum(1)
    else:
        initial = None
        if state is not None:
            initial = state.sums.to(accumulator_dtype)
            if v.is_complex():
                initial = torch.view_as_complex(initial.unflatten(-1, (-1, 2)))
        initial_or_zero = v.new_zeros(batch, v.shape[2]) if initial is None else initial
        if n == 0:
            y, sums = v, initial_or_zero
        elif a is not None:
            y = scan(a.expand_as(v), v if initial is None else _add_initial(a, v, initial))
            sums = y[:, -1]
        elif mask.pooled:
            sums = initial_or_zero + v.sum(1)
        else:
            y = v.cumsum(1) if initial is None else initial[:, None] + v.cumsum(1)
            sums = y[:, -1]
        if mask.pooled:
            y = sums[:, None]
    if y.is_complex():
        y, sums = torch.view_as_real(y).flatten(2), torch.view_as_real(sums).flatten(-2)
    num_before = 0 if state is None else state.num_tokens[:, None]
    if norm_exponent:
        counts = _counts(mask, position, rows.lengths[:, None], num_before)
        real_dtype = accumulator_dtype if accumulator_dtype.is_floating_point else torch.float64
        y = y / counts.clamp(min=1).to(real_dtype)[..., None] ** norm_exponent
    if not mask.pooled:
        y = y.masked_fill(~is_token[..., None], 0)
    num_tokens = rows.lengths if state is None else rows.lengths + state.num_tokens
    return (y.to(x.dtype) if x.is_floating_point() else y), State(sums, num_tokens)


def aggregate_dense(
    x: Tensor,
    p: Tensor | None,
    weights: Tensor,
    lengths: Tensor | None,
    norm_exponent: float,
    padding: Padding,
) -> Tensor:
    """Multiply by (B, N, N) weights: the only form whose cost is quadratic."""
    w = weights.to(x.dtype)
    position, is_token = positions_in_rows(
        x, find_rows(weights, x, lengths, padding).lengths, padding
    )
    if lengths is not None:
        w = w * (is_token[:, None, :] & is_token[:, :, None])
        x = x.masked_fill(~is_token[..., None], 0)
    if p is not None:
        x = x * (p[: x.shape[1]] if lengths is None else p[position.clamp(0, len(p) - 1)])
    y = w @ x
    return y / w.sum(-1, keepdim=True).clamp(min=1) ** norm_exponent if norm_exponent else y


def aggregate_tokens(
    token_ids: Tensor,
    embedding: Tensor,
    starts: Tensor,
    lengths: Tensor,
    p: Tensor | None,
    position_ids: Tensor | None,
    weights: Tensor | None,
    norm_exponent: float,
) -> Tensor:
    """Return the sums of `hyperagg.ops.reference.aggregate_tokens`."""
    row = torch.repeat_interleave(lengths)
    position = torch.arange(len(row)) - (lengths.cumsum(0) - lengths)[row]
    token = starts[row] + position
    terms = embedding[token_ids[token].long()]
    if p is not None:
        terms = terms * p[position if position_ids is None else position_ids[position]]
    if weights is not None:
        terms = terms * weights[token, None]
    sums = terms.new_zeros(len(lengths), terms.shape[1]).index_add(0, row, terms)
    return sums / lengths.clamp(min=1).to(sums.dtype)[:, None] ** norm_exponent


def positions_in_rows(x: Tensor, lengths: Tensor, padding: Padding) -> tuple[Tensor, Tensor]:
    """Return the (B, N) position of each token in its row, and whether it is a token at all."""
    position = torch.arange(x.shape[1], device=x.device).expand(len(lengths), -1)
    if padding == "left":
        position = position - (x.shape[1] - lengths)[:, None]
    return position, (position >= 0) & (position < lengths[:, None])


def _counts(mask: Mask, position: Tensor, lengths: Tensor, num_before: Tensor | int) -> Tensor:
    """The number of tokens that each output sums, (B, N), or (B, 1) for a pooled mask.

    `lengths` is (B, 1); `num_before` is the number of tokens in the state.
    """
    if mask.pooled:
        return lengths + num_before
    up_to_position = position + 1 + num_before
    if isinstance(mask, Window):
        return up_to_position.clamp(max=mask.size)
    if isinstance(mask, Prefix):
        return torch.where(position < mask.size, lengths.clamp(max=mask.size), up_to_position)
    return up_to_position


def scan(a: Tensor, v: Tensor) -> Tensor:
    """Return h_t = a_t h_{t-1} + v_t over dimension 1 with h_0 = v_0; a and v are (B, N, D).

    Two steps make one step of a sequence of half the length, whose h are those at odd positions.
    """
    n = v.shape[1]
    if n < 2:
        return v
    even, odd = slice(0, n - 1, 2), slice(1, n, 2)
    h_odd = scan(a[:, odd] * a[:, even], a[:, odd] * v[:, even] + v[:, odd])
    rest = a[:, 2::2] * h_odd[:, : (n - 1) // 2] + v[:, 2::2]
    h_even = torch.cat([v[:, :1], rest], 1)
    pairs = torch.stack([h_even[:, : n // 2], h_odd], 2).flatten(1, 2)
    return torch.cat([pairs, h_even[:, n // 2 :]], 1)


def _add_initial(a: Tensor, v: Tensor, initial: Tensor) -> Tensor:
    """Add the decayed initial sum to the first term."""
    return torch.cat([v[:, :1] + a[:, :1] * initial[:, None], v[:, 1:]], 1)


def _window(v: Tensor, a: Tensor | None, size: int) -> Tensor:
    """Sums over the `size` newest positions, from prefix and suffix sums in blocks of `size`.

    A window covers at most the end of one block and the start of the next. No difference of sums
    is taken, so nothing cancels far from the start.
    """
    n = v.shape[1]
    pad = (0, 0, 0, -n % size)
    blocks = F.pad(v, pad).unflatten(1, (-1, size))
    if a is None:
        prefix = blocks.cumsum(2)
        suffix = blocks.flip(2).cumsum(2).flip(2)
    else:
        steps = F.pad(a.expand_as(v), pad, value=1).unflatten(1, (-1, size)).flatten(0, 1)
        prefix = scan(steps, blocks.flatten(0, 1)).view_as(blocks)
        # By the end of its block, a term at t is multiplied by all factors after t.
        after = F.pad(steps[:, 1:], (0, 0, 0, 1), value=1).flip(1).cumprod(1).flip(1)
        suffix = (after.view_as(blocks) * blocks).flip(2).cumsum(2).flip(2)
    # The window at offset r of block b also holds the offsets r + 1, ... of block b - 1.
    from_previous = F.pad(suffix, (0, 0, 0, 1))[:, :-1, 1:]
    if a is not None:
        from_previous = steps.view_as(blocks).cumprod(2)[:, 1:] * from_previous
    prefix = torch.cat([prefix[:, :1], prefix[:, 1:] + from_previous], 1)
    return prefix.flatten(1, 2)[:, :n]


def _aggregate_documents(
    x: Tensor,
    p: Tensor | None,
    mask: Documents,
    norm_exponent: float,
    *,
    decay: Tensor | None,
    gate: Tensor | None,
    state: State | None,
) -> tuple[Tensor, State]:
    """Aggregate each document on its own, as a batch of one."""
    if mask.boundaries is None:
        raise ValueError(
            "mask: impl='plain' needs the boundaries on the host; expected a Documents made "
            "outside the compiled function"
        )
    document_mask: Mask = Causal() if mask.causal else Full()
    outputs, states = [], []
    for i, (a, b) in enumerate(zip(mask.boundaries, mask.boundaries[1:])):
        y, after = aggregate(
            x[:, a:b],
            p,
            document_mask,
            None,
            norm_exponent,
            decay=decay,
            gate=None if gate is None else gate[:, a:b],
            state=None if state is None else State(*(field[i : i + 1] for field in state)),
        )
        outputs.append(y)
        states.append(after)
    return torch.cat(outputs, 1), State(*(torch.cat(fields) for fields in zip(*states)))
