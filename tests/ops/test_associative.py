"""Associative sums: every implementation equals the definition, and states continue exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck
from torch.func import hessian, vmap

from hyperagg import ops
from hyperagg.ops import Causal, Documents, Full
from hyperagg.ops.cpu import associative as cpu_associative
from tests.ops.associative_cases import (
    KINDS,
    E,
    H,
    K,
    check,
    check_borders,
    check_long_decays,
    check_not_finite,
    check_operator,
    gradients,
    inputs,
    leaves_of,
    run,
)


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
    check_operator(kind)


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
    check_borders(kind, 20, 50, impl=impl)


@pytest.mark.parametrize("impl", ["cpu", "plain"])
@pytest.mark.parametrize("per_key", [False, True])
def test_long_decays_neither_overflow_nor_vanish(per_key, impl):
    check_long_decays(96, per_key, impl=impl)


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
    (dict(impl="gpu"), "impl='gpu': q is on cpu"),
    (dict(impl="fast"), "impl='fast': expected one of auto, cpu, gpu, plain, reference"),
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
    check_not_finite(kind, 20, value, impl=impl)
