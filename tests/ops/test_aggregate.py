from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from hyperagg import ops
from hyperagg.masks import Causal, Documents, Full, Mask, Prefix, Window
from hyperagg.ops import reference


def masks_for(n: int) -> list[Mask]:
    borders = (0, n // 3, n // 3, n)
    return [
        Full(),
        Causal(),
        Window(1),
        Window(7),
        Window(n),
        Prefix(0),
        Prefix(n // 2 + 1),
        Documents(borders),
        Documents(borders, causal=False),
    ]


def test_by_hand():
    x = torch.tensor([[[1.0], [2.0], [3.0], [4.0]]])
    p = torch.tensor([[1.0], [10.0], [100.0], [1000.0]])

    def sums(mask, **kwargs):
        return ops.aggregate(x, p, mask=mask, **kwargs)[0, :, 0].tolist()

    assert sums(Full()) == [4321]
    assert sums(Causal()) == [1, 21, 321, 4321]
    assert sums(Window(2)) == [1, 21, 320, 4300]
    assert sums(Prefix(2)) == [21, 21, 321, 4321]
    assert sums(Documents((0, 1, 4))) == [1, 20, 320, 4320]
    assert sums(Documents((0, 1, 4), causal=False)) == [1, 4320]
    assert sums(Full(), lengths=torch.tensor([2])) == [21]
    assert sums(Full(), normalize="mean") == [4321 / 4]
    assert sums(Causal(), normalize="sqrt", lengths=torch.tensor([1])) == [1, 1, 1, 1]


@pytest.mark.parametrize("n", [1, 2, 63, 64, 65])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("normalize", ["none", "sqrt", "mean"])
def test_equals_reference(n, dtype, normalize):
    for mask in masks_for(n):
        batch = 1 if isinstance(mask, Documents) else 3
        lengths = None if isinstance(mask, Documents) else torch.tensor([n, n // 2, 0])
        for contiguous in (True, False):
            x = torch.randn(batch, n, 5, dtype=dtype)
            x = x if contiguous else x.transpose(1, 2).contiguous().transpose(1, 2)
            p = 1 + 0.1 * torch.randn(n, 5, dtype=dtype)
            x.requires_grad_(), p.requires_grad_()
            got = ops.aggregate(x, p, mask=mask, lengths=lengths, normalize=normalize)
            x64, p64 = (v.detach().double().requires_grad_() for v in (x, p))
            power = {"none": 0.0, "sqrt": 0.5, "mean": 1.0}[normalize]
            want = reference.aggregate(x64, p64, mask, lengths, power)
            assert got.dtype == dtype and got.shape == want.shape
            grad = torch.randn_like(want)
            grads = torch.autograd.grad(got, (x, p), grad.to(dtype))
            wanted = torch.autograd.grad(want, (x64, p64), grad)
            # A sum of n terms of about one, each rounded once or twice in its own type.
            bound = 8 * torch.finfo(dtype).eps * n**0.5
            for a, b in zip((got, *grads), (want, *wanted)):
                assert (a.double() - b).abs().max() <= bound * (1 + b.abs().max()), mask


def test_gradcheck_and_schema():
    x = torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True)
    p = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    for mask in (Full(), Causal(), Window(2), Prefix(3)):
        assert gradcheck(lambda x, p, mask=mask: ops.aggregate(x, p, mask=mask), (x, p))
    kind, size, borders = ops.encode_mask(Window(2))
    torch.library.opcheck(
        torch.ops.hyperagg.aggregate.default, (x, p, kind, size, borders, None, 0.5)
    )


def test_dense_mask_is_the_sources_product():
    x = torch.randn(2, 9, 4)
    dense = torch.tril(torch.ones(2, 9, 9))
    torch.testing.assert_close(
        ops.aggregate(x, mask=dense), ops.aggregate(x, mask=Causal()), atol=1e-5, rtol=1e-5
    )


def test_a_later_token_never_moves_an_earlier_output():
    x = torch.randn(1, 40, 3)
    for mask in (Causal(), Window(5), Documents((0, 17, 40))):
        y = ops.aggregate(x, mask=mask)
        moved = x.clone()
        moved[:, 20] += 5
        assert torch.equal(ops.aggregate(moved, mask=mask)[:, :20], y[:, :20])


def test_windows_do_not_cancel_far_from_the_start():
    # A large offset makes a difference of two prefix sums lose all its digits here.
    x = 1000 + torch.randn(1, 100_000, 1)
    got = ops.aggregate(x, mask=Window(10))[0, -1].double()
    want = x[0, -10:].double().sum(0)
    assert ((got - want).abs() / want).item() < 1e-6


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 12))
def test_padding_is_never_summed(n, extra, size):
    x = torch.randn(1, n + extra, 2)
    x[:, n:] = float("nan")
    lengths = torch.tensor([n])
    for mask in (Full(), Causal(), Window(size), Prefix(size)):
        padded = ops.aggregate(x, mask=mask, lengths=lengths)
        if mask.pooled:
            torch.testing.assert_close(padded[:, 0], x[:, :n].sum(1))
        else:
            assert torch.isfinite(padded).all()


def test_compiles_whole_with_any_length():
    layer = torch.compile(
        lambda x: ops.aggregate(x, mask=Causal(), normalize="sqrt"),
        fullgraph=True,
        dynamic=True,
        backend="aot_eager",
    )
    for n in (3, 17, 64):
        x = torch.randn(2, n, 4)
        torch.testing.assert_close(layer(x), ops.aggregate(x, mask=Causal(), normalize="sqrt"))


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (dict(x=torch.ones(3, 2)), "x"),
        (dict(x=torch.ones(1, 3, 2, dtype=torch.int64)), "x"),
        (dict(p=torch.ones(2, 2)), "p"),
        (dict(mask="causal"), "mask"),
        (dict(mask=torch.ones(2, 2)), "mask"),
        (dict(mask=Documents((0, 2))), "mask"),
        (dict(lengths=torch.tensor([4])), "lengths"),
        (dict(lengths=torch.tensor([1, 1])), "lengths"),
        (dict(normalize="rms"), "normalize"),
        (dict(impl="fortran"), "impl"),
    ],
)
def test_bad_arguments_are_named(arguments, names):
    call = {"x": torch.ones(1, 3, 2), **arguments}
    with pytest.raises((ValueError, TypeError), match=names):
        ops.aggregate(call.pop("x"), call.pop("p", None), **call)


def test_explain_tells_what_runs():
    assert ops.explain(torch.ones(1, 3, 2), mask=Causal()).implementation == "plain"
    assert ops.explain(torch.ones(1, 3, 2), impl="reference").reason == "asked for by name"
