"""The kernels as torch.library ops, with shapes, gradients and vmap.

Tokens come as rows end to end: x (T, D), and `starts` and `lengths` (R,) say where a row's tokens
stand. Absent results are tensors without rows. The gradient of an embedding is row-sparse, so that
a step costs what its tokens cost and not what the vocabulary would.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hyperagg.ops.cpu import scan as cpu_scan
from hyperagg.ops.cpu import tokens as cpu_tokens
from hyperagg.ops.cpu import window as cpu_window

_A = np.ndarray

__all__ = ["accumulator_dtype", "aggregate_tokens", "scan", "window"]


class _Inputs(NamedTuple):
    """The ops' inputs as the kernels take them."""

    x: _A
    p: _A | None
    decay: _A | None
    gate: _A | None
    initial: _A
    before: _A
    starts: _A
    lengths: _A


def accumulator_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type in which sums of `dtype` leave a kernel: float32 or better."""
    return torch.promote_types(dtype, torch.float32)


@torch.library.custom_op("hyperagg::scan", mutates_args=(), device_types="cpu")
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
    """y (T, D), empty if `pooled`, and the last sums of each row, (R, D) in the wide type.

    p (P, D), initial (R, D) and decay are of the wide type; decay is (D,), or (D / 2, 2) for
    complex numbers as real and imaginary parts; gate (T, D) is of the type of x.
    """
    y = x.new_empty(0, x.shape[1]) if pooled else _padded(x, lengths, x.dtype)
    carried = x.new_empty(len(starts), x.shape[1], dtype=accumulator_dtype(x.dtype))
    inputs = _inputs(x, p, decay, gate, initial, before, starts, lengths)
    cpu_scan.scan(*inputs, power, None if pooled else _array(y), carried.numpy())
    return y, carried


@scan.register_fake
def _(x, p, decay, gate, initial, before, starts, lengths, power, pooled):
    y = x.new_empty(0 if pooled else x.shape[0], x.shape[1])
    return y, x.new_empty(starts.shape[0], x.shape[1], dtype=accumulator_dtype(x.dtype))


@torch.library.custom_op("hyperagg::scan_backward", mutates_args=(), device_types="cpu")
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
    """Gradients of x, p, decay, gate and initial, those of absent inputs without rows."""
    inputs = _inputs(x, p, decay, gate, initial, before, starts, lengths)
    wide = accumulator_dtype(x.dtype)
    states = None
    if decay is not None or gate is not None:
        states = y
        if power or len(y) != len(x) or y.dtype != wide:
            # y is not the running sum, or not all of its digits.
            states = torch.empty_like(x, dtype=wide)
            last = np.empty_like(inputs.initial)
            cpu_scan.scan(*inputs, 0.0, states.numpy(), last)
    x_grad = _padded(x, lengths, x.dtype)
    p_grad = x.new_zeros(0 if p is None else len(p), x.shape[1], dtype=wide)
    decay_grad = torch.zeros(0, dtype=wide) if decay is None else torch.zeros_like(decay)
    gate_grad = x.new_empty(0, x.shape[1]) if gate is None else _padded(gate, lengths, x.dtype)
    initial_grad = torch.empty(inputs.initial.shape, dtype=wide)
    cpu_scan.scan_backward(
        None if y_grad is None else _array(y_grad),
        np.zeros_like(inputs.initial) if carried_grad is None else carried_grad.numpy(),
        *inputs[:4],
        None if states is None else states.numpy(),
        *inputs[4:],
        power,
        _array(x_grad),
        p_grad.numpy(),
        _numbers(decay_grad),
        None if gate is None else _array(gate_grad),
        initial_grad.numpy(),
    )
    return x_grad, p_grad, decay_grad, gate_grad, initial_grad


@scan_backward.register_fake
def _(y_grad, carried_grad, x, p, decay, gate, initial, before, starts, lengths, y, power):
    d = x.shape[1]
    wide = accumulator_dtype(x.dtype)
    return (
        torch.empty_like(x),
        x.new_empty(0 if p is None else p.shape[0], d, dtype=wide),
        x.new_empty(0, dtype=wide) if decay is None else torch.empty_like(decay),
        x.new_empty(0 if gate is None else x.shape[0], d),
        x.new_empty(starts.shape[0], d, dtype=wide),
    )


def _save_scan(ctx, inputs, output) -> None:
    *tensors, ctx.power, ctx.pooled = inputs
    ctx.set_materialize_grads(False)
    # The sums are needed for the gradient of what fades them, and for that alone.
    y = output[0] if tensors[2] is not None or tensors[3] is not None else tensors[0][:0]
    ctx.save_for_backward(*tensors, y)


def _backward_scan(ctx, y_grad, carried_grad):
    *tensors, y = ctx.saved_tensors
    _, p, decay, gate, initial, *_ = tensors
    x_grad, p_grad, decay_grad, gate_grad, initial_grad = scan_backward(
        None if ctx.pooled or y_grad is None else y_grad.contiguous(),
        None if carried_grad is None else carried_grad.contiguous(),
        *tensors,
        y,
        ctx.power,
    )
    grads = (
        x_grad,
        None if p is None else p_grad,
        None if decay is None else decay_grad,
        None if gate is None else gate_grad,
        None if initial is None else initial_grad,
    )
    return *grads, None, None, None, None, None


scan.register_autograd(_backward_scan, setup_context=_save_scan)


@torch.library.custom_op("hyperagg::window", mutates_args=(), device_types="cpu")
def window(
    x: Tensor,
    p: Tensor | None,
    before: Tensor | None,
    starts: Tensor,
    lengths: Tensor,
    size: int,
    power: float,
) -> Tensor:
    """y (T, D): sums over the `size` newest tokens of each row."""
    y = _padded(x, lengths, accumulator_dtype(x.dtype))
    inputs = _inputs(x, p, None, None, None, before, starts, lengths)
    cpu_window.window(inputs.x, inputs.p, *inputs[5:], size, power, y.numpy(), False)
    return y.to(x.dtype)


@window.register_fake
def _(x, p, before, starts, lengths, size, power):
    return torch.empty_like(x)


@torch.library.custom_op("hyperagg::window_backward", mutates_args=(), device_types="cpu")
def window_backward(
    y_grad: Tensor,
    x: Tensor,
    p: Tensor | None,
    before: Tensor | None,
    starts: Tensor,
    lengths: Tensor,
    size: int,
    power: float,
) -> tuple[Tensor, Tensor]:
    """Gradients of x and p."""
    g = _padded(x, lengths, accumulator_dtype(x.dtype))
    inputs = _inputs(y_grad, None, None, None, None, before, starts, lengths)
    cpu_window.window(inputs.x, None, *inputs[5:], size, power, g.numpy(), True)
    if p is None:
        return g.to(x.dtype), g.new_empty(0, g.shape[1])
    x_grad, p_grad = _padded(x, lengths, x.dtype), torch.zeros_like(p)
    cpu_window.multiply_backward(
        g.numpy(), _array(x), _array(p), *inputs[6:], _array(x_grad), p_grad.numpy()
    )
    return x_grad, p_grad


@window_backward.register_fake
def _(y_grad, x, p, before, starts, lengths, size, power):
    p_rows = 0 if p is None else p.shape[0]
    return torch.empty_like(x), x.new_empty(p_rows, x.shape[1], dtype=accumulator_dtype(x.dtype))


def _save_window(ctx, inputs, output) -> None:
    *tensors, ctx.size, ctx.power = inputs
    ctx.save_for_backward(*tensors)


def _backward_window(ctx, y_grad):
    x, p, *rows = ctx.saved_tensors
    x_grad, p_grad = window_backward(y_grad.contiguous(), x, p, *rows, ctx.size, ctx.power)
    return x_grad, None if p is None else p_grad, None, None, None, None, None


window.register_autograd(_backward_window, setup_context=_save_window)


def _on_gpu(name: str, op: torch.library.CustomOpDef) -> None:
    """Registers the kernel of that name in `gpu`, which is imported when it is called."""

    @op.register_kernel("cuda")
    def _(*args):
        from hyperagg.ops import gpu

        return getattr(gpu, name)(*args)


def _one_by_one(op: torch.library.CustomOpDef) -> None:
    """vmap calls the op for each example: whatever is batched, the rows are full of work."""

    @op.register_vmap
    def _(info, in_dims, *args):
        found = [
            op(*(a if dim is None else a.select(dim, i) for a, dim in zip(args, in_dims)))
            for i in range(info.batch_size)
        ]
        if isinstance(found[0], Tensor):
            return torch.stack(found), 0
        return tuple(map(torch.stack, zip(*found))), (0,) * len(found[0])


for _name, _op in {
    "scan": scan,
    "scan_backward": scan_backward,
    "window": window,
    "window_backward": window_backward,
}.items():
    _on_gpu(_name, _op)
    _one_by_one(_op)


def _padded(x: Tensor, lengths: Tensor, dtype: torch.dtype) -> Tensor:
    """Memory of the shape of x for a kernel to fill; zero where the kernel passes padding by."""
    whole = int(lengths.sum()) == len(x)
    return torch.empty_like(x, dtype=dtype) if whole else torch.zeros_like(x, dtype=dtype)


def _array(tensor: Tensor) -> np.ndarray:
    """The memory of a tensor; bfloat16, which NumPy has not, as its bits."""
    tensor = tensor.detach()
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _inputs(
    x: Tensor,
    p: Tensor | None,
    decay: Tensor | None,
    gate: Tensor | None,
    initial: Tensor | None,
    before: Tensor | None,
    starts: Tensor,
    lengths: Tensor,
) -> _Inputs:
    d, rows, wide = x.shape[1], len(starts), accumulator_dtype(x.dtype)
    return _Inputs(
        _array(x),
        None if p is None else _array(p),
        None if decay is None else _numbers(decay),
        None if gate is None else _array(gate),
        torch.zeros(rows, d, dtype=wide).numpy() if initial is None else _array(initial),
        np.zeros(rows, np.int64) if before is None else before.numpy(),
        starts.numpy(),
        lengths.numpy(),
    )


def _numbers(decay: Tensor) -> np.ndarray:
    """A decay's real numbers, or its pairs as complex ones, in the same memory."""
    decay = decay.detach()
    return (decay if decay.ndim == 1 else torch.view_as_complex(decay)).numpy()


@torch.library.custom_op("hyperagg::aggregate_tokens", mutates_args=(), device_types="cpu")
def aggregate_tokens(
    token_ids: Tensor,
    embedding: Tensor,
    starts: Tensor,
    lengths: Tensor,
    p: Tensor | None,
    position_ids: Tensor | None,
    weights: Tensor | None,
    power: float,
) -> Tensor:
    return torch.from_numpy(
        cpu_tokens.aggregate_tokens(
            *_arrays(token_ids, embedding, starts, lengths, p, position_ids, weights, power)
        )
    )


@aggregate_tokens.register_fake
def _(token_ids, embedding, starts, lengths, p, position_ids, weights, power):
    return embedding.new_empty(starts.shape[0], embedding.shape[1])


@torch.library.custom_op("hyperagg::aggregate_tokens_backward", mutates_args=(), device_types="cpu")
def aggregate_tokens_backward(
    grad: Tensor,
    token_ids: Tensor,
    embedding: Tensor,
    starts: Tensor,
    lengths: Tensor,
    p: Tensor | None,
    position_ids: Tensor | None,
    weights: Tensor | None,
    power: float,
) -> tuple[Tensor, Tensor, Tensor]:
    arrays = _arrays(token_ids, embedding, starts, lengths, p, position_ids, weights, power)
    rows, row_grads, p_grad = cpu_tokens.aggregate_tokens_backward(grad.numpy(), *arrays)
    return torch.from_numpy(rows).long(), torch.from_numpy(row_grads), torch.from_numpy(p_grad)


@aggregate_tokens_backward.register_fake
def _(grad, token_ids, embedding, starts, lengths, p, position_ids, weights, power):
    used = torch.library.get_ctx().new_dynamic_size()
    p_grad = embedding.new_empty(0, embedding.shape[1]) if p is None else torch.empty_like(p)
    rows = token_ids.new_empty(used, dtype=torch.int64)
    return rows, embedding.new_empty(used, embedding.shape[1]), p_grad


def _save(ctx, inputs, output) -> None:
    *tensors, ctx.power = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx, grad):
    token_ids, embedding, starts, lengths, p, position_ids, weights = ctx.saved_tensors
    rows, row_grads, p_grad = aggregate_tokens_backward(
        grad, token_ids, embedding, starts, lengths, p, position_ids, weights, ctx.power
    )
    embedding_grad = torch.sparse_coo_tensor(
        rows[None], row_grads, embedding.shape, is_coalesced=True, check_invariants=False
    )
    return None, embedding_grad, None, None, None if p is None else p_grad, None, None, None


aggregate_tokens.register_autograd(_backward, setup_context=_save)


def _arrays(
    token_ids: Tensor,
    embedding: Tensor,
    starts: Tensor,
    lengths: Tensor,
    p: Tensor | None,
    position_ids: Tensor | None,
    weights: Tensor | None,
    power: float,
) -> tuple[Any, ...]:
    """The op's arguments as the kernels take them."""
    table, counts = embedding.detach().numpy(), lengths.numpy()
    scale = (np.maximum(counts, 1) ** -power).astype(table.dtype)
    places = None if p is None else p.detach().numpy()
    blocks = None if position_ids is None else position_ids.numpy()
    own = None if weights is None else weights.numpy()
    return token_ids.numpy(), table, starts.numpy(), counts, places, blocks, own, scale
