"""Gated sums and bound pairs side by side: their sum, and one state that holds both."""

from __future__ import annotations

import pytest
import torch

from hyperagg.layers import GatedAssociativeAggregation, Layout

D = 6


@pytest.fixture(params=[0, 3], ids=["no convolution", "convolution"])
def mixer(request):
    options = dict(expand=2, output_gate=True, num_heads=2, head_dim=3)
    return GatedAssociativeAggregation(D, conv_kernel_size=request.param, **options).double()


def test_it_is_the_sum_of_both(mixer):
    u = torch.randn(2, 5, D, dtype=torch.float64)
    expected = mixer.gated(u)[0] + mixer.associative(u)[0]
    torch.testing.assert_close(mixer(u)[0], expected)


@pytest.mark.parametrize("padding", ["left", "right"])
def test_the_state_continues_both_behind_padding(mixer, padding):
    lengths = [4, 0, 3]
    texts = [torch.randn(1, n + 2, D, dtype=torch.float64) for n in lengths]
    first = torch.full((3, 5, D), torch.nan, dtype=torch.float64)
    for row, text, n in zip(first, texts, lengths):
        start = 5 - n if padding == "left" else 0
        row[start : start + n] = text[0, :n]
    _, state = mixer(first, Layout(torch.tensor(lengths), padding))
    assert state.sums.sums.shape == (3, 2 * D + 2 * 9)
    y, state = mixer(torch.cat([text[:, -2:] for text in texts]), state=state)
    for row, text in enumerate(texts):
        whole, after = mixer(text)
        torch.testing.assert_close(y[row], whole[0, -2:])
        torch.testing.assert_close(state.sums.sums[row], after.sums.sums[0])


def test_a_rollback_restores_both(mixer):
    u = torch.randn(2, 7, D, dtype=torch.float64)
    _, state = mixer(u[:, :3])
    y, after = mixer(u[:, 3:], state=state, return_history=True)
    torch.testing.assert_close(y, mixer(u)[0][:, 3:])
    for removed in range(5):
        kept = 7 - removed
        back, expected = after.rollback(removed), mixer(u[:, :kept])[1]
        torch.testing.assert_close(back.sums.sums, expected.sums.sums)
        torch.testing.assert_close(back.conv_state, expected.conv_state)
        assert torch.equal(back.sums.num_tokens, expected.sums.num_tokens)
