"""The causal mixer: what its forms mean, and that no way of cutting a text up changes them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperagg.layers import FORMS, CausalAggregation, Layout

D = 6


PLAIN, EXPANDED = (0, False), (3, True)


@pytest.fixture(
    scope="module", params=[(form, *more) for form in FORMS for more in (PLAIN, EXPANDED)], ids=str
)
def mixer(request):
    form, conv_kernel_size, wide = request.param
    torch.manual_seed(0)
    mixer = CausalAggregation(
        D,
        form,
        expand=1 + wide,
        output_gate=wide,
        conv_kernel_size=conv_kernel_size,
        max_length=32,
    ).double()
    with torch.no_grad():
        for weight in mixer.parameters():
            weight += 0.1 * torch.randn_like(weight)
    return mixer


def by_definition(mixer: CausalAggregation, u: torch.Tensor) -> torch.Tensor:
    """sum_{t <= i} v_t * p(t, i), written out for u (N, D)."""
    n = len(u)
    if mixer.convolution is not None:
        w = mixer.convolution.weight
        u = torch.stack([sum(w[j] * u[t - j] for j in range(min(t + 1, 3))) for t in range(n)])
    v = u @ mixer.value.weight.T
    relation = mixer.relation
    name = type(relation).__name__

    def p(t: int, i: int) -> torch.Tensor:
        if name == "AbsolutePositions":
            return relation.weight[t]
        if name == "InputGate":
            a = torch.sigmoid(relation.linear(u))
            return (1 - a[t]) * a[t + 1 : i + 1].prod(0)
        size = torch.exp(-relation.log_rate.exp())
        if name == "ConstantDecay":
            return (1 - size**2).sqrt() * size ** (i - t)
        turned = torch.polar(size, relation.frequency) ** (i - t)
        return (1 - size**2).sqrt() * turned

    places = []
    for i in range(n):
        if name == "ComplexDecay":
            pairs = torch.view_as_complex(v.view(n, -1, 2))
            total = sum(pairs[t] * p(t, i) for t in range(i + 1))
            places.append(torch.view_as_real(total).flatten())
        else:
            places.append(sum(v[t] * p(t, i) for t in range(i + 1)))
    y = torch.stack(places)
    y = y * (y.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * mixer.norm.weight
    if mixer.output_gate is not None:
        r = u @ mixer.output_gate.weight.T
        y = y * r * torch.sigmoid(r)
    return y @ mixer.out.weight.T


def test_forms_are_what_their_formula_says(mixer):
    u = torch.randn(2, 7, D, dtype=torch.float64)
    y, _ = mixer(u)
    expected = torch.stack([by_definition(mixer, row) for row in u])
    # The decay itself is computed in float32.
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)


def test_no_place_sees_a_later_token(mixer):
    u = torch.randn(1, 9, D, dtype=torch.float64)
    changed = u.clone()
    changed[0, 5:] += 1
    before, after = mixer(u)[0], mixer(changed)[0]
    assert torch.equal(before[0, :5], after[0, :5])
    assert not torch.isclose(before[0, 5:], after[0, 5:]).all(-1).any()


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_cut_any_padding_any_packing_gives_the_same(mixer, data):
    lengths = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=3), "lengths")
    torch.manual_seed(1)
    texts = [torch.randn(1, n, D, dtype=torch.float64) for n in lengths]
    whole = [mixer(text) for text in texts]

    longest = max(lengths)
    side = data.draw(st.sampled_from(["left", "right"]), "side")
    padded = torch.full((len(texts), longest, D), 7.0, dtype=torch.float64)
    mask = torch.zeros(len(texts), longest, dtype=torch.int64)
    for row, text in enumerate(texts):
        start = longest - lengths[row] if side == "left" else 0
        padded[row, start : start + lengths[row]] = text[0]
        mask[row, start : start + lengths[row]] = 1

    cuts = data.draw(st.lists(st.integers(0, longest), max_size=3), "cuts")
    borders = [0, *sorted(cuts), longest]
    state, parts = None, []
    for begin, end in zip(borders, borders[1:]):
        if end > begin:
            layout = Layout.padded(mask[:, begin:end])
            y, state = mixer(padded[:, begin:end], layout, state)
            parts.append(y)
    y = torch.cat(parts, 1)
    for row, (expected, after) in enumerate(whole):
        torch.testing.assert_close(y[row][mask[row] == 1], expected[0], rtol=0, atol=1e-10)
        torch.testing.assert_close(state.sums.sums[row], after.sums.sums[0])
        if state.recent is not None:
            torch.testing.assert_close(
                state.recent[row][-lengths[row] :], after.recent[0][-lengths[row] :]
            )

    places = torch.cat([torch.arange(n) for n in lengths])[None]
    y, _ = mixer(torch.cat(texts, 1), Layout.packed(places))
    torch.testing.assert_close(
        y, torch.cat([expected for expected, _ in whole], 1), rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("tokens", [0, 1, 4])
def test_tokens_are_taken_back_exactly(mixer, tokens):
    u = torch.randn(2, 9, D, dtype=torch.float64)
    _, start = mixer(u[:, :5])
    _, state = mixer(u[:, 5:], state=start, trace=True)
    back = state.back(tokens)
    _, expected = mixer(u[:, 5 : 9 - tokens], state=start) if tokens < 4 else (None, start)
    # Linear maps of fewer tokens at once may round differently.
    torch.testing.assert_close(back.sums.sums, expected.sums.sums, rtol=0, atol=1e-12)
    assert torch.equal(back.sums.num_tokens, expected.sums.num_tokens)
    if back.recent is not None:
        assert torch.equal(back.recent, expected.recent)
    with pytest.raises(ValueError, match="trace holds 4"):
        state.back(5)


def test_constant_decay_keeps_the_size_of_noise():
    torch.manual_seed(0)
    mixer = CausalAggregation(64, "decay")
    terms = mixer.relation(torch.empty(1, 1, 64), torch.randn(1, 1, 64), 1)
    shares = terms.x.square() / (1 - terms.decay**2)
    assert math.isclose(shares.mean().item(), 1, rel_tol=0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(form="sums"), "form='sums': there are sum, decay, rotation, gate"),
        (dict(form="prefix_sum"), "max_length"),
        (dict(expand=0), "expand=0: give at least 1"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        CausalAggregation(D, **arguments)
    with pytest.raises(ValueError, match="even D"):
        CausalAggregation(5, "complex_decay")


def test_absolute_positions_end():
    mixer = CausalAggregation(D, "prefix_sum", max_length=4)
    _, state = mixer(torch.randn(1, 4, D))
    with pytest.raises(ValueError, match="a sequence of 5 tokens"):
        mixer(torch.randn(1, 1, D), state=state)
    with pytest.raises(ValueError, match="a sequence of 5 tokens"):
        mixer(torch.randn(1, 5, D))


def test_layouts_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="zeros stand between"):
        Layout.padded(torch.tensor([[1, 0, 1]]))
    with pytest.raises(ValueError, match="different sides"):
        Layout.padded(torch.tensor([[1, 1, 0], [0, 1, 1]]))
    with pytest.raises(ValueError, match="go up by 1"):
        Layout.packed(torch.tensor([[0, 1, 5]]))
    mixer = CausalAggregation(D)
    _, state = mixer(torch.randn(1, 2, D))
    with pytest.raises(ValueError, match="start anew"):
        mixer(torch.randn(1, 2, D), Layout.packed(torch.tensor([[0, 0]])), state)
