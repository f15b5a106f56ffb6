"""The Triton kernels against the reference; without a GPU they run in the Triton interpreter."""

from __future__ import annotations

import pytest
import torch

from hyperagg.ops import Causal, Documents, Full, Window, reference
from hyperagg.ops.state import State, find_rows

INTERPRETED = not torch.cuda.is_available()
pytest.importorskip("triton", reason="Triton is not installed: pip install triton")

from hyperagg.ops import gpu  # noqa: E402
from hyperagg.ops.gpu import tiles  # noqa: E402

DEVICE = "cpu" if INTERPRETED else "cuda"
pytestmark = pytest.mark.usefixtures("poisoned")
TYPES = [torch.float32, torch.bfloat16, torch.float16]
KINDS = ["prefix_sum", "decay", "complex_decay", "gated"]


@pytest.fixture(params=["whole", "split"])
def row_layout(request, monkeypatch):
    """Rows that are whole, or split into chunks of two tiles."""
    monkeypatch.setattr(tiles, "TILE_POSITIONS", 16)
    monkeypatch.setattr(tiles, "CHUNK_SIZE", 32 if request.param == "split" else 10**6)


class Case:
    """The inputs of one call, rounded to `dtype`, and the outputs of the reference in float64."""

    def __init__(
        self, mask, n, d, dtype, kind="prefix_sum", p=True, lengths=None, state=False, **rest
    ):
        self.mask, self.dtype, self.kind = mask, dtype, kind
        self.norm_exponent = rest.get("norm_exponent", 0.0)
        self.padding = rest.get("padding", "right")
        batch = 1 if isinstance(mask, Documents) or lengths is None else len(lengths)
        self.lengths = None if lengths is None else torch.tensor(lengths)
        x = torch.randn(batch, n, d).to(dtype)
        rows = find_rows(mask, x, self.lengths, self.padding)
        token = torch.arange(batch * n)[:, None]
        self.is_token = ((token >= rows.starts) & (token < rows.starts + rows.lengths)).any(1)
        # A kernel that reads padding gives NaN.
        x.view(-1, d)[~self.is_token] = float("nan")
        accumulator_dtype = torch.promote_types(dtype, torch.float32)
        self.leaves = {"x": x}
        if p:
            # More positions than the rows have; the gradient of the rest is zero.
            self.leaves["p"] = (1 + 0.3 * torch.randn(n + 3, d)).to(accumulator_dtype)
        if kind == "decay":
            self.leaves["decay"] = (0.8 + 0.2 * torch.rand(d)).to(accumulator_dtype)
        elif kind == "complex_decay":
            size, angle = 0.8 + 0.2 * torch.rand(d // 2), torch.randn(d // 2)
            self.leaves["decay"] = torch.view_as_real(torch.polar(size, angle)).to(
                accumulator_dtype
            )
        elif kind == "gated":
            gate = torch.rand(batch, n, d)
            gate[:, ::7] = 0
            self.leaves["gate"] = gate.to(dtype)
        self.tokens_before = None
        if state:
            self.tokens_before = torch.arange(len(rows.starts)) + 2
            self.leaves["initial"] = torch.randn(len(rows.starts), d).to(accumulator_dtype)
        self.rows = rows

    def expected(self):
        leaves = {k: v.double().requires_grad_() for k, v in self.leaves.items()}
        decay = leaves.get("decay")
        if self.kind == "complex_decay":
            decay = torch.view_as_complex(decay)
        state = None if self.tokens_before is None else State(leaves["initial"], self.tokens_before)
        y, after = reference.aggregate(
            leaves["x"],
            leaves.get("p"),
            self.mask,
            self.lengths,
            self.norm_exponent,
            decay=decay,
            gate=leaves.get("gate"),
            state=state,
            padding=self.padding,
        )
        self.y_grad = torch.randn(y.shape, dtype=torch.float64).to(self.dtype)
        outputs, grads = [y], [self.y_grad.double()]
        self.sums_grad = None
        if not isinstance(self.mask, Window):
            self.sums_grad = torch.randn(after.sums.shape)
            outputs.append(after.sums)
            grads.append(self.sums_grad.double())
        found = torch.autograd.grad(outputs, list(leaves.values()), grads, allow_unused=True)
        found = [torch.zeros_like(v) if g is None else g for v, g in zip(leaves.values(), found)]
        return y.detach(), after.sums.detach(), dict(zip(leaves, found))

    def on_device(self, tensor):
        return None if tensor is None else tensor.to(DEVICE)

    def got(self):
        d = self.leaves["x"].shape[2]
        flat = {
            k: self.on_device(v.flatten(0, 1) if k in ("x", "gate") else v)
            for k, v in self.leaves.items()
        }
        rows = [self.on_device(v) for v in (self.tokens_before, *self.rows)]
        inputs = flat["x"], flat.get("p")
        recurrence = flat.get("decay"), flat.get("gate"), flat.get("initial")
        y_grad = self.on_device(self.y_grad.reshape(-1, d))
        if isinstance(self.mask, Window):
            y = gpu.window(*inputs, *rows, self.mask.size, self.norm_exponent)
            grads = gpu.window_backward(y_grad, *inputs, *rows, self.mask.size, self.norm_exponent)
            return y, None, dict(zip(("x", "p"), grads))
        inputs = (*inputs, *recurrence, *rows)
        pooled = self.mask.pooled
        y, sums = gpu.scan(*inputs, self.norm_exponent, pooled)
        sums_grad = self.on_device(self.sums_grad)
        if pooled:
            # `aggregate` computes y from the last sums.
            number = self.rows.lengths + (0 if self.tokens_before is None else self.tokens_before)
            scale = self.on_device(number.clamp(min=1).double()[:, None] ** -self.norm_exponent)
            assert y.shape == (0, d)
            y = sums.double() * scale
            sums_grad = (sums_grad + y_grad.double() * scale).to(sums.dtype)
        grads = gpu.scan_backward(
            None if pooled else y_grad,
            sums_grad,
            *inputs,
            y if not pooled and self.kind != "prefix_sum" else flat["x"][:0],
            self.norm_exponent,
        )
        return y, sums, dict(zip(("x", "p", "decay", "gate", "initial"), grads))

    def check(self):
        y, sums, grads = self.expected()
        got_y, got_sums, got_grads = self.got()
        accumulator_dtype = torch.promote_types(self.dtype, torch.float32)
        if not self.mask.pooled:
            assert got_y.dtype == self.dtype
        close(got_y.view(y.shape), y, self.dtype)
        if got_sums is not None:
            assert got_sums.dtype == accumulator_dtype
            close(got_sums, sums, accumulator_dtype)
        for name, want in grads.items():
            got = got_grads[name]
            has_input_dtype = name in ("x", "gate")
            assert got.dtype == (self.dtype if has_input_dtype else accumulator_dtype), name
            # The kernels read the sums for a gradient in the type of the inputs or better.
            close(got.view(want.shape), want, self.dtype if has_input_dtype else accumulator_dtype)
        for name, leaf in self.leaves.items():
            if name in ("x", "gate"):
                flat = got_grads[name].view(-1, leaf.shape[-1]).cpu()
                assert not flat[~self.is_token].any(), name
        if not self.mask.pooled:
            assert not got_y.view(-1, y.shape[-1]).cpu()[~self.is_token].any()


def close(got, want, dtype):
    got = got.double().cpu()
    assert got.shape == want.shape
    assert torch.isfinite(got).all()
    # One rounding to the type, and the error of the sums in float32.
    bound = torch.finfo(dtype).eps + 64 * torch.finfo(torch.float32).eps
    if want.numel():
        assert (got - want).abs().max() <= bound * (1 + want.abs().max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("n", "dtype", "norm_exponent", "p", "state"),
    [
        (1, torch.float32, 0.5, True, True),
        (2, torch.bfloat16, 0.0, True, False),
        (63, torch.float16, 1.0, False, True),
        (64, torch.float32, 0.0, False, False),
        (65, torch.bfloat16, 0.5, True, True),
    ],
)
def test_scan_equals_reference(kind, n, dtype, norm_exponent, p, state, row_layout):
    lengths = [n, 0, (n + 1) // 2]
    Case(Causal(), n, 2, dtype, kind, p, lengths, state, norm_exponent=norm_exponent).check()


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_row(kind, monkeypatch):
    monkeypatch.setattr(tiles, "CHUNK_SIZE", 64)
    Case(Causal(), 300, 2, torch.float32, kind, lengths=[300], norm_exponent=1.0).check()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mask", [Causal(), Full()], ids=str)
def test_padding_on_the_left(kind, mask, row_layout):
    lengths = [37, 0, 17]
    Case(mask, 39, 2, torch.float32, kind, True, lengths, norm_exponent=0.5, padding="left").check()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("causal", [True, False])
def test_documents(kind, causal, row_layout):
    mask = Documents((0, 3, 3, 36, 49), causal=causal)
    Case(mask, 49, 2, torch.float16, kind, not causal, None, True, norm_exponent=1.0).check()


@pytest.mark.parametrize("kind", KINDS)
def test_pooled(kind, row_layout):
    Case(Full(), 40, 2, torch.bfloat16, kind, True, [40, 1, 33], True, norm_exponent=0.5).check()


@pytest.mark.parametrize(
    ("size", "p"),
    [
        (1, True),
        (2, False),
        (7, True),
        (7, False),
        (16, True),
        (33, True),
        (65, False),
        (999, True),
    ],
)
def test_window(size, p, monkeypatch):
    monkeypatch.setattr(tiles, "TILE_POSITIONS", 16)
    monkeypatch.setattr(tiles, "CHUNK_SIZE", 32)
    dtype = TYPES[size % 3]
    norm_exponent = size % 5 / 4 if size % 5 in (0, 2, 4) else 0.25
    Case(
        Window(size), 65, 2, dtype, "prefix_sum", p, [65, 0, 30], norm_exponent=norm_exponent
    ).check()


def test_windows_neither_cancel_nor_spread_infinity():
    n = 100
    x = torch.full((n, 1), 1e7)
    x[60:] = torch.randn(n - 60, 1)
    x[50] = float("inf")
    rows = torch.tensor([0]), torch.tensor([n])
    y = gpu.window(x.to(DEVICE), None, None, *(v.to(DEVICE) for v in rows), 7, 0.0).cpu()
    want = x.double().unfold(0, 7, 1).sum(-1)[60:]
    assert y[50:57].isinf().all() and y[:50].isfinite().all()
    torch.testing.assert_close(y[66:].double(), want, atol=1e-5, rtol=0)


def test_blocks_of_channels_and_groups_of_rows(monkeypatch):
    monkeypatch.setattr(tiles, "TILE_POSITIONS", 8)
    monkeypatch.setattr(tiles, "TILE_CHANNELS", 4)
    monkeypatch.setattr(tiles, "TARGET_PROGRAMS", 12)
    for kind in ("prefix_sum", "complex_decay"):
        Case(Causal(), 5, 10, torch.float32, kind, True, [5, 2, 4], norm_exponent=0.5).check()
    Case(Causal(), 3, 1, torch.float32, "gated", True, [3, 2, 0, 1, 3], True).check()


def test_float64_is_accurate_to_float64():
    case = Case(Causal(), 40, 2, torch.float64, "decay", True, [40, 7], True, norm_exponent=1.0)
    y, _, grads = case.expected()
    got, _, got_grads = case.got()
    torch.testing.assert_close(got.cpu().view_as(y)[0], y[0], atol=1e-12, rtol=1e-12)
    for name, want in grads.items():
        torch.testing.assert_close(got_grads[name].cpu().view_as(want), want)


@pytest.mark.parametrize("pooled", [True, False])
def test_empty_inputs(pooled):
    for rows, tokens in ((0, 0), (2, 0)):
        x, p = torch.ones(tokens, 3, device=DEVICE), torch.ones(2, 3, device=DEVICE)
        row_fields = (torch.zeros(rows, dtype=torch.int64, device=DEVICE),) * 2
        inputs = (x, p, None, None, None, None, *row_fields)
        y, sums = gpu.scan(*inputs, 0.5, pooled)
        assert y.shape == x.shape and sums.shape == (rows, 3) and not sums.any()
        grads = gpu.scan_backward(None, None, *inputs, x, 0.5)
        assert grads[1].shape == (2, 3) and not grads[1].any()
        assert gpu.window(x, p, None, *row_fields, 2, 0.0).shape == x.shape
        assert not gpu.window_backward(x, x, p, None, *row_fields, 2, 0.0)[1].any()


def test_repeated_calls_give_the_same_bits(row_layout):
    case = Case(Causal(), 50, 2, torch.float32, "decay", True, [50, 20])
    case.expected()
    first, second = case.got(), case.got()
    assert torch.equal(first[0], second[0])
    assert all(torch.equal(a, b) for a, b in zip(first[2].values(), second[2].values()))
