"""The causal mixer: its forms match their formulas, and states roll back; layouts of batches."""

from __future__ import annotations

import math
import re

import pytest
import torch

from hyperagg.layers import CausalAggregation, Layout
from hyperagg.ops import Documents

D = 6


@pytest.fixture
def mixer(causal_mixer):
    return causal_mixer


def by_definition(mixer: CausalAggregation, u: torch.Tensor) -> torch.Tensor:
    """sum_{t <= i} v_t * p(t, i), written out for u (N, D)."""
    n = len(u)
    if mixer.convolution is not None:
        w = mixer.convolution.weight
        u = torch.stack([sum(w[j] * u[t - j] for j in range(min(t + 1, 3))) for t in range(n)])
    v = u @ mixer.value.weight.T
    recurrence = mixer.recurrence
    name = type(recurrence).__name__

    def p(t: int, i: int) -> torch.Tensor:
        if name == "AbsolutePositions":
            return recurrence.weight[t]
        if name == "InputGate":
            a = torch.sigmoid(recurrence.linear(u))
            return (1 - a[t]) * a[t + 1 : i + 1].prod(0)
        modulus = torch.exp(-recurrence.log_decay_rate.exp())
        if name == "ConstantDecay":
            return (1 - modulus**2).sqrt() * modulus ** (i - t)
        power = torch.polar(modulus, recurrence.frequency) ** (i - t)
        return (1 - modulus**2).sqrt() * power

    sums = []
    for i in range(n):
        if name == "ComplexDecay":
            pairs = torch.view_as_complex(v.view(n, -1, 2))
            total = sum(pairs[t] * p(t, i) for t in range(i + 1))
            sums.append(torch.view_as_real(total).flatten())
        else:
            sums.append(sum(v[t] * p(t, i) for t in range(i + 1)))
    y = torch.stack(sums)
    y = y * (y.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * mixer.norm.weight
    if mixer.output_gate is not None:
        r = u @ mixer.output_gate.weight.T
        y = y * r * torch.sigmoid(r)
    return y @ mixer.out.weight.T


def test_forms_match_their_formula(mixer):
    u = torch.randn(2, 7, D, dtype=torch.float64)
    y, _ = mixer(u)
    expected = torch.stack([by_definition(mixer, row) for row in u])
    # The decay itself is computed in float32.
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("num_tokens", [0, 1, 4])
def test_rollback_restores_the_earlier_state(mixer, num_tokens):
    u = torch.randn(2, 9, D, dtype=torch.float64)
    _, start = mixer(u[:, :5])
    _, state = mixer(u[:, 5:], state=start, return_history=True)
    restored = state.rollback(num_tokens)
    _, expected = mixer(u[:, 5 : 9 - num_tokens], state=start) if num_tokens < 4 else (None, start)
    # Linear maps of fewer tokens at once may round differently.
    torch.testing.assert_close(restored.sums.sums, expected.sums.sums, rtol=0, atol=1e-12)
    assert torch.equal(restored.sums.num_tokens, expected.sums.num_tokens)
    if restored.conv_state is not None:
        assert torch.equal(restored.conv_state, expected.conv_state)


@pytest.mark.parametrize("padding", ["left", "right"])
@pytest.mark.parametrize("num_tokens", [0, 1, 2])
def test_rollback_restores_the_earlier_state_of_padded_rows(mixer, padding, num_tokens):
    """Also to before the first token of a row, where padding follows the tokens of the state."""
    u = torch.randn(3, 9, D, dtype=torch.float64)
    lengths = torch.tensor([2, 3, 4])
    _, start = mixer(u[:, :5])
    _, state = mixer(u[:, 5:], Layout(lengths, padding), start, return_history=True)
    restored = state.rollback(num_tokens)
    assert restored.sums.num_tokens.tolist() == (5 + lengths - num_tokens).tolist()
    for row, length in enumerate(lengths.tolist()):
        first = 9 - length if padding == "left" else 5
        kept = torch.cat([u[row, :5], u[row, first : first + length - num_tokens]])
        _, expected = mixer(kept[None])
        torch.testing.assert_close(
            restored.sums.sums[row], expected.sums.sums[0], rtol=0, atol=1e-12
        )
        if restored.conv_state is not None:
            torch.testing.assert_close(
                restored.conv_state[row], expected.conv_state[0], rtol=0, atol=1e-12
            )
    with pytest.raises(ValueError, match="num_tokens=3: expected 0 to 2"):
        state.rollback(3)


def test_rollback_beyond_the_history_is_refused():
    mixer = CausalAggregation(D)
    _, state = mixer(torch.randn(1, 4, D), return_history=True)
    with pytest.raises(ValueError, match="num_tokens=5: expected 0 to 4"):
        state.rollback(5)
    _, state = mixer(torch.randn(1, 4, D))
    with pytest.raises(ValueError, match="num_tokens=0: expected 0 to 0"):
        state.rollback(0)


def test_constant_decay_preserves_the_variance_of_noise():
    torch.manual_seed(0)
    mixer = CausalAggregation(64, "decay")
    inputs = mixer.recurrence(torch.empty(1, 1, 64), torch.randn(1, 1, 64), 1)
    variances = inputs.x.square() / (1 - inputs.decay**2)
    assert math.isclose(variances.mean().item(), 1, rel_tol=0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            dict(form="sums"),
            "form='sums': expected one of prefix_sum, decay, complex_decay, gated",
        ),
        (dict(form="prefix_sum"), "max_length=None: expected an integer >= 1 for 'prefix_sum'"),
        (dict(expand=0), "expand=0: expected an integer >= 1"),
        (dict(conv_kernel_size=-1), "conv_kernel_size=-1: expected an integer >= 0"),
        (dict(d_model=0), "d_model=0: expected an integer >= 1"),
        (dict(d_model=5, form="complex_decay"), "channels=5: expected an even number"),
    ],
)
def test_invalid_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        CausalAggregation(**{"d_model": D} | arguments)


def test_sequences_beyond_the_absolute_positions_are_refused():
    mixer = CausalAggregation(D, "prefix_sum", max_length=4)
    _, state = mixer(torch.randn(1, 4, D))
    with pytest.raises(ValueError, match="sequence of 5 tokens: expected at most 4"):
        mixer(torch.randn(1, 1, D), state=state)
    with pytest.raises(ValueError, match="sequence of 5 tokens: expected at most 4"):
        mixer(torch.randn(1, 5, D))


@pytest.mark.parametrize("form", ["gated", "decay"])
def test_a_layout_of_documents_is_that_of_their_position_ids(form):
    mixer = CausalAggregation(D, form, conv_kernel_size=4)
    u = torch.randn(2, 6, D)
    position_ids = torch.tensor([[0, 1, 2, 0, 0, 1], [0, 1, 2, 3, 4, 5]])
    layout = Layout(documents=Documents([0, 3, 4, 4, 6, 12]))
    expected, _ = mixer(u, Layout.from_position_ids(position_ids))
    assert torch.equal(mixer(u, layout)[0], expected)
    assert torch.equal(layout.find_position_ids(2, 6), position_ids)


@pytest.mark.parametrize("padding", ["left", "right"])
def test_a_layout_of_lengths_is_that_of_their_attention_mask(padding):
    mixer = CausalAggregation(D, conv_kernel_size=4)
    state = None
    for lengths in torch.tensor([[4, 2], [0, 3], [1, 4]]):
        u = torch.randn(2, 4, D)
        mask = torch.arange(4) < lengths[:, None]
        mask = mask.flip(1) if padding == "left" else mask
        expected, after = mixer(u, Layout.from_attention_mask(mask), state)
        y, state = mixer(u, Layout(lengths, padding), state)
        assert torch.equal(y[mask], expected[mask])
        assert torch.equal(state.conv_state, after.conv_state)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: Layout(torch.ones(2)), "lengths: torch.float32; expected int32 or int64"),
        (lambda: Layout(torch.tensor([[2]])), "lengths: shape (1, 1); expected (B,)"),
        (
            lambda: Layout(documents=Documents([0, 2], causal=False)),
            "documents=Documents(cu_seqlens=(0, 2), causal=False): expected causal=True",
        ),
        (
            lambda: Layout(torch.tensor([2]), documents=Documents([0, 2])),
            "lengths: expected None with documents",
        ),
        (
            lambda: Layout.from_attention_mask(torch.tensor([1, 1])),
            "attention_mask: shape (2,); expected (B, N)",
        ),
        (
            lambda: Layout.from_position_ids(torch.tensor([0, 1])),
            "position_ids: shape (2,); expected (B, N)",
        ),
        (
            lambda: Layout.from_position_ids(torch.tensor([[0.0, 1.0]])),
            "position_ids: torch.float32; expected int32 or int64",
        ),
        (
            lambda: Layout(documents=Documents([0, 2])).find_position_ids(1, 3),
            "expected documents of B N = 3 tokens",
        ),
        (
            lambda: Layout(documents=Documents([0, 4])).find_position_ids(2, 2),
            "expected a new document at the start of every row",
        ),
        (
            lambda: Layout(torch.tensor([2, 1])).find_position_ids(1, 2),
            "layout: 2 lengths; expected B = 1",
        ),
        (
            lambda: Layout.from_attention_mask(torch.tensor([[1, 0]])).find_position_ids(1, 3),
            "layout: of a batch of shape (1, 2); expected (1, 3)",
        ),
    ],
)
def test_errors_of_layouts_are_one_line(make, error):
    with pytest.raises((TypeError, ValueError), match=re.escape(error)) as raised:
        make()
    assert "\n" not in str(raised.value)


def test_invalid_layouts_are_refused():
    with pytest.raises(ValueError, match="zeros lie between the tokens"):
        Layout.from_attention_mask(torch.tensor([[1, 0, 1]]))
    with pytest.raises(ValueError, match="different sides"):
        Layout.from_attention_mask(torch.tensor([[1, 1, 0], [0, 1, 1]]))
    with pytest.raises(ValueError, match="expected ids that increase by 1"):
        Layout.from_position_ids(torch.tensor([[0, 1, 5]]))
    mixer = CausalAggregation(D)
    _, state = mixer(torch.randn(1, 2, D))
    with pytest.raises(ValueError, match="packed documents start with an empty state"):
        mixer(torch.randn(1, 2, D), Layout.from_position_ids(torch.tensor([[0, 0]])), state)


@pytest.mark.parametrize("side", ["left", "right", "packed"])
def test_nan_does_not_cross_a_border(side):
    mixer = CausalAggregation(D, conv_kernel_size=4)
    u = torch.randn(1, 8, D)
    nan = torch.full((1, 3, D), torch.nan)
    if side == "packed":
        u[:, :5] = torch.nan
        layout = Layout.from_position_ids(torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2]]))
        assert torch.equal(mixer(u, layout)[0][:, 5:].isnan(), torch.zeros(1, 3, D).bool())
        return
    before, after = u[:, :2], u[:, 2:]
    parts = (nan, before, after[:, :1]) if side == "left" else (before, nan)
    batch = torch.cat(parts, 1)
    keep = ~batch.isnan().any(-1)
    y, state = mixer(batch, Layout.from_attention_mask(keep))
    # The tokens of a second call follow those of the first, with padding between them.
    rest = torch.cat([nan, after[:, keep.sum() - 2 :]], 1)
    z, state = mixer(rest, Layout.from_attention_mask(~rest.isnan().any(-1)), state)
    want, want_state = mixer(u)
    torch.testing.assert_close(torch.cat([y[keep][None], z[:, 3:]], 1), want)
    torch.testing.assert_close(state.conv_state, want_state.conv_state)
