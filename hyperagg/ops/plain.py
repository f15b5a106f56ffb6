"""Every form in plain PyTorch at O(n d): runs on every device and in every type PyTorch has.

Half-precision inputs are summed in float32. Decays and gates go by an odd-even scan of log2(n)
levels and O(n) work, which autograd differentiates as it is.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hyperagg.ops.masks import Causal, Documents, Full, Mask, Prefix, Window
from hyperagg.ops.state import Padding, State, find_rows

__all__ = ["aggregate", "dense", "places"]


def aggregate(
    x: Tensor,
    p: Tensor | None,
    mask: Mask,
    lengths: Tensor | None = None,
    power: float = 0.0,
    *,
    decay: Tensor | None = None,
    gate: Tensor | None = None,
    state: State | None = None,
    padding: Padding = "right",
) -> tuple[Tensor, State]:
    """y and the state as of `hyperagg.ops.reference.aggregate`; every mask but a dense one."""
    if isinstance(mask, Documents):
        return _documents(x, p, mask, power, decay=decay, gate=gate, state=state)
    batch, n, _ = x.shape
    # Whole numbers are those of `fixed`, and stay what they are.
    wide = torch.promote_types(x.dtype, torch.float32) if x.is_floating_point() else x.dtype
    rows = find_rows(mask, x, lengths, padding)
    place, kept = places(x, rows.lengths, padding)
    v = x.to(wide)
    if p is not None:
        aligned = p[:n] if padding == "right" or lengths is None else p[place.clamp(0, len(p) - 1)]
        v = v * aligned.to(wide)
    v = v.masked_fill(~kept[..., None], 0)
    a = None
    if decay is not None or gate is not None:
        leaves = decay if gate is None else gate.to(wide)
        assert leaves is not None
        # Padding adds nothing and leaves what there is as it is.
        a = torch.where(kept[..., None], leaves, torch.ones_like(leaves))
    if a is not None and a.is_complex():
        v = torch.view_as_complex(v.contiguous().unflatten(-1, (-1, 2)))

    if isinstance(mask, Window):
        earlier = v.new_zeros(batch, mask.size - 1, v.shape[2])
        if state is not None:
            earlier = state.sums.to(wide)
            if v.is_complex():
                earlier = torch.view_as_complex(earlier.unflatten(-1, (-1, 2)))
        terms = torch.cat([earlier, v], 1)
        if a is not None:
            before_a = torch.ones_like(earlier) if decay is None else decay.expand_as(earlier)
            a = torch.cat([before_a, a], 1)
        y = _window(terms, a, mask.size)[:, mask.size - 1 :]
        # The newest terms of a row end where its tokens do.
        last = n if padding == "left" else rows.lengths[:, None]
        newest = torch.arange(mask.size - 1, device=x.device) + last
        newest = newest.expand(batch, -1)[..., None].expand(-1, -1, v.shape[2])
        carried = terms.gather(1, newest)
    elif isinstance(mask, Prefix):
        in_head = (place < mask.size)[..., None]
        head = v.masked_fill(~in_head, 0).sum(1, keepdim=True)
        y = torch.where(in_head, head, v.cumsum(1))
        carried = v.sum(1)
    else:
        first = None
        if state is not None:
            first = state.sums.to(wide)
            if v.is_complex():
                first = torch.view_as_complex(first.unflatten(-1, (-1, 2)))
        begin = v.new_zeros(batch, v.shape[2]) if first is None else first
        if n == 0:
            y, carried = v, begin
        elif a is not None:
            y = scan(a.expand_as(v), v if first is None else _start(a, v, first))
            carried = y[:, -1]
        elif mask.pooled:
            carried = begin + v.sum(1)
        else:
            y = v.cumsum(1) if first is None else first[:, None] + v.cumsum(1)
            carried = y[:, -1]
        if mask.pooled:
            y = carried[:, None]
    if y.is_complex():
        y, carried = torch.view_as_real(y).flatten(2), torch.view_as_real(carried).flatten(-2)
    before = 0 if state is None else state.num_tokens[:, None]
    if power:
        number = _count(mask, place, rows.lengths[:, None], before)
        real = wide if wide.is_floating_point else torch.float64
        y = y / number.clamp(min=1).to(real)[..., None] ** power
    if not mask.pooled:
        y = y.masked_fill(~kept[..., None], 0)
    seen = rows.lengths if state is None else rows.lengths + state.num_tokens
    return (y.to(x.dtype) if x.is_floating_point() else y), State(carried, seen)


def dense(
    x: Tensor,
    p: Tensor | None,
    weights: Tensor,
    lengths: Tensor | None,
    power: float,
    padding: Padding,
) -> Tensor:
    """The only quadratic form: a matrix product with (B, N, N) weights."""
    w = weights.to(x.dtype)
    place, kept = places(x, find_rows(weights, x, lengths, padding).lengths, padding)
    if lengths is not None:
        w = w * (kept[:, None, :] & kept[:, :, None])
        x = x.masked_fill(~kept[..., None], 0)
    if p is not None:
        x = x * (p[: x.shape[1]] if lengths is None else p[place.clamp(0, len(p) - 1)])
    y = w @ x
    return y / w.sum(-1, keepdim=True).clamp(min=1) ** power if power else y


def places(x: Tensor, lengths: Tensor, padding: Padding) -> tuple[Tensor, Tensor]:
    """(B, N) place of each token in its row, and which are no padding."""
    place = torch.arange(x.shape[1], device=x.device).expand(len(lengths), -1)
    if padding == "left":
        place = place - (x.shape[1] - lengths)[:, None]
    return place, (place >= 0) & (place < lengths[:, None])


def _count(mask: Mask, place: Tensor, lengths: Tensor, before: Tensor | int) -> Tensor:
    """How many tokens each output sums: (B, N) from the places in rows of (B, 1) lengths, with
    `before` tokens in the state; (B, 1) of a pooled mask."""
    if mask.pooled:
        return lengths + before
    reached = place + 1 + before
    if isinstance(mask, Window):
        return reached.clamp(max=mask.size)
    if isinstance(mask, Prefix):
        return torch.where(place < mask.size, lengths.clamp(max=mask.size), reached)
    return reached


def scan(a: Tensor, v: Tensor) -> Tensor:
    """h_t = a_t h_{t-1} + v_t over dimension 1, h_0 = v_0; a and v (B, N, D).

    Pairs of steps are one step, of half the length; the odd places of h are the h of that.
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


def _start(a: Tensor, v: Tensor, first: Tensor) -> Tensor:
    """v with the state put into its first place."""
    return torch.cat([v[:, :1] + a[:, :1] * first[:, None], v[:, 1:]], 1)


def _window(v: Tensor, a: Tensor | None, size: int) -> Tensor:
    """Sums over the `size` newest places, from prefix and suffix sums inside blocks of `size`.

    A window spans at most two blocks: the end of one and the start of the next. No difference is
    ever taken, so nothing cancels however far the place is from the start.
    """
    batch, n, d = v.shape
    pad = (0, 0, 0, -n % size)
    blocks = F.pad(v, pad).view(batch, -1, size, d)
    if a is None:
        prefix = blocks.cumsum(2)
        suffix = blocks.flip(2).cumsum(2).flip(2)
    else:
        steps = F.pad(a.expand_as(v), pad, value=1).view(-1, size, d)
        prefix = scan(steps, blocks.flatten(0, 1)).view_as(blocks)
        # What the end of a block keeps of its place t: the product of the steps after t.
        after = F.pad(steps[:, 1:], (0, 0, 0, 1), value=1).flip(1).cumprod(1).flip(1)
        suffix = (after.view_as(blocks) * blocks).flip(2).cumsum(2).flip(2)
    # The window of place r in block b also holds places r + 1 ... of block b - 1.
    carried = F.pad(suffix, (0, 0, 0, 1))[:, :-1, 1:]
    if a is not None:
        carried = steps.view_as(blocks).cumprod(2)[:, 1:] * carried
    prefix = torch.cat([prefix[:, :1], prefix[:, 1:] + carried], 1)
    return prefix.reshape(batch, -1, d)[:, :n]


def _documents(
    x: Tensor,
    p: Tensor | None,
    mask: Documents,
    power: float,
    *,
    decay: Tensor | None,
    gate: Tensor | None,
    state: State | None,
) -> tuple[Tensor, State]:
    """Each document on its own, as a row of one batch entry."""
    own: Mask = Causal() if mask.causal else Full()
    if mask.boundaries is None:
        raise ValueError("mask: impl='plain' needs a Documents made outside of the compiled graph")
    parts, carried = [], []
    for i, (a, b) in enumerate(zip(mask.boundaries, mask.boundaries[1:])):
        y, after = aggregate(
            x[:, a:b],
            p,
            own,
            None,
            power,
            decay=decay,
            gate=None if gate is None else gate[:, a:b],
            state=None if state is None else State(*(field[i : i + 1] for field in state)),
        )
        parts.append(y)
        carried.append(after)
    return torch.cat(parts, 1), State(*(torch.cat(fields) for fields in zip(*carried)))
