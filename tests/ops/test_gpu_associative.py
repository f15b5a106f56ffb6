"""The Triton kernels of associative sums; without a GPU they run in the Triton interpreter."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

import pytest
import torch

from hyperagg import ops
from hyperagg.layers import AssociativeAggregation
from hyperagg.ops import Documents, associative_registration
from tests.ops.associative_cases import (
    KINDS,
    H,
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

INTERPRETED = not torch.cuda.is_available()
pytest.importorskip("triton", reason="Triton is not installed: pip install triton")

from hyperagg.ops import gpu  # noqa: E402

# The packages have functions of the same names.
dispatch = importlib.import_module("hyperagg.ops.associative")
gpu_kernels = importlib.import_module("hyperagg.ops.gpu.associative")

PIECES = slice(0, 3), slice(3, None)
DEVICE, IMPL = ("cpu", "cpu") if INTERPRETED else ("cuda", "gpu")
needs_gpu = pytest.mark.skipif(INTERPRETED, reason="needs a GPU")
pytestmark = pytest.mark.usefixtures("poisoned", "kernels")


class Interpreted(torch.autograd.Function):
    """The operator as it is registered for tensors on a GPU, but for tensors on the CPU."""

    forward = staticmethod(gpu.associative)
    setup_context = staticmethod(associative_registration._save)
    backward = staticmethod(associative_registration._backward)


@pytest.fixture
def kernels(monkeypatch):
    """The Triton kernels as those of the device, in chunks of 2 tokens."""
    monkeypatch.setattr(gpu_kernels, "CHUNK_SIZE", 2)
    if INTERPRETED:
        monkeypatch.setitem(dispatch._KERNEL_DTYPES, "cpu", dispatch._KERNEL_DTYPES["gpu"])
        registered = {
            "associative": Interpreted.apply,
            "associative_backward": gpu.associative_backward,
        }
        for name, function in registered.items():
            monkeypatch.setattr(associative_registration, name, function)
    with torch.device(DEVICE):
        yield


@pytest.fixture
def small_blocks(monkeypatch):
    """Several blocks of value columns."""
    monkeypatch.setattr(gpu_kernels, "TILE_SIZE", 16)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_reference(kind, dtype, small_blocks):
    check(kind, 1, 5, dtype, impl=IMPL, keys=3, values=6)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize(("keys", "values"), [(1, 1), (5, 2), (2, 17)])
def test_odd_sizes_equal_reference(n, keys, values):
    for kind in ("decay per head", "delta rule, decay per key"):
        check(kind, 1, n, torch.float32, impl=IMPL, keys=keys, values=values)


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("kind", KINDS)
def test_padding_equals_reference(kind, padding):
    lengths = torch.tensor([3, 2, 0])
    check(kind, 3, 3, torch.float32, impl=IMPL, lengths=lengths, padding=padding)


@pytest.mark.parametrize("kind", KINDS)
def test_documents_equal_reference(kind):
    check(kind, 1, 6, torch.float32, impl=IMPL, mask=Documents(torch.tensor([0, 1, 1, 4, 6])))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_crosses_a_border(kind):
    check_borders(kind, 3, 1, impl=IMPL)


@pytest.mark.parametrize("per_key", [False, True])
def test_long_decays_neither_overflow_nor_vanish(per_key):
    check_long_decays(8, per_key, impl=IMPL)


# Of NumPy, in which the interpreter computes.
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("kind", ["decay per key", "delta rule, decay per head"])
def test_what_is_not_finite_reaches_no_earlier_output_and_no_other_head(kind, value):
    check_not_finite(kind, 4, value, impl=IMPL)


@pytest.mark.parametrize("kind", ["outer product", "delta rule, decay per head"])
def test_any_split_of_a_sequence_gives_the_same_bits(kind):
    *tokens, sums = inputs(kind, 1, 5, dtype=torch.float32)
    whole, end = run(ops.associative, [*tokens, sums], impl=IMPL)
    first, second = ([t if t is None else t[:, piece] for t in tokens] for piece in PIECES)
    a, state = run(ops.associative, [*first, sums], impl=IMPL)
    b, state = run(ops.associative, [*second, state.sums], impl=IMPL)
    assert torch.equal(torch.cat([a, b], 1), whole) and torch.equal(state.sums, end.sums)


def test_repeated_calls_give_the_same_bits(small_blocks):
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        kind, sizes = "delta rule, decay per key", dict(keys=2, values=9)
        leaves = leaves_of(inputs(kind, 1, 3, dtype=torch.float32, **sizes))
        o, state = run(ops.associative, leaves, impl=IMPL)
        found.append([o, *gradients((o, state.sums), (o.cos(), state.sums), leaves)])
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize(
    "shape", [(0, 3, H, 2, 2), (2, 0, H, 2, 2), (1, 2, H, 0, 2), (1, 2, H, 2, 0)]
)
def test_empty_inputs(shape):
    *tokens, keys, values = shape
    q, v = torch.ones(*tokens, keys, requires_grad=True), torch.ones(*tokens, values)
    beta = torch.ones(*tokens, requires_grad=True)
    o, state = ops.associative(q, q, v, beta=beta, return_state=True, impl=IMPL)
    assert o.shape == v.shape and state.sums.shape == (tokens[0], H, keys, values)
    assert not o.any() and not state.sums.any()
    (o.sum() + state.sums.sum()).backward()
    assert not q.grad.any() and not beta.grad.any()


# The interpreter accepts programs that the compiler does not, and the compiler needs no GPU.
COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from hyperagg.ops.gpu.associative import _backward, _forward


def compile(kernel, absent=(), **sizes):
    types = {}
    for i, name in enumerate(kernel.arg_names):
        if name in absent or name in sizes:
            types[name] = "constexpr"
        elif name in ("starts", "lengths", "first_chunks"):
            types[name] = "*i64"
        elif name in "THKE":
            types[name] = "i32"
        else:
            types[name] = "*bf16" if name in ("q", "k", "v", "o", "o_grad", "v_grad") else "*fp32"
    constants = {name: sizes.get(name) for name in types if types[name] == "constexpr"}
    source = ASTSource(fn=kernel, signature=types, constexprs=constants)
    assert triton.compile(source, target=GPUTarget("cuda", 80, 32)).asm["cubin"]


for per_key in (False, True):
    sizes = dict(DECAY_PER_KEY=per_key, CHUNK=32, KEYS=64, COLUMNS=32)
    compile(_backward, **sizes)
compile(_backward, ("beta", "decay", "beta_grads", "decay_grads"), **sizes)
compile(_forward, ("o", "sums"), **sizes)
compile(_forward, ("first_chunks", "checkpoints"), **sizes)
compile(_forward, ("first_chunks", "checkpoints"), **{**sizes, "KEYS": 1, "COLUMNS": 1})
"""


def test_kernels_compile_to_machine_code(tmp_path):
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", COMPILED]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("kind", KINDS)
def test_opcheck(kind):
    check_operator(kind)


@pytest.mark.gpu
@needs_gpu
def test_a_layer_gives_the_same_on_a_gpu():
    with torch.device("cpu"):
        layer, u = AssociativeAggregation(32, num_heads=2), torch.randn(3, 100, 32)
        expected = layer(u)[0]
        expected.square().sum().backward()
    grads = [parameter.grad.clone() for parameter in layer.parameters()]
    layer.zero_grad()
    y = layer.cuda()(u.cuda())[0]
    torch.testing.assert_close(y.cpu(), expected, atol=1e-4, rtol=1e-4)
    y.square().sum().backward()
    for parameter, grad in zip(layer.parameters(), grads):
        torch.testing.assert_close(parameter.grad.cpu(), grad, atol=1e-3, rtol=1e-3)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("kind", KINDS)
def test_compiles_fullgraph(kind):
    def loss(q, k, v, beta, decay):
        return ops.associative(q, k, v, beta=beta, decay=decay).square().sum()

    compiled = torch.compile(loss, fullgraph=True, dynamic=True)
    for n in (3, 70):
        leaves = leaves_of(inputs(kind, 2, n, dtype=torch.float32)[:5])
        present = [t for t in leaves if t is not None]
        found = [torch.autograd.grad(f(*leaves), present) for f in (compiled, loss)]
        for a, b in zip(*found):
            torch.testing.assert_close(a, b)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_a_gpu_that_is_not_the_current_one():
    tensors = inputs("delta rule, decay per head", 2, 5, dtype=torch.float32)
    expected, _ = run(ops.associative, tensors, impl="gpu")
    found, _ = run(ops.associative, [t.to("cuda:1") for t in tensors], impl="gpu")
    assert torch.equal(found.to("cuda:0"), expected)
