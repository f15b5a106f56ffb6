"""Inputs of associative sums, and comparisons of an implementation with the definition."""

from __future__ import annotations

import torch
from torch import library

from hyperagg import ops
from hyperagg.ops import Causal, Documents, associative_reference

# delta rule, dimensions of the decay
KINDS = {
    "outer product": (False, 0),
    "decay per head": (False, 1),
    "decay per key": (False, 2),
    "delta rule": (True, 0),
    "delta rule, decay per head": (True, 1),
    "delta rule, decay per key": (True, 2),
}
H, K, E = 2, 5, 7
NAMES = ("q", "k", "v", "beta", "decay", "sums")


def inputs(kind, batch, n, *, rows=None, dtype=torch.float64, keys=K, values=E):
    """q, k, v, beta, decay and a state's sums, with some beta and decay of exactly 0 and 1."""
    delta, decay_dims = KINDS[kind]

    def fractions(*shape):
        x = 2 * torch.rand(*shape, dtype=torch.float64) - 0.5
        return x.clamp(0, 1).to(dtype)

    q, k = torch.randn(2, batch, n, H, keys, dtype=torch.float64)
    k = torch.nn.functional.normalize(k, dim=-1)
    v = torch.randn(batch, n, H, values, dtype=dtype)
    beta = fractions(batch, n, H) if delta else None
    decay = fractions(batch, n, H, *([keys] if decay_dims == 2 else [])) if decay_dims else None
    sums = torch.randn(rows or batch, H, keys, values)
    sums = sums.to(torch.float64 if dtype == torch.float64 else torch.float32)
    return [q.to(dtype), k.to(dtype), v, beta, decay, sums]


def leaves_of(tensors):
    return [t if t is None else t.detach().clone().requires_grad_() for t in tensors]


def run(function, tensors, **options):
    q, k, v, beta, decay, sums = tensors
    state = None if sums is None else ops.State(sums, torch.full((len(sums),), 4))
    if function is associative_reference.associative:
        return function(q, k, v, beta, decay, **options, state=state)
    return function(
        q, k, v, beta=beta, decay=decay, **options, initial_state=state, return_state=True
    )


def gradients(outputs, directions, leaves):
    return torch.autograd.grad(
        [y for y in outputs if y.requires_grad],
        [x for x in leaves if x is not None],
        [d.to(y.dtype) for y, d in zip(outputs, directions) if y.requires_grad],
        allow_unused=True,
        materialize_grads=True,
    )


def check(kind, batch, n, dtype, *, impl="auto", keys=K, values=E, **options):
    """Compare outputs, state and all gradients of a call with the definition in float64."""
    mask = options.get("mask", Causal())
    rows = mask.num_documents if isinstance(mask, Documents) else batch
    tensors = inputs(kind, batch, n, rows=rows, dtype=dtype, keys=keys, values=values)
    leaves = leaves_of(tensors)
    precise = leaves_of([t if t is None else t.double() for t in tensors])
    o, state = run(ops.associative, leaves, impl=impl, **options)
    want, want_state = run(associative_reference.associative, precise, **options)
    assert o.dtype == dtype and state.sums.dtype == tensors[5].dtype
    assert torch.equal(state.num_tokens, want_state.num_tokens)
    directions = torch.randn_like(want), torch.randn_like(want_state.sums)
    got_all = [o, state.sums, *gradients((o, state.sums), directions, leaves)]
    want_all = [want, want_state.sums]
    want_all += gradients((want, want_state.sums), directions, precise)
    names = ["o", "state", *(f"gradient of {m}" for m, t in zip(NAMES, tensors) if t is not None)]
    eps = 16 * torch.finfo(dtype).eps * max(n, 1) ** 0.5
    for name, got, expected in zip(names, got_all, want_all):
        assert got.shape == expected.shape, name
        if expected.numel():
            error = (got.double() - expected).abs().max()
            assert error <= eps * (1 + expected.abs().max()), (name, error.item())


def check_borders(kind, n, extra, *, impl):
    """NaN in padding or in one document changes nothing elsewhere, forward or backward."""
    tensors = inputs(kind, 1, n, dtype=torch.float32)
    want = leaves_of(tensors)
    o, state = run(ops.associative, want, impl=impl)
    directions = torch.randn_like(o), torch.randn_like(state.sums)
    expected = [o, state.sums, *gradients((o, state.sums), directions, want)]
    lengths = torch.tensor([n])
    for padding in ("right", "left"):
        here = slice(0, n) if padding == "right" else slice(extra, None)
        padded = []
        for tensor in tensors[:5]:
            if tensor is not None:
                hole = torch.full((1, extra, *tensor.shape[2:]), torch.nan)
                tensor = torch.cat([tensor, hole] if padding == "right" else [hole, tensor], 1)
            padded.append(tensor)
        leaves = leaves_of([*padded, tensors[5]])
        o, state = run(ops.associative, leaves, impl=impl, lengths=lengths, padding=padding)
        # The gradient of the outputs at padding, which nobody reads, is NaN as well.
        direction = torch.full_like(o, torch.nan)
        direction[:, here] = directions[0]
        assert not o[:, n:].any() if padding == "right" else not o[:, :extra].any()
        grads = gradients((o, state.sums), (direction, directions[1]), leaves)
        got = [o[:, here], state.sums, *(g[:, here] for g in grads[:-1]), grads[-1]]
        for a, b in zip(got, expected):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
        assert all(g.isfinite().all() for g in grads)
    joined = [t if t is None else torch.cat([t, torch.full_like(t, torch.nan)], 1)
              for t in tensors[:5]]  # fmt: skip
    leaves = leaves_of([*joined, torch.cat([tensors[5], torch.full_like(tensors[5], torch.nan)])])
    o, state = run(ops.associative, leaves, impl=impl, mask=Documents([0, n, 2 * n]))
    torch.testing.assert_close(o[:, :n], expected[0], atol=1e-5, rtol=1e-5)
    assert o[:, n:].isnan().all()
    grads = gradients((o[:, :n],), (directions[0],), leaves)
    assert all(g[:, :n].isfinite().all() for g in grads[:-1]) and grads[-1][0].isfinite().all()


def check_long_decays(n, per_key, *, impl):
    """Products of decays range over hundreds of orders of magnitude inside a chunk."""
    q, k, v, beta, decay, _ = inputs(
        f"delta rule, decay per {'key' if per_key else 'head'}", 1, n, dtype=torch.float32
    )
    factors = torch.tensor([1.0, 1e-30, 0.0, 1e-3, 1.0, 1.0])
    decay = factors[torch.randint(6, decay.shape)]
    tensors = [q, k, v, beta, decay, None]
    leaves, precise = (
        leaves_of(tensors),
        leaves_of([t if t is None else t.double() for t in tensors]),
    )
    o, _ = run(ops.associative, leaves, impl=impl)
    want, _ = run(associative_reference.associative, precise)
    torch.testing.assert_close(o, want.float(), atol=1e-5, rtol=1e-5)
    direction = torch.randn_like(want)
    found = gradients((o,), (direction,), leaves)
    for a, b in zip(found, gradients((want,), (direction,), precise)):
        torch.testing.assert_close(a, b.float(), atol=1e-4, rtol=1e-4)


def check_not_finite(kind, n, value, *, impl):
    """What is not finite in a token reaches no earlier output and no other head."""
    bad = n // 2
    tensors = inputs(kind, 2, n, dtype=torch.float32)
    expected, state = run(ops.associative, tensors, impl=impl)
    for tensor in tensors[1:5]:
        if tensor is None:
            continue
        kept = tensor.clone()
        tensor[0, bad, 0] = value
        o, after = run(ops.associative, tensors, impl=impl)
        tensor.copy_(kept)
        assert torch.equal(o[0, :bad], expected[0, :bad])
        assert not o[0, bad:, 0].isfinite().any(-1).all()
        assert torch.equal(o[0, :, 1], expected[0, :, 1]) and torch.equal(o[1], expected[1])
        assert not after.sums[0, 0].isfinite().all()
        assert torch.equal(after.sums[0, 1], state.sums[0, 1])


def check_operator(kind):
    """Check the fake implementation and the gradients that are registered with PyTorch."""
    q, k, v, beta, decay, sums = inputs(kind, 2, 6, dtype=torch.float32)
    decay = decay if decay is None else decay.view(12, H, -1)
    tensors = [q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)]
    tensors += [beta if beta is None else beta.flatten(0, 1), decay]
    rows = torch.tensor([0, 6]), torch.tensor([6, 4])
    for initial in (sums, None):
        leaves = leaves_of([*tensors, initial])
        library.opcheck(torch.ops.hyperagg.associative.default, (*leaves, *rows))
