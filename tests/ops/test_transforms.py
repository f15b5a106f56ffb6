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

AGGREGATES = [
    *("full", "causal", "window", "prefix", "documents"),
    *("decay", "complex decay", "gate", "state"),
]
ASSOCIATIVE = ["associative, decay per head", "associative, decay per key"]


def make_inputs(kind, dtype=torch.float64):
    if kind in ASSOCIATIVE:
        n = 20  # more than the plain form multiplies at once
        q, k, v = torch.randn(3, B, n, 2, D, dtype=dtype)
        beta, *decays = 2 * torch.rand(1 + D, B, n, 2, dtype=dtype) - 0.5  # 0 and 1 as well
        decay = decays[0] if kind.endswith("head") else torch.stack(decays, -1)
        sums = torch.randn(B, 2, D, D, dtype=dtype)
        k = torch.nn.functional.normalize(k, dim=-1)
        return q, k, v, beta.clamp(0, 1), decay.clamp(0, 1), sums
    shapes = ((B, N, D), (D,), (B, N, D), (N, D), (B, D))
    return tuple(torch.randn(shape, dtype=dtype) for shape in shapes)


def call(*tensors, kind, impl="auto"):
    if kind in ASSOCIATIVE:
        q, k, v, beta, decay, sums = tensors
        state = ops.State(sums, torch.full((B,), 3))
        return ops.associative(q, k, v, beta=beta, decay=decay, initial_state=state, impl=impl)
    x, decay, gate, p, sums = tensors
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
    return make_inputs("full")


@pytest.mark.parametrize("kind", [*AGGREGATES, *ASSOCIATIVE])
def test_directional_derivatives_are_those_of_the_definition(kind):
    inputs = make_inputs(kind)
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


@pytest.mark.parametrize("kind", ["causal", "window", "gate", *ASSOCIATIVE])
def test_gradients_of_torch_func_are_those_of_autograd(kind):
    inputs = make_inputs(kind)

    def loss(*arguments):
        return call(*arguments, kind=kind).square().sum()

    leaves = [each.clone().requires_grad_() for each in inputs]
    want = torch.autograd.grad(loss(*leaves), leaves, materialize_grads=True)
    got = grad(loss, argnums=tuple(range(len(inputs))))(*inputs)
    torch.testing.assert_close(got, want)


def test_gradients_of_rows_and_second_derivatives(inputs):
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


@pytest.mark.parametrize("kind", ["causal", *ASSOCIATIVE])
def test_a_kernel_that_is_requested_by_name_refuses_what_it_cannot_differentiate(kind):
    first, *others = make_inputs(kind, torch.float32)
    message = "impl='cpu': the cpu kernels do not support"

    def run(first):
        return call(first, *others, kind=kind, impl="cpu")

    assert torch.equal(run(first), call(first, *others, kind=kind))
    with pytest.raises(ValueError, match=f"{message} forward-mode derivatives"):
        jvp(run, (first,), (first,))
    with pytest.raises(ValueError, match=rf"{message} torch\.func\.grad"):
        grad(lambda first: run(first).sum())(first)


def test_fixed_point_sums_refuse_to_be_differentiated():
    x = torch.randn(B, N, D)
    with pytest.raises(ValueError, match="accumulate='fixed_point': gradients are not supported"):
        jvp(lambda x: ops.aggregate(x, accumulate="fixed_point"), (x,), (x,))


@pytest.mark.parametrize("kind", ["causal", "window", *ASSOCIATIVE])
def test_second_derivatives_by_backward_are_refused_by_the_kernels(kind):
    first, *others = make_inputs(kind, torch.float32)
    first.requires_grad_()

    def gradient(impl):
        loss = call(first, *others, kind=kind, impl=impl).square().sum()
        return torch.autograd.grad(loss, first, create_graph=True)[0].sum()

    with pytest.raises(NotImplementedError, match=r"second derivatives: .* expected impl='plain'"):
        gradient("auto").backward()
    gradient("plain").backward()
    assert first.grad.abs().max() > 0


def test_everything_runs_where_numba_does_not_compile():
    code = """
import torch
from hyperagg import ops
x = torch.arange(6.0).view(1, 3, 2)
assert ops.aggregate(x, mask=ops.Causal()).tolist() == x.cumsum(1).tolist()
assert ops.select_implementation(x).implementation == "plain"
pooled = ops.aggregate_tokens(torch.tensor([[0, 1]]), x[0])
assert pooled.tolist() == [[2.0, 4.0]]
k = torch.ones(1, 3, 1, 1)
assert ops.associative(k, k, k).flatten().tolist() == [1, 2, 3]
for call in (lambda **o: ops.aggregate(x, **o), lambda **o: ops.associative(k, k, k, **o)):
    try:
        call(impl="cpu")
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
    refused = "impl='cpu': the cpu kernels do not run with NUMBA_DISABLE_JIT\n"
    assert ran.stdout == 2 * refused


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
