"""The kernel of the short convolution equals its plain form, with all gradients."""

from __future__ import annotations

import pytest
import torch
from torch import library
from torch.autograd import forward_ad

from hyperagg._numba.threads import limit_threads
from hyperagg.ops import convolution
from hyperagg.ops.convolution import short_convolution


def by_definition(inputs, weight, preceding):
    """One token and one term at a time."""
    size = len(weight)
    rows = []
    for row, x in enumerate(inputs):
        tokens = []
        for t in range(len(x) - size + 1):
            terms = size if preceding is None else min(size, int(preceding[row, t]) + 1)
            tokens.append(sum(weight[j] * x[t + size - 1 - j] for j in range(terms)))
        rows.append(torch.stack(tokens))
    return torch.stack(rows)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("size", [1, 3, 4])
@pytest.mark.parametrize("packed", [False, True])
def test_it_equals_its_definition_with_all_gradients(dtype, size, packed):
    batch, n, channels = 2, 150, 5
    inputs = torch.randn(batch, size - 1 + n, channels).to(dtype)
    weight = torch.randn(size, channels).to(dtype if dtype == torch.float64 else torch.float32)
    preceding = torch.arange(n).remainder(7).expand(batch, n) if packed else None
    direction = torch.randn(batch, n, channels)
    results = []
    for function, type_ in ((short_convolution, None), (by_definition, torch.float64)):
        x, w = (t.to(type_ or t.dtype).requires_grad_() for t in (inputs.clone(), weight.clone()))
        y = function(x, w, preceding)
        results.append([y, *torch.autograd.grad(y, (x, w), direction.to(y.dtype))])
        if type_ is None:
            assert y.dtype == torch.promote_types(dtype, weight.dtype)
    for name, got, want in zip(("y", "inputs", "weight"), *results):
        error = (got.double() - want).abs().max() / (1 + want.abs().max())
        assert error <= 8 * torch.finfo(got.dtype).eps, name


def test_inputs_of_other_sequences_are_not_read():
    weight, inputs = torch.randn(4, 3), torch.randn(1, 8, 3)
    inputs[:, :5] = torch.nan
    inputs.requires_grad_()
    y = short_convolution(inputs, weight, torch.tensor([[0, 0, 0, 1, 2]]))[:, 2:]
    assert y.isfinite().all()
    (grad,) = torch.autograd.grad(y.sum(), inputs)
    assert grad[:, 5:].isfinite().all()


def test_transforms_and_the_operator():
    inputs, weight = torch.randn(3, 2, 9, 4, requires_grad=True), torch.randn(4, 4)
    preceding = torch.arange(6).expand(2, 6)
    got = torch.vmap(lambda x: short_convolution(x, weight, preceding))(inputs)
    want = torch.stack([short_convolution(x, weight, preceding) for x in inputs])
    torch.testing.assert_close(got, want)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(inputs[0].detach(), torch.ones(2, 9, 4))
        tangent = forward_ad.unpack_dual(short_convolution(dual, weight, None)).tangent
    torch.testing.assert_close(tangent, weight.sum(0).expand(2, 6, 4))
    x = inputs[0].detach().requires_grad_()
    library.opcheck(convolution._convolution, (x, weight, preceding, torch.float32))


def test_same_bits_for_any_number_of_threads():
    inputs, weight = torch.randn(3, 1003, 96), torch.randn(4, 96)
    threads, results = torch.get_num_threads(), []
    try:
        for number in (1, 2, 5):
            torch.set_num_threads(number)
            with limit_threads(number):
                x, w = (t.clone().requires_grad_() for t in (inputs, weight))
                y = short_convolution(x, w, None)
                results.append([y, *torch.autograd.grad(y.square().sum(), (x, w))])
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))
