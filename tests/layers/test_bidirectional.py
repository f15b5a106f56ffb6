"""The bidirectional mixer: which tokens each position sums, and that padding has no effect."""

from __future__ import annotations

import pytest
import torch

from hyperagg.layers import BidirectionalAggregation
from hyperagg.layers.bidirectional import BIDIRECTIONAL_FORMS


@pytest.fixture(params=BIDIRECTIONAL_FORMS)
def mixer(request):
    torch.manual_seed(0)
    return BidirectionalAggregation(8, request.param).double()


def test_matches_the_sum_over_pairs():
    mixer = BidirectionalAggregation(4, "decay").double()
    u = torch.randn(1, 5, 4, dtype=torch.float64)
    v, context = mixer.value(u)[0], torch.zeros(5, 4, dtype=torch.float64)
    for recurrence, later in (
        (mixer.forward_recurrence, False),
        (mixer.backward_recurrence, True),
    ):
        a = torch.exp(-recurrence.log_decay_rate.exp())
        for i in range(5):
            for t in range(i, 5) if later else range(i + 1):
                context[i] += (1 - a**2).sqrt() * a ** abs(i - t) * v[t]
    torch.testing.assert_close(mixer(u)[0], mixer.out(mixer.norm(context)), rtol=1e-5, atol=1e-6)


def test_every_position_depends_on_every_token(mixer):
    u = torch.randn(1, 6, 8, dtype=torch.float64, requires_grad=True)
    for i in range(6):
        (grad,) = torch.autograd.grad(mixer(u)[0, i].square().sum(), u)
        assert (grad[0].abs().sum(1) > 0).all()


def test_padding_has_no_effect(mixer):
    rows = [torch.randn(1, n, 8, dtype=torch.float64) for n in (1, 4, 7)]
    lengths = torch.tensor([1, 4, 7])
    padded = torch.full((3, 7, 8), 1e9, dtype=torch.float64)
    for row, u in zip(padded, rows):
        row[: u.shape[1]] = u[0]
    batch = mixer(padded, lengths)
    for row, u in zip(batch, rows):
        torch.testing.assert_close(row[: u.shape[1]], mixer(u)[0], rtol=1e-6, atol=1e-7)


def test_reversing_the_sequence_swaps_the_directions(mixer):
    u = torch.randn(2, 6, 8, dtype=torch.float64)
    expected = mixer(u).flip(1)
    mixer.forward_recurrence, mixer.backward_recurrence = (
        mixer.backward_recurrence,
        mixer.forward_recurrence,
    )
    torch.testing.assert_close(mixer(u.flip(1)), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("form", ["prefix_sum", "gate"])
def test_unsupported_forms_are_refused(form):
    message = f"form='{form}': expected one of decay, complex_decay, gated"
    with pytest.raises(ValueError, match=message):
        BidirectionalAggregation(8, form)
