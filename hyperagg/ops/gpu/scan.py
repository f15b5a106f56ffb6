"""Prefix sums on a GPU; `registration.scan` and `scan_backward` define them.

Where there are few rows, they are split into chunks. A first kernel computes what each chunk adds
and by which factor it multiplies the sum before it, a second carries the sums from chunk to chunk,
and a third runs each chunk from its initial sum.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hyperagg.ops.gpu import tiles
from hyperagg.ops.gpu.scan_kernels import carry, run, run_backward, totals
from hyperagg.ops.gpu.tiles import Chunks, accumulator_types, blocks_of, chunks_of, product_grads

__all__ = ["scan", "scan_backward"]


def scan(
    x: Tensor,
    p: Tensor | None,
    decay: Tensor | None,
    gate: Tensor | None,
    initial: Tensor | None,
    tokens_before: Tensor | None,
    starts: Tensor,
    lengths: Tensor,
    norm_exponent: float,
    pooled: bool,
) -> tuple[Tensor, Tensor]:
    """Run `registration.scan`.

    Cost: reads x once, or twice where rows are split, and writes y twice.
    """
    accumulator_dtype, _ = accumulator_types(x)
    y = x.new_empty(0, x.shape[1]) if pooled else torch.zeros_like(x)
    sums = _scan_into(
        None if pooled else y,
        *(
            x,
            p,
            decay,
            gate,
            initial,
            tokens_before,
            starts,
            lengths,
            norm_exponent,
            accumulator_dtype,
        ),
    )
    return y, sums


def _scan_into(
    y: Tensor | None,
    x: Tensor,
    p: Tensor | None,
    decay: Tensor | None,
    gate: Tensor | None,
    initial: Tensor | None,
    tokens_before: Tensor | None,
    starts: Tensor,
    lengths: Tensor,
    norm_exponent: float,
    accumulator_dtype: torch.dtype,
) -> Tensor:
    """Fill y, unless it is None, at the tokens of the rows, and return their last sums."""
    rows, d = len(starts), x.shape[1]
    begin = x.new_zeros(rows, d, dtype=accumulator_dtype) if initial is None else initial
    if not rows or not x.numel():
        return begin.clone()
    kind, (_, accumulator) = _kind(decay, gate), accumulator_types(x)
    channels, blocks = blocks_of(d, kind)
    chunks, split = chunks_of(x, starts, lengths, blocks)
    before = torch.zeros_like(lengths) if tokens_before is None else tokens_before
    inputs = (x, x if p is None else p, x if decay is None else decay, x if gate is None else gate)
    tile = dict(ACCUMULATOR=accumulator, POSITIONS=tiles.TILE_POSITIONS, CHANNELS=channels)
    sums = torch.empty_like(begin)
    if split or y is None:
        first, sums = _run_carry(
            *(x, p, decay, gate, before, lengths, chunks, begin, norm_exponent, False)
        )
    else:
        first = begin
    if y is not None:
        run[len(chunks.rows), blocks](
            *(*inputs, first, before, *chunks.runs, y, sums, d),
            KIND=kind,
            HAS_P=p is not None,
            HAS_END=not split,
            NORM_EXPONENT=norm_exponent,
            **tile,
        )
    return sums


def _run_carry(
    v: Tensor | None,
    p: Tensor | None,
    decay: Tensor | None,
    gate: Tensor | None,
    before: Tensor,
    lengths: Tensor,
    chunks: Chunks,
    begin: Tensor,
    norm_exponent: float,
    backward: bool,
) -> tuple[Tensor, Tensor]:
    """Return the sum that each chunk starts from (chunks, D), and the last sums of rows (R, D)."""
    kind, number, d = _kind(decay, gate), len(chunks.rows), begin.shape[1]
    channels, blocks = blocks_of(d, kind)
    total = begin.new_empty(number, d)
    product = begin.new_empty(0 if kind == "prefix_sum" else number, d)
    totals[number, blocks](
        begin if v is None else v,
        begin if p is None else p,
        begin if decay is None else decay,
        begin if gate is None else gate,
        *(before, lengths, *chunks.runs, total, product, d),
        KIND=kind,
        HAS_V=v is not None,
        HAS_P=p is not None,
        BACKWARD=backward,
        NORM_EXPONENT=norm_exponent,
        ACCUMULATOR=accumulator_types(begin)[1],
        POSITIONS=tiles.TILE_POSITIONS,
        CHANNELS=channels,
    )
    first, end = torch.empty_like(total), torch.empty_like(begin)
    carry[len(lengths), blocks](
        *(total, product, chunks.first_chunks, chunks.num_chunks, begin, first, end, d),
        KIND=kind,
        BACKWARD=backward,
        CHANNELS=channels,
    )
    return first, end


def scan_backward(
    y_grad: Tensor | None,
    sums_grad: Tensor | None,
    x: Tensor,
    p: Tensor | None,
    decay: Tensor | None,
    gate: Tensor | None,
    initial: Tensor | None,
    tokens_before: Tensor | None,
    starts: Tensor,
    lengths: Tensor,
    y: Tensor,
    norm_exponent: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Run `registration.scan_backward`.

    Cost: reads y_grad once, or twice where rows are split. With p it also writes and reads the
    gradients of the products once, in the accumulator type.
    """
    rows, d = len(starts), x.shape[1]
    accumulator_dtype, accumulator = accumulator_types(x)
    kind = _kind(decay, gate)
    begin = x.new_zeros(rows, d, dtype=accumulator_dtype) if sums_grad is None else sums_grad
    gate_grad = x.new_empty(0, d) if gate is None else torch.zeros_like(gate)
    a_grad = x.new_zeros(0, dtype=accumulator_dtype) if decay is None else torch.zeros_like(decay)
    if not rows or not x.numel():
        p_grad = x.new_zeros(0 if p is None else len(p), d, dtype=accumulator_dtype)
        return torch.zeros_like(x), p_grad, a_grad, gate_grad, begin.clone()
    channels, blocks = blocks_of(d, kind)
    chunks, split = chunks_of(x, starts, lengths, blocks)
    before = torch.zeros_like(lengths) if tokens_before is None else tokens_before
    first_state = x.new_zeros(rows, d, dtype=accumulator_dtype) if initial is None else initial
    states = x
    if kind != "prefix_sum":
        states = y
        if norm_exponent or len(y) != len(x) or y.dtype != accumulator_dtype:
            # y is normalized, incomplete or rounded, so the running sums are computed again.
            states = torch.empty_like(x, dtype=accumulator_dtype)
            _scan_into(
                states,
                x,
                p,
                decay,
                gate,
                initial,
                tokens_before,
                starts,
                lengths,
                0.0,
                accumulator_dtype,
            )
    if split:
        gradient, end = _run_carry(
            *(y_grad, None, decay, gate, before, lengths, chunks, begin, norm_exponent, True)
        )
    else:
        gradient, end = begin, torch.empty_like(begin)
    v_grad = torch.zeros_like(x) if p is None else torch.empty_like(x, dtype=accumulator_dtype)
    a_grads = x.new_empty(0 if decay is None else len(chunks.rows), d, dtype=accumulator_dtype)
    run_backward[len(chunks.rows), blocks](
        x if y_grad is None else y_grad,
        x if decay is None else decay,
        x if gate is None else gate,
        *(gradient, states, first_state, before, lengths),
        *(*chunks.runs, v_grad, a_grads, gate_grad, end, d),
        KIND=kind,
        HAS_V=y_grad is not None,
        HAS_END=not split,
        NORM_EXPONENT=norm_exponent,
        ACCUMULATOR=accumulator,
        POSITIONS=tiles.TILE_POSITIONS,
        CHANNELS=channels,
    )
    if decay is not None:
        a_grad = a_grads.sum(0).view_as(decay)
    # `end` is the gradient of the sum at the first token. An empty row passes its own through.
    if kind == "gated":
        assert gate is not None
        first_gate = gate[starts.clamp(max=len(x) - 1)].to(accumulator_dtype)
        end = torch.where(lengths[:, None] > 0, end * first_gate, end)
    elif kind == "decay":
        assert decay is not None
        end = torch.where(lengths[:, None] > 0, end * decay, end)
    elif kind == "complex_decay":
        assert decay is not None
        pairs = end.view(rows, -1, 2)
        product = torch.view_as_complex(pairs) * torch.view_as_complex(decay).conj()
        end = torch.where(lengths[:, None, None] > 0, torch.view_as_real(product), pairs).flatten(1)
    if p is None:
        return v_grad, x.new_empty(0, d, dtype=accumulator_dtype), a_grad, gate_grad, end
    x_grad, p_grad = product_grads(v_grad, x, p, starts, lengths)
    return x_grad, p_grad, a_grad, gate_grad, end


def _kind(decay: Tensor | None, gate: Tensor | None) -> str:
    if gate is not None:
        return "gated"
    if decay is not None:
        return "decay" if decay.ndim == 1 else "complex_decay"
    return "prefix_sum"
