"""The kernels as custom operators of PyTorch, with fake implementations, gradients and vmap.

Tokens are flat, x (T, D); `starts` and `lengths` (R,) are the first token and the number of tokens
of each row, that is of each sequence. An absent result is an empty tensor. The gradient of an
embedding is row-sparse, so that a training step costs O(tokens) and not O(vocabulary).
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, library

from hyperagg.ops.cpu import scan as cpu_scan
from hyperagg.ops.cpu import tokens as cpu_tokens
from hyperagg.ops.cpu import window as cpu_window

_A = np.ndarray

__all__ = [
    "accumulator_dtype_of",
    "aggregate_tokens",
    "output_like",
    "refuse_second_derivatives",
    "register_gpu",
    "register_vmap",
    "scan",
    "to_array",
    "window",
]


class _Inputs(NamedTuple):
    """The inputs of an operator as the kernels take them."""

    x: _A
    p: _A | None
    decay: _A | None
    gate: _A | None
    initial: _A
    tokens_before: _A
    starts: _A
    lengths: _A


def accumulator_dtype_of(dtype: torch.dtype) -> torch.dtype:
    """Return the type of the sums of a `dtype` input: float32 or better."""
    return torch.promote_types(dtype, torch.float32)


@library.custom_op("hyperagg::scan", mutates_args=(), device_types="cpu")
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
    """Return y (T, D), empty if `pooled`, and the last sums of each row, (R, D).

    p (P, D), initial (R, D), decay and the sums have the accumulator type. decay is (D,), or
    (D / 2, 2) for the real and imaginary parts of complex factors. gate (T, D) has the type of x.
    tokens_before (R,) is the number of tokens in `initial`.
    """
    y = x.new_empty(0, x.shape[1]) if pooled else output_like(x, lengths, x.dtype)
    sums = x.new_empty(len(starts), x.shape[1], dtype=accumulator_dtype_of(x.dtype))
    inputs = _inputs(x, p, decay, gate, initial, tokens_before, starts, lengths)
    cpu_scan.scan(*inputs, norm_exponent, None if pooled else to_array(y), to_array(sums))
    return y, sums


@scan.register_fake
def _(x, p, decay, gate, initial, tokens_before, starts, lengths, norm_exponent, pooled):
    y = x.new_empty(0 if pooled else x.shape[0], x.shape[1])
    return y, x.new_empty(starts.shape[0], x.shape[1], dtype=accumulator_dtype_of(x.dtype))


@library.custom_op("hyperagg::scan_backward", mutates_args=(), device_types="cpu")
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
    """Return the gradients of x, p, decay, gate and initial; those of absent inputs are empty."""
    inputs = _inputs(x, p, decay, gate, initial, tokens_before, starts, lengths)
    accumulator_dtype = accumulator_dtype_of(x.dtype)
    states = None
    if decay is not None or gate is not None:
        states = y
        if norm_exponent or len(y) != len(x) or y.dtype != accumulator_dtype:
            # y is normalized, incomplete or rounded, so the running sums are computed again.
            states = torch.empty_like(x, dtype=accumulator_dtype)
            last_sums = np.empty_like(inputs.initial)
            cpu_scan.scan(*inputs, 0.0, to_array(states), last_sums)
    x_grad = output_like(x, lengths, x.dtype)
    p_grad = x.new_zeros(0 if p is None else len(p), x.shape[1], dtype=accumulator_dtype)
    decay_grad = (
        torch.zeros(0, dtype=accumulator_dtype) if decay is None else torch.zeros_like(decay)
    )
    gate_grad = x.new_empty(0, x.shape[1]) if gate is None else output_like(gate, lengths, x.dtype)
    initial_grad = torch.empty(inputs.initial.shape, dtype=accumulator_dtype)
    cpu_scan.scan_backward(
        None if y_grad is None else to_array(y_grad),
        np.zeros_like(inputs.initial) if sums_grad is None else to_array(sums_grad),
        *inputs[:4],
        None if states is None else to_array(states),
        *inputs[4:],
        norm_exponent,
        to_array(x_grad),
        to_array(p_grad),
        _decay_array(decay_grad),
        None if gate is None else to_array(gate_grad),
        to_array(initial_grad),
    )
    return x_grad, p_grad, decay_grad, gate_grad, initial_grad


@scan_backward.register_fake
def _(
    y_grad, sums_grad, x, p, decay, gate, initial, tokens_before, starts, lengths, y, norm_exponent
):
    d = x.shape[1]
    accumulator_dtype = accumulator_dtype_of(x.dtype)
    return (
        torch.empty_like(x),
        x.new_empty(0 if p is None else p.shape[0], d, dtype=accumulator_dtype),
        x.new_empty(0, dtype=accumulator_dtype) if decay is None else torch.empty_like(decay),
        x.new_empty(0 if gate is None else x.shape[0], d),
        x.new_empty(starts.shape[0], d, dtype=accumulator_dtype),
    )


def _save_scan(ctx, inputs, output) -> None:
    *tensors, ctx.norm_exponent, ctx.pooled = inputs
    ctx.set_materialize_grads(False)
    # Only the gradients of a decay and a gate need the sums.
    y = output[0] if tensors[2] is not None or tensors[3] is not None else tensors[0][:0]
    ctx.save_for_backward(*tensors, y)


def _backward_scan(ctx, y_grad, sums_grad):
    *tensors, y = ctx.saved_tensors
    _, p, decay, gate, initial, *_ = tensors
    x_grad, p_grad, decay_grad, gate_grad, initial_grad = scan_backward(
        None if ctx.pooled or y_grad is None else y_grad.contiguous(),
        None if sums_grad is None else sums_grad.contiguous(),
        *tensors,
        y,
        ctx.norm_exponent,
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


@library.custom_op("hyperagg::window", mutates_args=(), device_types="cpu")
def window(
    x: Tensor,
    p: Tensor | None,
    tokens_before: Tensor | None,
    starts: Tensor,
    lengths: Tensor,
    size: int,
    norm_exponent: float,
) -> Tensor:
    """Return y (T, D): the sums over the `size` newest tokens of each row."""
    y = output_like(x, lengths, accumulator_dtype_of(x.dtype))
    inputs = _inputs(x, p, None, None, None, tokens_before, starts, lengths)
    cpu_window.window(inputs.x, inputs.p, *inputs[5:], size, norm_exponent, to_array(y), False)
    return y.to(x.dtype)


@window.register_fake
def _(x, p, tokens_before, starts, lengths, size, norm_exponent):
    return torch.empty_like(x)


@library.custom_op("hyperagg::window_backward", mutates_args=(), device_types="cpu")
def window_backward(
    y_grad: Tensor,
    x: Tensor,
    p: Tensor | None,
    tokens_before: Tensor | None,
    starts: Tensor,
    lengths: Tensor,
    size: int,
    norm_exponent: float,
) -> tuple[Tensor, Tensor]:
    """Return the gradients of x and p."""
    g = output_like(x, lengths, accumulator_dtype_of(x.dtype))
    inputs = _inputs(y_grad, None, None, None, None, tokens_before, starts, lengths)
    cpu_window.window(inputs.x, None, *inputs[5:], size, norm_exponent, to_array(g), True)
    if p is None:
        return g.to(x.dtype), g.new_empty(0, g.shape[1])
    x_grad, p_grad = output_like(x, lengths, x.dtype), torch.zeros_like(p)
    cpu_window.multiply_backward(
        to_array(g), to_array(x), to_array(p), *inputs[6:], to_array(x_grad), to_array(p_grad)
    )
    return x_grad, p_grad


@window_backward.register_fake
def _(y_grad, x, p, tokens_before, starts, lengths, size, norm_exponent):
    p_rows = 0 if p is None else p.shape[0]
    return torch.empty_like(x), x.new_empty(p_rows, x.shape[1], dtype=accumulator_dtype_of(x.dtype))


def _save_window(ctx, inputs, output) -> None:
    *tensors, ctx.size, ctx.norm_exponent = inputs
    ctx.save_for_backward(*tensors)


def _backward_window(ctx, y_grad):
    x, p, *rows = ctx.saved_tensors
    x_grad, p_grad = window_backward(y_grad.contiguous(), x, p, *rows, ctx.size, ctx.norm_exponent)
    return x_grad, None if p is None else p_grad, None, None, None, None, None


window.register_autograd(_backward_window, setup_context=_save_window)


def refuse_second_derivatives(ctx, *grads):
    raise NotImplementedError(
        "second derivatives: the kernels have none; expected impl='plain', or torch.func.hessian"
    )


for _backward_op in (scan_backward, window_backward):
    _backward_op.register_autograd(refuse_second_derivatives)


def register_gpu(name: str, op: library.CustomOpDef) -> None:
    """Register the function of that name in `gpu`, which the first call imports."""

    @op.register_kernel("cuda")
    def _(*args):
        from hyperagg.ops import gpu

        # Triton launches kernels on the current GPU, which need not be that of the tensors.
        with torch.cuda.device_of(next(each for each in args if isinstance(each, Tensor))):
            return getattr(gpu, name)(*args)


def register_vmap(op: library.CustomOpDef) -> None:
    """Let vmap call the operator once per example; each call has enough work for all threads."""

    @op.register_vmap
    def _(info, in_dims, *args):
        results = [
            op(*(a if dim is None else a.select(dim, i) for a, dim in zip(args, in_dims)))
            for i in range(info.batch_size)
        ]
        if isinstance(results[0], Tensor):
            return torch.stack(results), 0
        return tuple(map(torch.stack, zip(*results))), (0,) * len(results[0])


for _name, _op in {
    "scan": scan,
    "scan_backward": scan_backward,
    "window": window,
    "window_backward": window_backward,
}.items():
    register_gpu(_name, _op)
    register_vmap(_op)


def output_like(x: Tensor, lengths: Tensor, dtype: torch.dtype) -> Tensor:
    """A tensor of the shape of x for a kernel to fill; zero where the kernel skips padding."""
    no_padding = int(lengths.sum()) == len(x)
    return torch.empty_like(x, dtype=dtype) if no_padding else torch.zeros_like(x, dtype=dtype)


class _Memory:
    """Describe the memory of a tensor to NumPy, and keep it alive.

    `Tensor.numpy` would make the storage one that cannot be resized, even after the array is gone,
    and FSDP resizes the storages of parameters.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        size = tensor.element_size()
        self.__array_interface__ = {
            "version": 3,
            "typestr": _array_type(tensor.dtype),
            "data": (tensor.data_ptr(), False),  # False: it can be written to
            "shape": tuple(tensor.shape),
            "strides": tuple(size * stride for stride in tensor.stride()),
        }


@cache
def _array_type(dtype: torch.dtype) -> str:
    dtype = torch.uint16 if dtype == torch.bfloat16 else dtype
    return torch.empty(0, dtype=dtype, device="cpu").numpy().dtype.str


def to_array(tensor: Tensor) -> np.ndarray:
    """The memory of a tensor as an array; bfloat16, which NumPy lacks, as uint16."""
    return np.asarray(_Memory(tensor))


def _inputs(
    x: Tensor,
    p: Tensor | None,
    decay: Tensor | None,
    gate: Tensor | None,
    initial: Tensor | None,
    tokens_before: Tensor | None,
    starts: Tensor,
    lengths: Tensor,
) -> _Inputs:
    d, rows, accumulator_dtype = x.shape[1], len(starts), accumulator_dtype_of(x.dtype)
    return _Inputs(
        to_array(x),
        None if p is None else to_array(p),
        None if decay is None else _decay_array(decay),
        None if gate is None else to_array(gate),
        to_array(torch.zeros(rows, d, dtype=accumulator_dtype) if initial is None else initial),
        np.zeros(rows, np.int64) if tokens_before is None else to_array(tokens_before),
        to_array(starts),
        to_array(lengths),
    )


def _decay_array(decay: Tensor) -> np.ndarray:
    """A decay as an array that shares its memory, with (D / 2, 2) pairs as complex numbers."""
    return to_array(decay if decay.ndim == 1 else torch.view_as_complex(decay.detach()))


@library.custom_op("hyperagg::aggregate_tokens", mutates_args=(), device_types="cpu")
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
    return torch.from_numpy(
        cpu_tokens.aggregate_tokens(
            *_arrays(token_ids, embedding, starts, lengths, p, position_ids, weights, norm_exponent)
        )
    )


@aggregate_tokens.register_fake
def _(token_ids, embedding, starts, lengths, p, position_ids, weights, norm_exponent):
    return embedding.new_empty(starts.shape[0], embedding.shape[1])


@library.custom_op("hyperagg::aggregate_tokens_backward", mutates_args=(), device_types="cpu")
def aggregate_tokens_backward(
    grad: Tensor,
    token_ids: Tensor,
    embedding: Tensor,
    starts: Tensor,
    lengths: Tensor,
    p: Tensor | None,
    position_ids: Tensor | None,
    weights: Tensor | None,
    norm_exponent: float,
) -> tuple[Tensor, Tensor, Tensor]:
    arrays = _arrays(token_ids, embedding, starts, lengths, p, position_ids, weights, norm_exponent)
    rows, row_grads, p_grad = cpu_tokens.aggregate_tokens_backward(to_array(grad), *arrays)
    return torch.from_numpy(rows).long(), torch.from_numpy(row_grads), torch.from_numpy(p_grad)


@aggregate_tokens_backward.register_fake
def _(grad, token_ids, embedding, starts, lengths, p, position_ids, weights, norm_exponent):
    num_rows = library.get_ctx().new_dynamic_size()
    p_grad = embedding.new_empty(0, embedding.shape[1]) if p is None else torch.empty_like(p)
    rows = token_ids.new_empty(num_rows, dtype=torch.int64)
    return rows, embedding.new_empty(num_rows, embedding.shape[1]), p_grad


def _save_tokens(ctx, inputs, output) -> None:
    *tensors, ctx.norm_exponent = inputs
    ctx.save_for_backward(*tensors)


def _backward_tokens(ctx, grad):
    token_ids, embedding, starts, lengths, p, position_ids, weights = ctx.saved_tensors
    rows, row_grads, p_grad = aggregate_tokens_backward(
        grad, token_ids, embedding, starts, lengths, p, position_ids, weights, ctx.norm_exponent
    )
    embedding_grad = torch.sparse_coo_tensor(
        rows[None], row_grads, embedding.shape, is_coalesced=True, check_invariants=False
    )
    return None, embedding_grad, None, None, None if p is None else p_grad, None, None, None


aggregate_tokens.register_autograd(_backward_tokens, setup_context=_save_tokens)


def _arrays(
    token_ids: Tensor,
    embedding: Tensor,
    starts: Tensor,
    lengths: Tensor,
    p: Tensor | None,
    position_ids: Tensor | None,
    weights: Tensor | None,
    norm_exponent: float,
) -> tuple[Any, ...]:
    """The inputs of the operator as the kernels take them."""
    table, counts = to_array(embedding), to_array(lengths)
    scale = (np.maximum(counts, 1) ** -norm_exponent).astype(table.dtype)
    return (
        to_array(token_ids),
        table,
        to_array(starts),
        counts,
        None if p is None else to_array(p),
        None if position_ids is None else to_array(position_ids),
        None if weights is None else to_array(weights),
        scale,
    )
