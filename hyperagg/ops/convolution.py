"""The short causal convolution of the mixers of `hyperagg.layers`; not a part of the public names.

y_t = sum_{j < K} w_j * x_{t - j}

over the inputs of the same sequence, per channel.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor, library

from hyperagg.ops.cpu import convolution as kernels
from hyperagg.ops.registration import refuse_second_derivatives, register_vmap, to_array
from hyperagg.ops.transforms import active_transform

__all__ = ["short_convolution"]

_KERNEL_DTYPES = (torch.float32, torch.bfloat16)


def short_convolution(inputs: Tensor, weight: Tensor, preceding: Tensor | None) -> Tensor:
    """Return the weighted sum of the K latest inputs of each token.

    Args:
        inputs: (B, K - 1 + N, C), of which the first K - 1 of each row precede its tokens.
        weight: (K, C).
        preceding: (B, N) the number of inputs of the same sequence before each token, of which the
            others are not read. None: all K - 1 are.

    Returns:
        (B, N, C), in the type to which those of the inputs and the weight promote.

    Cost: O(B N K C), on CPUs in one pass over the inputs and one over the outputs.

    >>> ones = torch.ones(1, 4, 1)
    >>> short_convolution(ones, torch.tensor([[1.0], [10.0]]), torch.tensor([[0, 1, 2]])).flatten()
    tensor([ 1., 11., 11.])
    """
    dtype = torch.promote_types(inputs.dtype, weight.dtype)
    before = len(weight) - 1
    n = inputs.shape[1] - before
    if (
        n > 1  # a call of the kernel takes longer than the operations on one token
        and inputs.device.type == "cpu"
        and inputs.dtype in _KERNEL_DTYPES
        and dtype in _KERNEL_DTYPES
        and not numba.config.DISABLE_JIT
        and not active_transform()
    ):
        return _convolution(inputs.contiguous(), weight.float().contiguous(), preceding, dtype)
    y = weight[0] * inputs[:, before:]
    for j in range(1, before + 1):
        shifted = inputs[:, before - j : before - j + n]
        if preceding is not None:
            shifted = shifted.masked_fill((preceding < j)[..., None], 0)
        y = y + weight[j] * shifted
    return y


@library.custom_op("hyperagg::short_convolution", mutates_args=(), device_types="cpu")
def _convolution(
    inputs: Tensor, weight: Tensor, preceding: Tensor | None, dtype: torch.dtype
) -> Tensor:
    y = inputs.new_empty(_output_shape(inputs, weight), dtype=dtype)
    kernels.short_convolution(*_arrays(inputs, weight, preceding), to_array(y))
    return y


@_convolution.register_fake
def _(inputs, weight, preceding, dtype):
    return inputs.new_empty(_output_shape(inputs, weight), dtype=dtype)


@library.custom_op("hyperagg::short_convolution_backward", mutates_args=(), device_types="cpu")
def _convolution_backward(
    y_grad: Tensor, inputs: Tensor, weight: Tensor, preceding: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the gradients of the inputs and of the weight."""
    inputs_grad, weight_grad = (x.new_empty(x.shape) for x in (inputs, weight))
    kernels.short_convolution_backward(
        to_array(y_grad.contiguous()),
        *_arrays(inputs, weight, preceding),
        to_array(inputs_grad),
        to_array(weight_grad),
    )
    return inputs_grad, weight_grad


@_convolution_backward.register_fake
def _(y_grad, inputs, weight, preceding):
    return inputs.new_empty(inputs.shape), weight.new_empty(weight.shape)


def _save(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs[:3])


def _backward(ctx, y_grad):
    return *_convolution_backward(y_grad, *ctx.saved_tensors), None, None


_convolution.register_autograd(_backward, setup_context=_save)
_convolution_backward.register_autograd(refuse_second_derivatives)
register_vmap(_convolution)
register_vmap(_convolution_backward)


def _output_shape(inputs: Tensor, weight: Tensor) -> tuple[int, ...]:
    return inputs.shape[0], inputs.shape[1] - weight.shape[0] + 1, inputs.shape[2]


def _arrays(
    inputs: Tensor, weight: Tensor, preceding: Tensor | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The arguments as the kernels take them; vmap may select what is not contiguous."""
    return (
        to_array(inputs.contiguous()),
        to_array(weight.contiguous()),
        np.empty((0, 0), np.int64)
        if preceding is None
        else to_array(preceding.long().contiguous()),
    )
