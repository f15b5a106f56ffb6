"""Both ways: what a place sees, and that padding is no part of it."""

from __future__ import annotations

import pytest
import torch

from hyperagg.layers import BidirectionalAggregation

FORMS = ("gated", "decay", "complex_decay")


@pytest.fixture(params=FORMS)
def mixer(request):
    torch.manual_seed(0)
    return BidirectionalAggregation(8, request.param).double()


def test_is_the_sum_over_pairs():
    mixer = BidirectionalAggregation(4, "decay").double()
    u = torch.randn(1, 5, 4, dtype=torch.float64)
    v, context = mixer.value(u)[0], torch.zeros(5, 4, dtype=torch.float64)
    for relation, later in ((mixer.forwards, False), (mixer.backwards, True)):
        a = torch.exp(-relation.log_rate.exp())
        for i in range(5):
            for t in range(i, 5) if later else range(i + 1):
                context[i] += (1 - a**2).sqrt() * a ** abs(i - t) * v[t]
    torch.testing.assert_close(mixer(u)[0], mixer.out(mixer.norm(context)), rtol=1e-5, atol=1e-6)


def test_every_place_sees_every_token(mixer):
    u = torch.randn(1, 6, 8, dtype=torch.float64, requires_grad=True)
    for i in range(6):
        (grad,) = torch.autograd.grad(mixer(u)[0, i].square().sum(), u)
        assert (grad[0].abs().sum(1) > 0).all()


def test_padding_changes_nothing(mixer):
    rows = [torch.randn(1, n, 8, dtype=torch.float64) for n in (1, 4, 7)]
    lengths = torch.tensor([1, 4, 7])
    padded = torch.full((3, 7, 8), 1e9, dtype=torch.float64)
    for row, u in zip(padded, rows):
        row[: u.shape[1]] = u[0]
    together = mixer(padded, lengths)
    for row, u in zip(together, rows):
        torch.testing.assert_close(row[: u.shape[1]], mixer(u)[0], rtol=1e-6, atol=1e-7)


def test_turning_the_sequence_around_with_the_two_ways(mixer):
    u = torch.randn(2, 6, 8, dtype=torch.float64)
    expected = mixer(u).flip(1)
    mixer.forwards, mixer.backwards = mixer.backwards, mixer.forwards
    torch.testing.assert_close(mixer(u.flip(1)), expected, rtol=1e-6, atol=1e-7)


def test_a_sum_has_no_two_ways():
    with pytest.raises(ValueError, match=r"form='sum': there are gate, decay, rotation"):
        BidirectionalAggregation(8, "prefix_sum")
