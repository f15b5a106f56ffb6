"""Associative sums: every implementation equals the definition, and states continue exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import library
from torch.autograd import gradcheck
from torch.func import hessian, vmap

from hyperagg import ops
from hyperagg.ops import Causal, Documents, Full, associative_reference
from hyperagg.ops.cpu import associative as cpu_associative

# delta rule, dimensions of the decay
KINDS = {
    "outer product": (False, 0),
    "decay per head": (False, 1),
    "decay per key": (False, 2),
    "delta rule": (True, 0),
    "delta rule, decay per head": (True, 1),
    "delta rule, decay per key": (True, 2),
}
B, H, K, E = 3, 2, 5, 7
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


def test_by_hand():
    k = torch.eye(2)[[0, 1, 0, 1]].view(1, 4, 1, 2)
    q = torch.ones(1, 4, 1, 2)
    v = torch.tensor([1.0, 10.0, 100.0, 1000.0]).view(1, 4, 1, 1)

    def read(**options):
        return ops.associative(q, k, v, **options).flatten().tolist()

    assert read() == [1, 11, 111, 1111]
    half = torch.full((1, 4, 1), 0.5)
    assert read(decay=half) == [1, 10.5, 105.25, 1052.625]
    # The second key alone decays.
    per_key = torch.tensor([1.0, 0.5]).expand(1, 4, 1, 2)
    assert read(decay=per_key) == [1, 11, 106, 1103.5]
    # A new pair replaces what its key returned, by half with a step of a half.
    assert read(beta=torch.ones(1, 4, 1)) == [1, 11, 110, 1100]
    assert read(beta=half) == [0.5, 5.5, 55.25, 552.75]
    assert read(beta=torch.ones(1, 4, 1), decay=half) == [1, 10.5, 105, 1050]
    assert read(beta=torch.zeros(1, 4, 1)) == [0, 0, 0, 0]
    assert read(decay=torch.zeros(1, 4, 1)) == [1, 10, 100, 1000]
    assert read(mask=Documents([0, 1, 4])) == [1, 10, 110, 1110]
    assert read(lengths=torch.tensor([2])) == [1, 11, 0, 0]
    assert read(lengths=torch.tensor([2]), padding="left") == [0, 0, 100, 1100]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_reference(kind, dtype):
    for n in (1, 2, 63, 64, 65, 131):
        check(kind, 2, n, dtype)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("keys", "values"), [(1, 1), (3, 17), (4, 33), (16, 70)])
def test_any_number_of_channels_equals_reference(kind, keys, values):
    for dtype in (torch.float64, torch.float32):
        check(kind, 2, 9, dtype, keys=keys, values=values)


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("impl", ["cpu", "plain"])
@pytest.mark.parametrize("kind", KINDS)
def test_padding_equals_reference(kind, impl, padding):
    lengths = torch.tensor([70, 33, 0])
    check(kind, 3, 70, torch.float32, impl=impl, lengths=lengths, padding=padding)


@pytest.mark.parametrize("impl", ["cpu", "plain"])
@pytest.mark.parametrize("kind", KINDS)
def test_documents_equal_reference(kind, impl):
    check(kind, 1, 90, torch.float32, impl=impl, mask=Documents([0, 7, 7, 80, 90]))


@pytest.mark.parametrize("kind", KINDS)
def test_gradcheck(kind):
    tensors = leaves_of(inputs(kind, 2, 5))
    present = [t for t in tensors if t is not None]

    def call(*values):
        values = iter(values)
        return run(ops.associative, [t if t is None else next(values) for t in tensors])[0]

    assert gradcheck(call, present)


@pytest.mark.parametrize("kind", KINDS)
def test_opcheck(kind):
    q, k, v, beta, decay, sums = inputs(kind, 2, 6, dtype=torch.float32)
    decay = decay if decay is None else decay.view(12, H, -1)
    tensors = [q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)]
    tensors += [beta if beta is None else beta.flatten(0, 1), decay]
    rows = torch.tensor([0, 6]), torch.tensor([6, 4])
    for initial in (sums, None):
        leaves = leaves_of([*tensors, initial])
        library.opcheck(torch.ops.hyperagg.associative.default, (*leaves, *rows))


@given(st.lists(st.integers(0, 40), min_size=1, max_size=5), st.sampled_from(list(KINDS)))
def test_any_split_of_a_sequence_gives_the_same_bits(pieces, kind):
    n = sum(pieces)
    tensors = inputs(kind, 2, n, dtype=torch.float32)
    whole, end = run(ops.associative, tensors)
    state, begin, outputs = ops.State(tensors[5], torch.full((2,), 4)), 0, []
    for size in pieces:
        q, k, v, beta, decay = (t if t is None else t[:, begin : begin + size] for t in tensors[:5])
        o, state = ops.associative(
            q, k, v, beta=beta, decay=decay, initial_state=state, return_state=True
        )
        outputs.append(o)
        begin += size
    assert torch.equal(torch.cat(outputs, 1), whole)
    assert torch.equal(state.sums, end.sums) and torch.equal(state.num_tokens, end.num_tokens)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_steps_give_the_same_as_one_call(kind, dtype):
    *tensors, _ = inputs(kind, 2, 9, dtype=dtype)
    whole, end = run(ops.associative, [*tensors, None])
    state = None
    for t in range(9):
        q, k, v, beta, decay = (each if each is None else each[:, t] for each in tensors)
        o, state = ops.associative_step(q, k, v, state, beta=beta, decay=decay)
        torch.testing.assert_close(o, whole[:, t])
    assert state.sums.dtype == end.sums.dtype and torch.equal(state.num_tokens, end.num_tokens)
    torch.testing.assert_close(state.sums, end.sums)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=5), st.sampled_from(list(KINDS)))
def test_packed_documents_give_the_same_bits_as_separate_ones(sizes, kind):
    boundaries = np.cumsum([0, *sizes]).tolist()
    *tensors, _ = inputs(kind, 1, boundaries[-1], dtype=torch.float32)
    packed, after = run(ops.associative, [*tensors, None], mask=Documents(boundaries))
    for i, (a, b) in enumerate(zip(boundaries, boundaries[1:])):
        alone = [t if t is None else t[:, a:b] for t in tensors]
        o, state = run(ops.associative, [*alone, None])
        assert torch.equal(o, packed[:, a:b]) and torch.equal(state.sums[0], after.sums[i])


@pytest.mark.parametrize("impl", ["cpu", "plain", "reference"])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_crosses_a_border(kind, impl):
    """NaN in padding or in one document changes nothing elsewhere, forward or backward."""
    n, extra = 20, 50
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


@pytest.mark.parametrize("impl", ["cpu", "plain"])
@pytest.mark.parametrize("per_key", [False, True])
def test_long_decays_neither_overflow_nor_vanish(per_key, impl):
    """Products of decays range over hundreds of orders of magnitude inside a chunk."""
    n = 96
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


def test_the_delta_rule_holds_as_many_pairs_as_there_are_keys():
    k = torch.eye(16).repeat(2, 1).view(1, 32, 1, 16)
    v = torch.randn(1, 32, 1, 8)
    _, state = ops.associative(k, k, v, beta=torch.ones(1, 32, 1), return_state=True)
    torch.testing.assert_close(state.sums[0, 0], v[0, 16:, 0])


def outputs_and_gradients():
    torch.manual_seed(0)
    found = []
    for kind in ("outer product", "delta rule, decay per head", "delta rule, decay per key"):
        leaves = leaves_of(inputs(kind, 3, 400, dtype=torch.float32, keys=16, values=40))
        o, state = run(ops.associative, leaves)
        found += [o.detach(), *gradients((o, state.sums), (o.cos(), state.sums), leaves)]
    return found


def test_same_bits_for_any_number_of_threads():
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        want = outputs_and_gradients()
        for number in (2, 3):
            torch.set_num_threads(number)
            for _ in range(5):
                assert all(map(torch.equal, outputs_and_gradients(), want))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("impl", ["auto", "plain", "reference"])
@pytest.mark.parametrize("shape", [(0, 5), (2, 0)])
def test_no_rows_and_no_tokens(shape, impl):
    for kind in KINDS:
        leaves = leaves_of([*inputs(kind, *shape, rows=shape[0], dtype=torch.float32)[:5], None])
        o, state = run(ops.associative, leaves, impl=impl)
        assert o.shape == (*shape, H, E) and state.sums.shape == (shape[0], H, K, E)
        assert not state.sums.any()
        if o.requires_grad:
            o.sum().backward()
            assert leaves[0].grad is None or leaves[0].grad.shape == leaves[0].shape


def test_a_state_goes_through_a_call_without_tokens():
    tensors = inputs("delta rule, decay per head", 2, 0, dtype=torch.float32)
    for impl in ("cpu", "plain", "reference"):
        _, state = run(ops.associative, tensors, impl=impl)
        assert torch.equal(state.sums, tensors[5]) and state.num_tokens.tolist() == [4, 4]


# Transforms, compilation and export


def gated_delta(q, k, v, beta, decay, sums=None, impl="auto"):
    state = None if sums is None else ops.State(sums, torch.full((len(sums),), 3))
    return ops.associative(q, k, v, beta=beta, decay=decay, initial_state=state, impl=impl)


@pytest.fixture(params=["delta rule, decay per head", "delta rule, decay per key"])
def tensors(request):
    return tuple(inputs(request.param, 2, 20, dtype=torch.float32))


def test_vmap_over_examples(tensors):
    batches = [torch.stack([t, t.flip(0), t]) for t in tensors]
    got = vmap(gated_delta)(*batches)
    separate = [gated_delta(*each) for each in zip(*batches)]
    torch.testing.assert_close(got, torch.stack(separate))
    # One of the inputs alone may have the dimension.
    got = vmap(lambda v: gated_delta(tensors[0], tensors[1], v, *tensors[3:]))(batches[2])
    torch.testing.assert_close(got[1], gated_delta(*tensors[:2], batches[2][1], *tensors[3:]))


def test_batched_gradients(tensors):
    leaves = leaves_of(tensors)
    o = gated_delta(*leaves)
    directions = torch.randn(3, *o.shape)
    got = torch.autograd.grad(o, leaves, directions, retain_graph=True, is_grads_batched=True)
    separate = [torch.autograd.grad(o, leaves, d, retain_graph=True) for d in directions]
    for one, each in zip(got, zip(*separate)):
        torch.testing.assert_close(one, torch.stack(each))


def test_second_derivatives():
    *tensors, sums = inputs("delta rule, decay per head", 1, 3, keys=2, values=2)

    def loss(beta, impl):
        return gated_delta(*tensors[:3], beta, tensors[4], sums, impl).square().sum()

    got, want = (hessian(lambda b, i=i: loss(b, i))(tensors[3]) for i in ("auto", "reference"))
    torch.testing.assert_close(got, want)


class Layer(torch.nn.Module):
    def forward(self, q, k, v, beta, decay):
        return ops.associative(q, k, v, beta=beta, decay=decay)


def test_export_with_any_length(tensors):
    n = torch.export.Dim("n", min=2, max=64)
    exported = torch.export.export(Layer(), tensors[:5], dynamic_shapes=({1: n},) * 5)
    kind = f"delta rule, decay per {'head' if tensors[4].ndim == 3 else 'key'}"
    *longer, _ = inputs(kind, 2, 33, dtype=torch.float32)
    assert torch.equal(exported.module()(*longer), Layer()(*longer))


@pytest.mark.parametrize("kind", KINDS)
def test_compiles_fullgraph_with_any_length(kind):
    layer = torch.compile(Layer(), fullgraph=True, dynamic=True, backend="aot_eager")
    for n in (3, 17, 70):
        leaves = leaves_of(inputs(kind, 2, n, dtype=torch.float32))[:5]
        present = [t for t in leaves if t is not None]
        got, want = layer(*leaves), Layer()(*leaves)
        torch.testing.assert_close(got, want)
        pairs = [torch.autograd.grad(o.square().sum(), present) for o in (got, want)]
        for a, b in zip(*pairs):
            torch.testing.assert_close(a, b)


class PackedLayer(torch.nn.Module):
    def forward(self, q, k, v, beta, decay, cu_seqlens):
        mask = Documents(cu_seqlens)
        return ops.associative(q, k, v, beta=beta, decay=decay, mask=mask)


def test_packed_documents_compile_and_export_with_any_boundaries():
    def packed(boundaries):
        *tensors, _ = inputs("delta rule, decay per head", 1, boundaries[-1], dtype=torch.float32)
        return *tensors, torch.tensor(boundaries)

    layer = torch.compile(PackedLayer(), fullgraph=True, dynamic=True, backend="aot_eager")
    n, r = torch.export.Dim("n", min=2, max=64), torch.export.Dim("r", min=3, max=64)
    shapes = (*({1: n},) * 5, {0: r})
    exported = torch.export.export(PackedLayer(), packed([0, 3, 9]), dynamic_shapes=shapes).module()
    for boundaries in ([0, 2, 5, 12], [0, 4, 4, 5]):
        given = packed(boundaries)
        want = PackedLayer()(*given)
        assert torch.equal(layer(*given), want) and torch.equal(exported(*given), want)


def test_autocast_keeps_the_sums_in_float32(tensors):
    for impl in ("cpu", "plain"):
        with torch.autocast("cpu", torch.bfloat16):
            got = gated_delta(*tensors, impl=impl)
        torch.testing.assert_close(got, gated_delta(*tensors, impl=impl))


def test_a_chunk_is_shorter_than_the_sequences_of_these_tests():
    assert cpu_associative.CHUNK_SIZE < 65 and cpu_associative.COLUMNS < 33


BAD = [
    (dict(q=[[1.0]]), "q: list; expected a tensor"),
    (dict(k=None), "k: NoneType; expected a tensor"),
    (dict(q=torch.ones(1, 3, 2)), r"q: shape \(1, 3, 2\); expected \(B, N, H, K\)"),
    (dict(q=torch.ones(1, 3, 2, 2, dtype=torch.int64)), "q: torch.int64; expected a real"),
    (dict(k=torch.ones(1, 3, 2, 2) * 1j), "k: torch.complex64; expected a real floating"),
    (dict(k=torch.ones(1, 3, 2, 3)), r"k: shape .*; expected \(1, 3, 2, 2\), the shape of q"),
    (dict(v=torch.ones(1, 3, 1, 2)), r"v: shape .*; expected \(1, 3, 2, E\)"),
    (dict(v=torch.ones(1, 3, 2)), r"v: shape .*; expected \(1, 3, 2, E\)"),
    (dict(v=torch.ones(1, 3, 2, 2).double()), "v: torch.float64; expected torch.float32, the type"),
    (dict(v=torch.ones(1, 3, 2, 2).to_sparse()), "v: torch.sparse_coo; expected a dense tensor"),
    (dict(beta=0.5), "beta: float; expected a tensor or None"),
    (dict(beta=torch.ones(1, 3)), r"beta: shape \(1, 3\); expected \(1, 3, 2\)"),
    (dict(decay=torch.ones(2)), r"decay: shape .*\(1, 3, 2\), a factor per head, or \(1, 3, 2, 2"),
    (dict(mask=Full()), r"mask=Full\(\): expected Causal\(\), or Documents"),
    (dict(mask=Causal), r"mask=Causal: expected Causal\(\), or Documents"),
    (dict(mask=Documents([0, 3], causal=False)), r"mask=Documents\(.*causal=False\): expected"),
    (dict(mask=Documents([0, 2])), r"q: shape .*; expected \(1, 2, H, K\) with mask="),
    (dict(mask=Documents([0, 3]), lengths=torch.tensor([3])), "lengths: expected None with Docu"),
    (dict(lengths=torch.tensor([4])), "lengths: from 4 to 4; expected 0 to N = 3"),
    (dict(padding="front"), "padding='front': expected one of right, left"),
    (dict(initial_state=torch.ones(1, 2, 2, 2)), "initial_state: Tensor; expected a State"),
    (
        dict(initial_state=ops.State(torch.ones(1, 2), torch.ones(1))),
        r"initial_state: sums \(1, 2\), num_tokens \(1,\); expected \(1, 2, 2, 2\) and \(1,\)",
    ),
    (dict(impl="gpu"), "impl='gpu': expected one of auto, cpu, plain, reference"),
    (
        dict(impl="cpu", **dict.fromkeys("qkv", torch.ones(1, 3, 2, 2).double())),
        "impl='cpu': the cpu kernels do not support torch.float64",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_errors_name_the_argument(arguments, message):
    ones = torch.ones(1, 3, 2, 2)
    call = {"q": ones, "k": ones, "v": ones, **arguments}
    with pytest.raises((ValueError, TypeError), match=message) as error:
        ops.associative(call.pop("q"), call.pop("k"), call.pop("v"), **call)
    assert "\n" not in str(error.value)


def test_errors_of_a_step_name_the_argument():
    ones = torch.ones(1, 2, 2)
    with pytest.raises(ValueError, match=r"q: shape \(2,\); expected \(B, H, K\)"):
        ops.associative_step(ones[0, 0], ones, ones)
    with pytest.raises(ValueError, match=r"beta: shape \(2,\); expected \(1, 2\)"):
        ops.associative_step(ones, ones, ones, beta=torch.ones(2))
    with pytest.raises(TypeError, match="state: tuple; expected a State"):
        ops.associative_step(ones, ones, ones, (1, 2))
    state = ops.State(torch.ones(1, 2), torch.ones(1))
    with pytest.raises(ValueError, match=r"state: sums .*; expected \(1, 2, 2, 2\)"):
        ops.associative_step(ones, ones, ones, state)


@pytest.mark.parametrize("impl", ["cpu", "plain", "reference"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_reaches_no_earlier_output_and_no_other_head(kind, impl, value):
    tensors = inputs(kind, 2, 20, dtype=torch.float32)
    expected, state = run(ops.associative, tensors, impl=impl)
    for tensor in tensors[1:5]:
        if tensor is None:
            continue
        kept = tensor.clone()
        tensor[0, 9, 0] = value
        o, after = run(ops.associative, tensors, impl=impl)
        tensor.copy_(kept)
        assert torch.equal(o[0, :9], expected[0, :9])
        assert not o[0, 9:, 0].isfinite().any(-1).all()
        assert torch.equal(o[0, :, 1], expected[0, :, 1]) and torch.equal(o[1], expected[1])
        assert not after.sums[0, 0].isfinite().all()
        assert torch.equal(after.sums[0, 1], state.sums[0, 1])
