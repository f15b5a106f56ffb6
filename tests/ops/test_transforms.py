"""Derivatives of all kinds are those of the definition, or are refused; none of them is zero."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vmap

from hyperagg import ops
from hyperagg.ops import Causal, Documents, Full, Prefix, Window, reference

B, N, D = 2, 5, 4


def call(x, decay, gate, p, sums, *, kind, impl="auto"):
    mask = {"window": Window(3), "prefix": Prefix(2), "full": Full()}.get(kind, Causal())
    options = {}
    if kind == "decay":
        options = dict(decay=torch.sigmoid(decay))
    if kind == "complex decay":
        options = dict(decay=torch.polar(torch.sigmoid(decay[:2]), decay[2:]))
    if kind == "gate":
        options = dict(gate=torch.sigmoid(gate))
    if kind == "state":
        state = ops.State(sums, torch.full((B,), 3))
        options = dict(initial_state=state, normalize="sqrt")
    if kind == "documents":
        x, mask = x[:1], Documents([0, 2, N])
    return ops.aggregate(x, p, mask=mask, impl=impl, **options)


@pytest.fixture
def inputs():
    shapes = ((B, N, D), (D,), (B, N, D), (N, D), (B, D))
    return tuple(torch.randn(shape, dtype=torch.float64) for shape in shapes)


KINDS = [
    *("full", "causal", "window", "prefix", "documents"),
    *("decay", "complex decay", "gate", "state"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_directional_derivatives_are_those_of_the_definition(inputs, kind):
    tangents = tuple(map(torch.randn_like, inputs))
    want, want_tangent = jvp(lambda *a: call(*a, kind=kind, impl="reference"), inputs, tangents)
    got, got_tangent = jvp(lambda *a: call(*a, kind=kind), inputs, tangents)
    torch.testing.assert_close((got, got_tangent), (want, want_tangent))
    assert want_tangent.abs().max() > 0.1
    # One input at a time: a tangent of p, of a decay or of a state alone is one as well.
    for position in range(len(inputs)):
        with forward_ad.dual_level():
            duals = list(inputs)
            duals[position] = forward_ad.make_dual(inputs[position], tangents[position])
            results = [call(*duals, kind=kind, impl=impl) for impl in ("auto", "reference")]
            one, other = (forward_ad.unpack_dual(result).tangent for result in results)
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", ["causal", "window", "gate"])
def test_gradients_of_torch_func_are_those_of_autograd(inputs, kind):
    def loss(*arguments):
        return call(*arguments, kind=kind).square().sum()

    leaves = [each.clone().requires_grad_() for each in inputs]
    want = torch.autograd.grad(loss(*leaves), leaves[0])[0]
    torch.testing.assert_close(grad(loss)(*inputs), want)

    def loss_of_row(x):
        return ops.aggregate(x[None], mask=Causal()).square().sum()

    rows = vmap(grad(loss_of_row))(inputs[0])
    torch.testing.assert_close(rows, torch.stack([grad(loss_of_row)(x) for x in inputs[0]]))
    x = inputs[0][0]
    torch.testing.assert_close(jacfwd(loss_of_row)(x), jacrev(loss_of_row)(x))
    # y = L x, so the second derivative of |y|^2 in the newest token is 2.
    torch.testing.assert_close(
        hessian(loss_of_row)(x)[-1, :, -1], 2 * torch.eye(D, dtype=x.dtype)[:, :]
    )


@pytest.mark.parametrize("transform", ["inside", "outside"])
def test_compiled_derivatives_are_those_without_compilation(inputs, transform):
    x, tangent = inputs[0], torch.randn_like(inputs[0])

    def aggregate(x):
        return ops.aggregate(x, mask=Causal())

    def compiled(function):
        return torch.compile(function, backend="aot_eager")

    def derivative(function, x, tangent):
        return jvp(function, (x,), (tangent,))[1]

    want = aggregate(tangent)
    if transform == "inside":
        got = compiled(lambda x, tangent: derivative(aggregate, x, tangent))(x, tangent)
        gradient = compiled(grad(lambda x: (aggregate(x) * tangent).sum()))(x)
        torch.testing.assert_close(gradient, tangent.flip(1).cumsum(1).flip(1))
    else:
        function = compiled(aggregate)
        torch.testing.assert_close(function(x), aggregate(x))
        with forward_ad.dual_level():
            got = forward_ad.unpack_dual(function(forward_ad.make_dual(x, tangent))).tangent
        torch.testing.assert_close(derivative(function, x, tangent), want)
    torch.testing.assert_close(got, want)


def test_derivatives_of_pooled_token_ids_are_those_of_the_definition():
    token_ids, cu_seqlens = torch.tensor([1, 2, 2, 0, 1]), torch.tensor([0, 3, 3, 5])
    starts, lengths = cu_seqlens[:-1], cu_seqlens.diff()
    embedding, p, weights = torch.randn(4, D), torch.randn(3, D), torch.rand(5)

    def pool(embedding, p, weights):
        return ops.aggregate_tokens(
            token_ids, embedding, p, cu_seqlens=cu_seqlens, weights=weights, normalize="mean"
        )

    def defined(embedding, p, weights):
        return reference.aggregate_tokens(
            token_ids, embedding, starts, lengths, p, None, weights, 1.0
        )

    inputs = (embedding, p, weights)
    tangents = tuple(map(torch.randn_like, inputs))
    torch.testing.assert_close(jvp(pool, inputs, tangents), jvp(defined, inputs, tangents))
    losses = [grad(lambda *a, f=f: f(*a).square().sum(), argnums=(0, 1)) for f in (pool, defined)]
    torch.testing.assert_close(losses[0](*inputs), losses[1](*inputs))


def test_a_kernel_that_is_requested_by_name_refuses_what_it_cannot_differentiate():
    x = torch.randn(B, N, D)
    message = "impl='cpu': the cpu kernels do not support"
    with pytest.raises(ValueError, match=f"{message} forward-mode derivatives"):
        jvp(lambda x: ops.aggregate(x, impl="cpu"), (x,), (x,))
    with pytest.raises(ValueError, match=rf"{message} torch\.func\.grad"):
        grad(lambda x: ops.aggregate(x, impl="cpu").sum())(x)
    with pytest.raises(ValueError, match="accumulate='fixed_point': gradients are not supported"):
        jvp(lambda x: ops.aggregate(x, accumulate="fixed_point"), (x,), (x,))


@pytest.mark.parametrize("mask", [Causal(), Window(2)], ids=str)
def test_second_derivatives_by_backward_are_refused_by_the_kernels(mask):
    x = torch.randn(B, N, D, requires_grad=True)

    def gradient(impl):
        loss = ops.aggregate(x, mask=mask, impl=impl).square().sum()
        return torch.autograd.grad(loss, x, create_graph=True)[0].sum()

    with pytest.raises(NotImplementedError, match=r"second derivatives: .* expected impl='plain'"):
        gradient("auto").backward()
    gradient("plain").backward()
    assert x.grad.abs().max() > 0


def test_everything_runs_where_numba_does_not_compile():
    code = """
import torch
from hyperagg import ops
x = torch.arange(6.0).view(1, 3, 2)
assert ops.aggregate(x, mask=ops.Causal()).tolist() == x.cumsum(1).tolist()
assert ops.select_implementation(x).implementation == "plain"
pooled = ops.aggregate_tokens(torch.tensor([[0, 1]]), x[0])
assert pooled.tolist() == [[2.0, 4.0]]
try:
    ops.aggregate(x, impl="cpu")
except ValueError as error:
    print(error)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "impl='cpu': the cpu kernels do not run with NUMBA_DISABLE_JIT\n"


@pytest.mark.parametrize("impl", ["auto", "plain", "reference"])
@pytest.mark.parametrize("mask", [Full(), Causal(), Window(2), Prefix(2)], ids=str)
def test_a_batch_of_no_rows_gives_no_rows(mask, impl):
    x = torch.randn(0, N, D, requires_grad=True)
    y = ops.aggregate(x, torch.randn(N, D), mask=mask, impl=impl, normalize="mean")
    assert y.shape == (0, 1 if mask.pooled else N, D)
    if isinstance(mask, Prefix):
        return
    _, state = ops.aggregate(x, mask=mask, impl=impl, return_state=True)
    y, state = ops.aggregate(x, mask=mask, impl=impl, initial_state=state, return_state=True)
    assert len(y) == len(state.sums) == len(state.num_tokens) == 0
    if impl != "reference":
        y.sum().backward()
        assert x.grad.shape == x.shape
