"""The running sum on a GPU; `registration.scan` and `scan_backward` say what each computes.

Where rows are few they are cut: what each stretch adds and by what it multiplies what came before
is found first, then carried over from one to the next, then each is run from what was carried to
it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hyperagg.ops.gpu import tiles
from hyperagg.ops.gpu.scan_kernels import carry, run, run_backward, totals
from hyperagg.ops.gpu.tiles import Stretches, blocks_of, product_grads, stretches_of, wide_of

__all__ = ["scan", "scan_backward"]


def scan(
    x: Tensor,
    p: Tensor | None,
    decay: Tensor | None,
    gate: Tensor | None,
    initial: Tensor | None,
    before: Tensor | None,
    starts: Tensor,
    lengths: Tensor,
    power: float,
    pooled: bool,
) -> tuple[Tensor, Tensor]:
    """`registration.scan`. Cost: reads x once, twice where rows are cut, and writes y twice."""
    wide, _ = wide_of(x)
    y = x.new_empty(0, x.shape[1]) if pooled else torch.zeros_like(x)
    carried = _scan_into(
        None if pooled else y,
        *(x, p, decay, gate, initial, before, starts, lengths, power, wide),
    )
    return y, carried


def _scan_into(
    y: Tensor | None,
    x: Tensor,
    p: Tensor | None,
    decay: Tensor | None,
    gate: Tensor | None,
    initial: Tensor | None,
    before: Tensor | None,
    starts: Tensor,
    lengths: Tensor,
    power: float,
    wide: torch.dtype,
) -> Tensor:
    """Fills y, where there is one, at the tokens of rows; returns the last sums of rows."""
    rows, d = len(starts), x.shape[1]
    begin = x.new_zeros(rows, d, dtype=wide) if initial is None else initial
    if not rows or not x.numel():
        return begin.clone()
    kind, (_, accumulator) = _kind(decay, gate), wide_of(x)
    channels, blocks = blocks_of(d, kind)
    stretches, cut = stretches_of(x, starts, lengths, blocks)
    seen = torch.zeros_like(lengths) if before is None else before
    inputs = (x, x if p is None else p, x if decay is None else decay, x if gate is None else gate)
    tile = dict(WIDE=accumulator, PLACES=tiles.TILE_PLACES, CHANNELS=channels)
    carried = torch.empty_like(begin)
    if cut or y is None:
        first, carried = _carried(
            *(x, p, decay, gate, seen, lengths, stretches, begin, power, False)
        )
    else:
        first = begin
    if y is not None:
        run[len(stretches.rows), blocks](
            *(*inputs, first, seen, *stretches.runs, y, carried, d),
            KIND=kind,
            HAS_P=p is not None,
            HAS_END=not cut,
            POWER=power,
            **tile,
        )
    return carried


def _carried(
    v: Tensor | None,
    p: Tensor | None,
    decay: Tensor | None,
    gate: Tensor | None,
    seen: Tensor,
    lengths: Tensor,
    stretches: Stretches,
    begin: Tensor,
    power: float,
    backward: bool,
) -> tuple[Tensor, Tensor]:
    """What each stretch starts from (S, D), and what the rows end with (R, D)."""
    kind, number, d = _kind(decay, gate), len(stretches.rows), begin.shape[1]
    channels, blocks = blocks_of(d, kind)
    total = begin.new_empty(number, d)
    product = begin.new_empty(0 if kind == "prefix_sum" else number, d)
    totals[number, blocks](
        begin if v is None else v,
        begin if p is None else p,
        begin if decay is None else decay,
        begin if gate is None else gate,
        *(seen, lengths, *stretches.runs, total, product, d),
        KIND=kind,
        HAS_V=v is not None,
        HAS_P=p is not None,
        BACKWARD=backward,
        POWER=power,
        WIDE=wide_of(begin)[1],
        PLACES=tiles.TILE_PLACES,
        CHANNELS=channels,
    )
    first, end = torch.empty_like(total), torch.empty_like(begin)
    carry[len(lengths), blocks](
        *(total, product, stretches.firsts, stretches.pieces, begin, first, end, d),
        KIND=kind,
        BACKWARD=backward,
        CHANNELS=channels,
    )
    return first, end


def scan_backward(
    y_grad: Tensor | None,
    carried_grad: Tensor | None,
    x: Tensor,
    p: Tensor | None,
    decay: Tensor | None,
    gate: Tensor | None,
    initial: Tensor | None,
    before: Tensor | None,
    starts: Tensor,
    lengths: Tensor,
    y: Tensor,
    power: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """`registration.scan_backward`. Cost: reads y_grad once, twice where rows are cut; with p also
    writes and reads the gradients of the products once, in the wide type."""
    rows, d = len(starts), x.shape[1]
    wide, accumulator = wide_of(x)
    kind = _kind(decay, gate)
    begin = x.new_zeros(rows, d, dtype=wide) if carried_grad is None else carried_grad
    gate_grad = x.new_empty(0, d) if gate is None else torch.zeros_like(gate)
    a_grad = x.new_zeros(0, dtype=wide) if decay is None else torch.zeros_like(decay)
    if not rows or not x.numel():
        p_grad = x.new_zeros(0 if p is None else len(p), d, dtype=wide)
        return torch.zeros_like(x), p_grad, a_grad, gate_grad, begin.clone()
    channels, blocks = blocks_of(d, kind)
    stretches, cut = stretches_of(x, starts, lengths, blocks)
    seen = torch.zeros_like(lengths) if before is None else before
    first_state = x.new_zeros(rows, d, dtype=wide) if initial is None else initial
    states = x
    if kind != "prefix_sum":
        states = y
        if power or len(y) != len(x) or y.dtype != wide:
            # y is not the running sum, or not all of its digits.
            states = torch.empty_like(x, dtype=wide)
            _scan_into(states, x, p, decay, gate, initial, before, starts, lengths, 0.0, wide)
    if cut:
        gradient, end = _carried(
            *(y_grad, None, decay, gate, seen, lengths, stretches, begin, power, True)
        )
    else:
        gradient, end = begin, torch.empty_like(begin)
    v_grad = torch.zeros_like(x) if p is None else torch.empty_like(x, dtype=wide)
    a_grads = x.new_empty(0 if decay is None else len(stretches.rows), d, dtype=wide)
    run_backward[len(stretches.rows), blocks](
        x if y_grad is None else y_grad,
        x if decay is None else decay,
        x if gate is None else gate,
        *(gradient, states, first_state, seen, lengths),
        *(*stretches.runs, v_grad, a_grads, gate_grad, end, d),
        KIND=kind,
        HAS_V=y_grad is not None,
        HAS_END=not cut,
        POWER=power,
        WIDE=accumulator,
        PLACES=tiles.TILE_PLACES,
        CHANNELS=channels,
    )
    if decay is not None:
        a_grad = a_grads.sum(0).view_as(decay)
    # `end` is the gradient of the first sum; a row without tokens has handed its own on.
    if kind == "gated":
        assert gate is not None
        opened = gate[starts.clamp(max=len(x) - 1)].to(wide)
        end = torch.where(lengths[:, None] > 0, end * opened, end)
    elif kind == "decay":
        assert decay is not None
        end = torch.where(lengths[:, None] > 0, end * decay, end)
    elif kind == "complex_decay":
        assert decay is not None
        pairs = end.view(rows, -1, 2)
        turned = torch.view_as_complex(pairs) * torch.view_as_complex(decay).conj()
        end = torch.where(lengths[:, None, None] > 0, torch.view_as_real(turned), pairs).flatten(1)
    if p is None:
        return v_grad, x.new_empty(0, d, dtype=wide), a_grad, gate_grad, end
    x_grad, p_grad = product_grads(v_grad, x, p, starts, lengths)
    return x_grad, p_grad, a_grad, gate_grad, end


def _kind(decay: Tensor | None, gate: Tensor | None) -> str:
    if gate is not None:
        return "gated"
    if decay is not None:
        return "decay" if decay.ndim == 1 else "complex_decay"
    return "prefix_sum"
