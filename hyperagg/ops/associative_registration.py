"""The kernels of associative sums as custom operators of PyTorch, with fakes, gradients and vmap.

Tokens are flat: q and k (T, H, K), v (T, H, E), beta (T, H), decay (T, H, 1) or (T, H, K);
`starts` and `lengths` (R,) are the first token and the number of tokens of each row. An absent
result is an empty tensor. beta, decay and states are float32.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, library

from hyperagg.ops.cpu import associative as kernels
from hyperagg.ops.registration import (
    output_like,
    refuse_second_derivatives,
    register_gpu,
    register_vmap,
    to_array,
)

__all__ = ["associative"]


@library.custom_op("hyperagg::associative", mutates_args=(), device_types="cpu")
def associative(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor | None,
    decay: Tensor | None,
    initial: Tensor | None,
    starts: Tensor,
    lengths: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return o (T, H, E) and the last state of each row, (R, H, K, E)."""
    o = output_like(v, lengths, v.dtype)
    sums = _states_like(q, v, starts)
    inputs = _inputs(q, k, v, beta, decay, initial, starts, lengths)
    kernels.associative(inputs, to_array(o), to_array(sums))
    return o, sums


@associative.register_fake
def _(q, k, v, beta, decay, initial, starts, lengths):
    return torch.empty_like(v), _states_like(q, v, starts)


@library.custom_op("hyperagg::associative_backward", mutates_args=(), device_types="cpu")
def associative_backward(
    o_grad: Tensor | None,
    sums_grad: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor | None,
    decay: Tensor | None,
    initial: Tensor | None,
    starts: Tensor,
    lengths: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of q, k, v, beta, decay and initial."""
    inputs = _inputs(q, k, v, beta, decay, initial, starts, lengths)
    o_grad = torch.zeros_like(v) if o_grad is None else o_grad.contiguous()
    initial_grad = _states_like(q, v, starts)
    sums_grad = torch.zeros_like(initial_grad) if sums_grad is None else sums_grad.contiguous()
    q_grad, k_grad, v_grad = (output_like(each, lengths, each.dtype) for each in (q, k, v))
    beta_grad, decay_grad = (
        q.new_empty(0, dtype=torch.float32)
        if each is None
        else output_like(each, lengths, each.dtype)
        for each in (beta, decay)
    )
    grads = kernels.Gradients(
        to_array(q_grad),
        to_array(k_grad),
        to_array(v_grad),
        np.empty_like(inputs.beta) if beta is None else to_array(beta_grad),
        np.empty_like(inputs.decay) if decay is None else to_array(decay_grad),
        to_array(initial_grad),
    )
    kernels.associative_backward(inputs, to_array(o_grad), to_array(sums_grad), grads)
    return q_grad, k_grad, v_grad, beta_grad, decay_grad, initial_grad


@associative_backward.register_fake
def _(o_grad, sums_grad, q, k, v, beta, decay, initial, starts, lengths):
    empty = q.new_empty(0, dtype=torch.float32)
    return (
        *(torch.empty_like(each) for each in (q, k, v)),
        *(empty.new_empty(0) if each is None else torch.empty_like(each) for each in (beta, decay)),
        _states_like(q, v, starts),
    )


def _save(ctx, inputs, output) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs)


def _backward(ctx, o_grad, sums_grad):
    inputs = ctx.saved_tensors
    grads = associative_backward(o_grad, sums_grad, *inputs)
    return *(None if x is None else g for x, g in zip(inputs, grads)), None, None


associative.register_autograd(_backward, setup_context=_save)
associative_backward.register_autograd(refuse_second_derivatives)
for _name, _op in {
    "associative": associative,
    "associative_backward": associative_backward,
}.items():
    register_gpu(_name, _op)
    register_vmap(_op)


def _states_like(q: Tensor, v: Tensor, starts: Tensor) -> Tensor:
    return q.new_empty(starts.shape[0], *q.shape[1:], v.shape[2], dtype=torch.float32)


def _inputs(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor | None,
    decay: Tensor | None,
    initial: Tensor | None,
    starts: Tensor,
    lengths: Tensor,
) -> kernels.Inputs:
    """The inputs of an operator as the kernels take them.

    All of them are contiguous, as the gradients and what vmap selects may not be: a kernel is
    compiled anew for other strides.
    """
    heads = q.shape[1]
    if initial is None:
        initial = torch.zeros_like(_states_like(q, v, starts))
    return kernels.Inputs(
        to_array(q.contiguous()),
        to_array(k.contiguous()),
        to_array(v.contiguous()),
        np.empty((0, heads), np.float32) if beta is None else to_array(beta.contiguous()),
        np.empty((0, heads, 1), np.float32) if decay is None else to_array(decay.contiguous()),
        to_array(initial.contiguous()),
        to_array(starts.contiguous()),
        to_array(lengths.contiguous()),
    )
