"""The operators under vmap, export, compile and autocast, and for tensors on a GPU."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from hyperagg import ops
from hyperagg.ops import Causal, Documents, Full, Prefix, Window

MASKS = [Full(), Causal(), Window(3), Prefix(2)]


@pytest.mark.parametrize("mask", MASKS, ids=str)
def test_vmap_over_examples(mask):
    x, p = torch.randn(3, 2, 5, 4), torch.randn(5, 4)
    got = torch.func.vmap(lambda x: ops.aggregate(x, p, mask=mask))(x)
    torch.testing.assert_close(got, torch.stack([ops.aggregate(a, p, mask=mask) for a in x]))


@pytest.mark.parametrize("mask", MASKS, ids=str)
def test_batched_gradients(mask):
    x, p = torch.randn(2, 5, 4), torch.randn(5, 4, requires_grad=True)
    y = ops.aggregate(x, p, mask=mask)
    directions = torch.randn(3, *y.shape)
    (got,) = torch.autograd.grad(y, p, directions, retain_graph=True, is_grads_batched=True)
    separate = [torch.autograd.grad(y, p, v, retain_graph=True)[0] for v in directions]
    torch.testing.assert_close(got, torch.stack(separate))


class Layer(torch.nn.Module):
    def forward(self, x, p):
        return ops.aggregate(x, p[: x.shape[1]], mask=Causal(), normalize="sqrt")


def test_export_with_any_length():
    p, n = torch.randn(64, 4), torch.export.Dim("n", min=2, max=64)
    example = (torch.randn(2, 9, 4), p)
    exported = torch.export.export(Layer(), example, dynamic_shapes=({1: n}, None))
    x = torch.randn(2, 33, 4)
    assert torch.equal(exported.module()(x, p), Layer()(x, p))


def test_compiles_fullgraph_with_any_length():
    layer = torch.compile(Layer(), fullgraph=True, dynamic=True, backend="aot_eager")
    p = torch.randn(64, 4)
    for n in (3, 17, 64):
        x = torch.randn(2, n, 4, requires_grad=True)
        got, want = layer(x, p), Layer()(x, p)
        torch.testing.assert_close(got, want)
        torch.testing.assert_close(*(torch.autograd.grad(y.sum(), x)[0] for y in (got, want)))


class PackedLayer(torch.nn.Module):
    def forward(self, x, cu_seqlens, causal):
        return ops.aggregate(x, mask=Documents(cu_seqlens, causal=causal), normalize="mean")


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("inside", [True, False])
def test_packed_documents_compile_fullgraph(causal, inside):
    layer = PackedLayer()

    def outside(x, mask):
        return ops.aggregate(x, mask=mask, normalize="mean")

    call = torch.compile(
        layer if inside else outside, fullgraph=True, dynamic=True, backend="aot_eager"
    )
    for cu_seqlens in ([0, 3, 9], [0, 4, 4, 5], [0, 7]):
        x = torch.randn(1, cu_seqlens[-1], 4)
        want = layer(x, torch.tensor(cu_seqlens), causal)
        mask = Documents(cu_seqlens, causal=causal)
        got = call(x, torch.tensor(cu_seqlens), causal) if inside else call(x, mask)
        torch.testing.assert_close(got, want)


def test_packed_documents_export_with_any_boundaries():
    n, r = torch.export.Dim("n", min=2, max=64), torch.export.Dim("r", min=3, max=64)
    example = (torch.randn(1, 9, 4), torch.tensor([0, 3, 9]), True)
    exported = torch.export.export(PackedLayer(), example, dynamic_shapes=({1: n}, {0: r}, None))
    x, cu_seqlens = torch.randn(1, 12, 4), torch.tensor([0, 2, 5, 12])
    assert torch.equal(exported.module()(x, cu_seqlens, True), PackedLayer()(x, cu_seqlens, True))


def test_autocast_keeps_the_input_type():
    linear, x, p = torch.nn.Linear(4, 4), torch.randn(2, 33, 4), torch.randn(33, 4)
    with torch.autocast("cpu", torch.bfloat16):
        y = ops.aggregate(linear(x), p, mask=Causal(), decay=torch.full((4,), 0.9))
    y.float().sum().backward()
    assert y.dtype == torch.bfloat16 and linear.weight.grad.isfinite().all()


@pytest.mark.parametrize("backward", ["", "_backward"])
@pytest.mark.parametrize("name", ["scan", "window", "associative"])
def test_operators_have_cuda_kernels(name, backward):
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"hyperagg::{name}{backward}", "CUDA")


@pytest.mark.parametrize("mask", [Causal(), Window(3), Prefix(2)], ids=str)
def test_cuda_tensors_run_the_gpu_kernels(mask):
    pytest.importorskip("triton", reason="Triton is not installed: pip install triton")
    with FakeTensorMode():
        x = torch.empty(2, 5, 4, device="cuda", dtype=torch.float16)
        p = torch.empty(5, 4, device="cuda")
        assert ops.select_implementation(x, p, mask=mask).implementation == "gpu"
        y = ops.aggregate(x, p, mask=mask, impl="gpu")
        assert (y.device.type, y.dtype) == ("cuda", torch.float16)
        with pytest.raises(ValueError, match="impl='cpu': x is on cuda"):
            ops.aggregate(x, p, mask=mask, impl="cpu")
        with pytest.raises(ValueError, match="p: on cpu; expected cuda:0, the device of x"):
            ops.aggregate(x, torch.ones(5, 4), mask=mask)


def test_associative_sums_of_cuda_tensors_run_the_gpu_kernels():
    pytest.importorskip("triton", reason="Triton is not installed: pip install triton")
    with FakeTensorMode():
        q = torch.empty(2, 5, 3, 4, device="cuda", dtype=torch.float16)
        for impl in ("auto", "gpu"):
            o, state = ops.associative(q, q, q, return_state=True, impl=impl)
            assert (o.device.type, o.dtype) == ("cuda", torch.float16)
            assert state.sums.dtype == torch.float32
        with pytest.raises(ValueError, match="impl='cpu': q is on cuda"):
            ops.associative(q, q, q, impl="cpu")
        with pytest.raises(ValueError, match=r"the gpu kernels do not support torch\.float64"):
            ops.associative(*[q.double()] * 3, impl="gpu")
