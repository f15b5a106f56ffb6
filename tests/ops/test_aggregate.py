from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from hyperagg import ops
from hyperagg.ops import Causal, Documents, Full, Mask, Prefix, Window, reference, registration
from hyperagg.ops.cpu import intrinsics as cpu_numbers
from hyperagg.ops.cpu import scan as cpu_scan

NORM_EXPONENTS = {"none": 0.0, "sqrt": 0.5, "mean": 1.0}
KINDS = ["prefix_sum", "decay", "complex_decay", "gated"]
D = 6


def masks_for(n):
    boundaries = (0, n // 3, n // 3, n)
    return [
        Full(),
        Causal(),
        Window(1),
        Window(7),
        Window(n),
        Prefix(0),
        Prefix(n // 2 + 1),
        Documents(boundaries),
        Documents(boundaries, causal=False),
    ]


def factors(kind, x):
    """The keyword arguments of one kind of recurrence, as leaves of autograd."""
    if kind == "decay":
        return dict(decay=torch.rand(D, dtype=x.dtype).requires_grad_())
    if kind == "complex_decay":
        size, angle = torch.rand(D // 2, dtype=torch.float64), torch.randn(D // 2)
        dtype_out = torch.complex128 if x.dtype == torch.float64 else torch.complex64
        return dict(decay=torch.polar(size, angle.double()).to(dtype_out).requires_grad_())
    if kind == "gated":
        return dict(gate=torch.rand(x.shape).to(x.dtype).requires_grad_())
    return {}


def as_float64_leaf(tensor):
    dtype_out = torch.complex128 if tensor.is_complex() else torch.float64
    return tensor.detach().to(dtype_out).requires_grad_()


def assert_close(got, want, eps, name):
    """Check that the error is a few roundings in the type of the call, relative to the maximum."""
    assert got.shape == want.shape, name
    if want.numel():
        error = (got.to(want.dtype) - want).abs().max()
        assert error <= eps * (1 + want.abs().max()), (name, error.item())


def check(mask, n, dtype, kind, *, normalize="none", lengths=None, padding="right", impl="auto"):
    """Compare outputs, state and all gradients of a call with the reference in float64."""
    batch = 1 if isinstance(mask, Documents) else 3
    x = torch.randn(batch, D, n, dtype=dtype).transpose(1, 2).requires_grad_()  # not contiguous
    p = (1 + 0.1 * torch.randn(n + 2, D)).to(dtype).requires_grad_()
    more = factors(kind, x)
    state = None
    if (
        not isinstance(mask, Prefix)
        and padding == "right"
        and not (isinstance(mask, Window) and kind == "gated")
    ):
        rows = mask.num_documents if isinstance(mask, Documents) else batch
        terms = (mask.size - 1,) if isinstance(mask, Window) else ()
        num_tokens = torch.full((rows,), mask.size if isinstance(mask, Window) else 4)
        sums = torch.randn(rows, *terms, D, dtype=registration.accumulator_dtype_of(dtype))
        state = ops.State(sums.requires_grad_(), num_tokens)
    leaves = [x, p, *more.values(), *([] if state is None else [state.sums])]
    y, after = (
        ops.aggregate(
            x,
            p,
            mask=mask,
            lengths=lengths,
            padding=padding,
            normalize=normalize,
            initial_state=state,
            impl=impl,
            return_state=True,
            **more,
        )
        if state is not None
        else (
            ops.aggregate(
                x,
                p,
                mask=mask,
                lengths=lengths,
                padding=padding,
                normalize=normalize,
                impl=impl,
                **more,
            ),
            None,
        )
    )
    reference_leaves = [as_float64_leaf(leaf) for leaf in leaves]
    named = dict(zip(more, reference_leaves[2:]))
    reference_state = None if state is None else ops.State(reference_leaves[-1], state.num_tokens)
    want, want_after = reference.aggregate(
        reference_leaves[0],
        reference_leaves[1],
        mask,
        lengths,
        NORM_EXPONENTS[normalize],
        state=reference_state,
        padding=padding,
        **named,
    )
    eps = 16 * torch.finfo(dtype).eps * max(n, 1) ** 0.5
    assert y.dtype == dtype
    assert_close(y, want, eps, "y")
    got_all, want_all = [y], [want]
    if after is not None:
        assert_close(after.sums, want_after.sums, eps, "state")
        assert torch.equal(after.num_tokens, want_after.num_tokens)
        got_all.append(after.sums), want_all.append(want_after.sums)
    grads = [torch.randn_like(t) for t in want_all]
    pairs = [(t, g) for t, g in zip(want_all, grads) if t.requires_grad]
    wanted = torch.autograd.grad(
        [t for t, _ in pairs],
        reference_leaves,
        [g for _, g in pairs],
        allow_unused=True,
        materialize_grads=True,
    )
    pairs = [(t, g.to(t.dtype)) for t, g in zip(got_all, grads) if t.requires_grad]
    found = torch.autograd.grad(
        [t for t, _ in pairs],
        leaves,
        [g for _, g in pairs],
        allow_unused=True,
        materialize_grads=True,
    )
    for name, a, b in zip(["x", "p", *more, "state"], found, wanted):
        assert_close(a, b, eps, f"gradient of {name}")


def test_by_hand():
    x = torch.tensor([[[1.0], [2.0], [3.0], [4.0]]])
    p = torch.tensor([[1.0], [10.0], [100.0], [1000.0]])

    def sums(mask, **kwargs):
        return ops.aggregate(x, p, mask=mask, **kwargs)[0, :, 0].tolist()

    assert sums(Full()) == [4321]
    assert sums(Causal()) == [1, 21, 321, 4321]
    assert sums(Window(2)) == [1, 21, 320, 4300]
    assert sums(Prefix(2)) == [21, 21, 321, 4321]
    # Positions start again in every document, and at the first token after padding on the left.
    assert sums(Documents((0, 1, 4))) == [1, 2, 32, 432]
    assert sums(Documents((0, 1, 4), causal=False)) == [1, 432]
    assert sums(Full(), lengths=torch.tensor([2])) == [21]
    assert sums(Causal(), lengths=torch.tensor([2]), padding="left") == [0, 0, 3, 43]
    assert sums(Full(), normalize="mean") == [4321 / 4]
    assert sums(Causal(), normalize="sqrt", lengths=torch.tensor([1])) == [1, 0, 0, 0]
    assert sums(Causal(), decay=torch.tensor([0.5])) == [1, 20.5, 310.25, 4155.125]
    gate = torch.tensor([[[0.0], [1.0], [0.0], [0.5]]])
    assert sums(Causal(), gate=gate) == [1, 21, 300, 4150]


@pytest.mark.parametrize("n", [1, 2, 63, 64, 65])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_equals_reference(n, dtype):
    for mask in masks_for(n):
        kinds = ["prefix_sum"] if isinstance(mask, Prefix) else KINDS
        for kind, normalize in zip(kinds, itertools.cycle(NORM_EXPONENTS)):
            check(mask, n, dtype, kind, normalize=normalize)


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("impl", ["auto", "plain"])
def test_padding_equals_reference(padding, kind, impl):
    n = 17
    lengths = torch.tensor([n, n // 2, 0])
    for mask in (Full(), Causal(), Window(4), Prefix(3)):
        if not (isinstance(mask, Prefix) and kind != "prefix_sum"):
            check(
                mask,
                n,
                torch.float64,
                kind,
                normalize="sqrt",
                lengths=lengths,
                padding=padding,
                impl=impl,
            )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mask", [Full(), Causal()], ids=str)
def test_rows_split_for_threads_equal_the_plain_implementation(mask, kind, dtype, monkeypatch):
    monkeypatch.setattr(cpu_scan, "MIN_SIZE_TO_SPLIT", 1)
    lengths = torch.tensor([1000, 0, 300])
    x = torch.randn(3, 1000, D, dtype=torch.float64).to(dtype).double().requires_grad_()
    p = torch.randn(1000, D, dtype=torch.float64).float().double().requires_grad_()
    more = {k: v.detach().to(dtype) if k == "gate" else v for k, v in factors(kind, x).items()}
    more = {k: v.detach().requires_grad_() for k, v in more.items()}
    y_grad = torch.randn(3, 1 if mask.pooled else 1000, D).to(dtype)
    found = []
    for impl, precise in (("plain", True), ("cpu", False)):
        inputs = [
            x if precise else x.to(dtype),
            p if precise or dtype == torch.float64 else p.float(),
        ]
        values = [v.double() if precise and k == "gate" else v for k, v in more.items()]
        named = dict(zip(more, values), lengths=lengths, normalize="sqrt", impl=impl)
        y = ops.aggregate(*inputs, mask=mask, **named)
        leaves = [x, p, *more.values()]
        found.append([y, *torch.autograd.grad(y, leaves, y_grad.to(y.dtype))])
    tolerance = {torch.float64: 1e-9, torch.float32: 2e-5, torch.bfloat16: 2e-2}[dtype]
    for want, got in zip(*found):
        error = (got.to(want.dtype) - want).abs().max()
        assert error <= tolerance * want.abs().max().clamp(min=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_non_temporal_stores_give_the_same_bits(kind, dtype, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "D", 16)  # rows are whole vectors
    monkeypatch.setattr(cpu_scan, "MIN_SIZE_TO_SPLIT", 1)
    x = torch.randn(3, 300, 16).to(dtype).requires_grad_()
    p = torch.randn(300, 16, requires_grad=True)
    more = factors(kind, x.detach())
    y_grad = torch.randn(3, 300, 16).to(dtype)
    found = []
    for least in (1 << 24, 1):
        monkeypatch.setattr(cpu_numbers, "_MIN_BYTES_TO_STREAM", least)
        y = ops.aggregate(x, p, mask=Causal(), **more)
        assert cpu_numbers.can_stream(torch.empty(64, 16).numpy()) == (least == 1)
        found.append([y, *torch.autograd.grad(y, [x, p, *more.values()], y_grad)])
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize("kind", KINDS)
def test_gradcheck(kind):
    x = torch.randn(2, 5, D, dtype=torch.float64, requires_grad=True)
    p = torch.randn(5, D, dtype=torch.float64, requires_grad=True)
    more = factors(kind, x)

    def call(x, p, *values, mask):
        return ops.aggregate(x, p, mask=mask, normalize="sqrt", **dict(zip(more, values)))

    for mask in (Full(), Causal(), Window(2)):
        assert gradcheck(lambda *a, mask=mask: call(*a, mask=mask), (x, p, *more.values()))


@pytest.mark.parametrize("kind", KINDS)
def test_opcheck_of_the_scan(kind):
    x = torch.randn(2, 6, D, requires_grad=True)
    p = torch.randn(6, D, requires_grad=True)
    more = factors(kind, x.detach().double())
    decay, gate = more.get("decay"), more.get("gate")
    if decay is not None:
        decay = torch.view_as_real(decay) if decay.is_complex() else decay
        decay = decay.detach().float().requires_grad_()
    if gate is not None:
        gate = gate.detach().float().view(12, D).requires_grad_()
    rows = torch.tensor([0, 6]), torch.tensor([6, 4])
    inputs = (x.detach().view(12, D).requires_grad_(), p, decay, gate, None, None, *rows)
    for pooled in (False, True):
        torch.library.opcheck(torch.ops.hyperagg.scan.default, (*inputs, 0.5, pooled))


def test_opcheck_of_windows_and_tokens():
    x = torch.randn(12, D, requires_grad=True)
    p = torch.randn(6, D, requires_grad=True)
    rows = torch.tensor([0, 6]), torch.tensor([6, 4])
    torch.library.opcheck(torch.ops.hyperagg.window.default, (x, p, None, *rows, 3, 0.5))
    ids, table = torch.randint(5, (12,)), torch.randn(5, D)
    tokens = torch.ops.hyperagg.aggregate_tokens.default
    torch.library.opcheck(tokens, (ids, table, *rows, p.detach(), None, None, 0.5))


def test_dense_mask_is_a_matrix_product():
    x = torch.randn(2, 9, 4)
    dense = torch.tril(torch.ones(2, 9, 9))
    torch.testing.assert_close(
        ops.aggregate(x, mask=dense), ops.aggregate(x, mask=Causal()), atol=1e-5, rtol=1e-5
    )


def test_outputs_do_not_depend_on_later_tokens():
    x = torch.randn(1, 40, 3)
    for mask in (Causal(), Window(5), Documents((0, 17, 40))):
        y = ops.aggregate(x, mask=mask)
        moved = x.clone()
        moved[:, 20] += 5
        assert torch.equal(ops.aggregate(moved, mask=mask)[:, :20], y[:, :20])


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_a_million_tokens_are_summed_accurately(offset):
    x = offset + torch.randn(1, 1_000_000, 1)
    want = x.double().cumsum(1)
    for mask, expected in ((Causal(), want), (Full(), want[:, -1:])):
        got = ops.aggregate(x, mask=mask)
        assert (got.double() - expected).abs().max() <= 1e-6 * expected.abs().max()


def test_windows_do_not_cancel_far_from_the_start():
    # With a large offset, a difference of two prefix sums would have no correct digits here.
    x = 1000 + torch.randn(1, 1_000_000, 1)
    got = ops.aggregate(x, mask=Window(100))[0, -1].double()
    want = x[0, -100:].double().sum(0)
    assert ((got - want).abs() / want).item() < 1e-6


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 12))
def test_padding_is_never_summed(n, extra, size):
    text = torch.randn(1, n, 2)
    hole = torch.full((1, extra, 2), float("nan"))
    lengths = torch.tensor([n])
    for mask in (Full(), Causal(), Window(size), Prefix(size)):
        want = ops.aggregate(text, mask=mask)
        right = ops.aggregate(torch.cat([text, hole], 1), mask=mask, lengths=lengths)
        left = ops.aggregate(torch.cat([hole, text], 1), mask=mask, lengths=lengths, padding="left")
        if mask.pooled:
            assert torch.equal(right, want) and torch.equal(left, want)
        else:
            assert torch.equal(right[:, :n], want) and not right[:, n:].any()
            assert torch.equal(left[:, extra:], want) and not left[:, :extra].any()


@given(st.lists(st.integers(0, 9), min_size=1, max_size=5), st.sampled_from(KINDS))
def test_any_split_of_a_sequence_gives_the_same_outputs(pieces, kind):
    n = sum(pieces)
    x = torch.randn(2, n, D, dtype=torch.float64)
    p = torch.randn(n, D, dtype=torch.float64)
    more = {name: value.detach() for name, value in factors(kind, x).items()}
    masks = [Causal()] if kind == "gated" else [Causal(), Window(4)]
    for mask in masks:
        whole = ops.aggregate(x, p, mask=mask, normalize="mean", **more)
        parts, state, begin = [], None, 0
        for size in pieces:
            here = slice(begin, begin + size)
            now = {k: v[:, here] if k == "gate" else v for k, v in more.items()}
            y, state = ops.aggregate(
                x[:, here],
                p[here],
                mask=mask,
                normalize="mean",
                initial_state=state,
                return_state=True,
                **now,
            )
            parts.append(y)
            begin += size
        torch.testing.assert_close(torch.cat(parts, 1), whole)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", [*KINDS, "window"])
def test_steps_give_the_same_as_one_call(kind, dtype):
    x, p = torch.randn(2, 9, D, dtype=dtype), torch.randn(9, D, dtype=dtype)
    mask = Window(3) if kind == "window" else Causal()
    more = {name: value.detach() for name, value in factors(kind, x).items()}
    whole, end = ops.aggregate(x, p, mask=mask, normalize="sqrt", return_state=True, **more)
    state = None
    for t in range(9):
        now = {name: v[:, t] if name == "gate" else v for name, v in more.items()}
        y, state = ops.step(x[:, t], p[t], state, mask=mask, normalize="sqrt", **now)
        torch.testing.assert_close(y, whole[:, t])
    assert state.sums.dtype == end.sums.dtype and torch.equal(state.num_tokens, end.num_tokens)
    torch.testing.assert_close(state.sums, end.sums)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.sampled_from(KINDS))
def test_packed_documents_give_the_same_as_separate_ones(sizes, kind):
    boundaries = tuple(np.cumsum([0, *sizes]).tolist())
    x = torch.randn(1, boundaries[-1], D, dtype=torch.float64)
    p = torch.randn(10, D, dtype=torch.float64)
    more = {name: value.detach() for name, value in factors(kind, x).items()}
    packed = ops.aggregate(x, p, mask=Documents(boundaries), **more)
    pooled = ops.aggregate(x, p, mask=Documents(boundaries, causal=False), **more)
    for k, (a, b) in enumerate(zip(boundaries, boundaries[1:])):
        now = {name: v[:, a:b] if name == "gate" else v for name, v in more.items()}
        torch.testing.assert_close(
            ops.aggregate(x[:, a:b], p, mask=Causal(), **now), packed[:, a:b]
        )
        torch.testing.assert_close(ops.aggregate(x[:, a:b], p, **now)[:, 0], pooled[:, k])


@given(st.permutations(range(12)), st.integers(0, 12))
def test_fixed_point_sums_do_not_depend_on_order_or_shards(order, border):
    x = torch.randn(1, 12, 3)
    whole, _ = ops.aggregate(x, accumulate="fixed_point", return_state=True)
    shuffled = x[:, list(order)]
    _, state = ops.aggregate(shuffled[:, :border], accumulate="fixed_point", return_state=True)
    again = ops.aggregate(shuffled[:, border:], accumulate="fixed_point", initial_state=state)
    assert torch.equal(again, whole)


def test_fixed_point_states_can_be_subtracted():
    x = torch.randn(1, 5, 3)
    _, four = ops.aggregate(x[:, :4], accumulate="fixed_point", return_state=True)
    _, five = ops.aggregate(x, accumulate="fixed_point", return_state=True)
    _, last = ops.aggregate(x[:, 4:], accumulate="fixed_point", return_state=True)
    assert torch.equal(five.sums - last.sums, four.sums)
    with pytest.raises(ValueError, match="sums reach"):
        ops.aggregate(x + 1e12, accumulate="fixed_point")


def outputs_and_gradients():
    """Outputs and gradients of calls that are large enough to be split for the threads."""
    torch.manual_seed(0)
    x = torch.randn(3, 2000, 64, requires_grad=True)
    p = torch.randn(2000, 64, requires_grad=True)
    out = []
    for mask in (Full(), Causal(), Window(50)):
        y = ops.aggregate(x, p, mask=mask, normalize="sqrt")
        out += [y.detach(), *torch.autograd.grad(y.square().sum(), (x, p))]
    return out


def same_bits(got, want):
    return all(torch.equal(a, b) for a, b in zip(got, want))


def test_same_bits_for_any_number_of_threads():
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        want = outputs_and_gradients()
        torch.set_num_threads(2)
        assert all(same_bits(outputs_and_gradients(), want) for _ in range(20))
    finally:
        torch.set_num_threads(threads)


def test_eight_concurrent_python_threads():
    x, p = torch.randn(3, 2000, 64), torch.randn(2000, 64)
    want = ops.aggregate(x, p, mask=Causal())
    start = threading.Barrier(8)

    def call(_):
        start.wait()
        return [ops.aggregate(x, p, mask=Causal()) for _ in range(5)]

    with ThreadPoolExecutor(8) as pool:
        assert all(torch.equal(y, want) for ys in pool.map(call, range(8)) for y in ys)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_kernels_run_in_a_forked_child():
    x = torch.randn(3, 2000, 64)
    want = ops.aggregate(x, mask=Causal()).numpy()
    child = os.fork()
    if child == 0:
        signal.alarm(300)
        # NumPy compares, since the OpenMP threads of PyTorch do not survive a fork.
        same = np.array_equal(ops.aggregate(x, mask=Causal()).numpy(), want)
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_half_precision_sums_do_not_overflow():
    x = torch.full((1, 4000, 2), 30.0, dtype=torch.bfloat16)
    mean = ops.aggregate(x, mask=Causal(), normalize="mean")
    assert torch.equal(mean, x)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (dict(x=[[[1.0]]]), "x: list; expected a tensor"),
        (dict(x=torch.ones(3, 2)), "x: shape .3, 2., .* expected .B, N, D"),
        (dict(x=torch.ones(1, 3, 2, dtype=torch.int64)), "x: .*int64; expected"),
        (dict(p=torch.ones(2, 2)), "p: shape .2, 2.; expected"),
        (dict(x=torch.ones(1, 3, 2).to_sparse()), "x: torch.sparse_coo; expected a dense tensor"),
        (dict(p=torch.ones(3, 2).to_sparse()), "p: torch.sparse_coo; expected a dense tensor"),
        (dict(p=torch.ones(3, 2) * 1j), "p: torch.complex64; expected real numbers"),
        (dict(mask=torch.ones(1, 3, 3) * 1j), "mask: torch.complex64; expected real numbers"),
        (dict(p=[1.0, 2.0]), "p: list; expected a tensor or None"),
        (dict(mask="causal"), "mask='causal': expected an instance of Full, .* as Causal"),
        (dict(mask=Causal), "mask=Causal: expected an instance of Full, .* such as Causal.., or"),
        # A mask without a definition used to run as Causal().
        (dict(mask=Mask()), "mask=Mask.*: expected an instance of Full, Causal, Window"),
        (dict(mask=torch.ones(2, 2)), "mask: shape"),
        (dict(mask=Documents((0, 3)), lengths=torch.tensor([3])), "lengths: expected None"),
        (dict(mask=Documents((0, 2))), "x: shape"),
        (dict(lengths=torch.tensor([4])), "lengths: from 4 to 4; expected 0 to N = 3"),
        (dict(lengths=torch.tensor([1, 1])), "lengths: shape"),
        (dict(lengths=torch.tensor([1.0])), "lengths: torch.float32; expected an int32 or int64"),
        (dict(lengths=[1]), "lengths: list; expected"),
        (dict(normalize="rms"), "normalize='rms': expected one of none, sqrt, mean"),
        (dict(padding="front"), "padding='front': expected one of right, left"),
        (dict(decay=torch.ones(3)), "decay: shape"),
        (dict(decay=torch.ones(2, dtype=torch.int64)), "decay: torch.int64; expected"),
        (dict(gate=torch.ones(1, 3, 3)), "gate: shape"),
        (dict(decay=torch.ones(2), gate=torch.ones(1, 3, 2)), "gate: expected None with a decay"),
        (dict(decay=torch.ones(2), mask=Prefix(1)), "mask: Prefix supports none of decay"),
        (dict(initial_state=torch.ones(1, 2)), "initial_state: Tensor; expected a State"),
        (dict(mask=Prefix(1), return_state=True), "return_state: expected False"),
        (dict(accumulate="exact"), "accumulate='exact': expected one of float, fixed_point"),
        (
            dict(accumulate="fixed_point", decay=torch.ones(2)),
            "accumulate='fixed_point': expected neither decay nor gate",
        ),
        (dict(accumulate="fixed_point", impl="cpu"), "impl='cpu': expected 'auto' or 'plain'"),
        (dict(impl="fortran"), "impl='fortran': expected one of auto, cpu, gpu, plain, reference"),
        (dict(impl="gpu"), "impl='gpu': x is on cpu"),
        (dict(impl="cpu", x=torch.ones(1, 3, 2).half()), "impl='cpu': the cpu kernels do not"),
    ],
)
def test_errors_name_the_argument(arguments, names):
    call = {"x": torch.ones(1, 3, 2), **arguments}
    with pytest.raises((ValueError, TypeError), match=names):
        ops.aggregate(call.pop("x"), call.pop("p", None), **call)


def test_select_implementation_returns_what_runs():
    x = torch.ones(1, 3, 2)
    assert ops.select_implementation(x, mask=Causal()).implementation == "cpu"
    assert "float16" in ops.select_implementation(x.half(), mask=Causal()).reason
    assert (
        ops.select_implementation(x, mask=Window(2), decay=torch.ones(2)).implementation == "plain"
    )
    assert ops.select_implementation(x, impl="reference").reason == "requested by name"
