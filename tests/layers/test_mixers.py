"""Every mixer with a state: however a text is split, padded or packed, the answer is the same."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperagg.layers import Layout

D = 6


def test_no_position_depends_on_a_later_token(mixer):
    u = torch.randn(1, 9, D, dtype=torch.float64)
    changed = u.clone()
    changed[0, 5:] += 1
    before, after = mixer(u)[0], mixer(changed)[0]
    torch.testing.assert_close(before[0, :5], after[0, :5], rtol=0, atol=1e-12)
    assert not torch.isclose(before[0, 5:], after[0, 5:]).all(-1).any()


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_splitting_padding_and_packing_give_the_same_output(mixer, data):
    lengths = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=3), "lengths")
    torch.manual_seed(1)
    texts = [torch.randn(1, n, D, dtype=torch.float64) for n in lengths]
    whole = [mixer(text) for text in texts]

    longest = max(lengths)
    side = data.draw(st.sampled_from(["left", "right"]), "side")
    padded = torch.full((len(texts), longest, D), torch.nan, dtype=torch.float64)
    mask = torch.zeros(len(texts), longest, dtype=torch.int64)
    for row, text in enumerate(texts):
        start = longest - lengths[row] if side == "left" else 0
        padded[row, start : start + lengths[row]] = text[0]
        mask[row, start : start + lengths[row]] = 1

    splits = data.draw(st.lists(st.integers(0, longest), max_size=3), "splits")
    borders = [0, *sorted(splits), longest]
    state, parts = None, []
    for begin, end in zip(borders, borders[1:]):
        if end > begin:
            layout = Layout.from_attention_mask(mask[:, begin:end])
            y, state = mixer(padded[:, begin:end], layout, state)
            parts.append(y)
    y = torch.cat(parts, 1)
    for row, (expected, after) in enumerate(whole):
        torch.testing.assert_close(y[row][mask[row] == 1], expected[0], rtol=0, atol=1e-8)
        torch.testing.assert_close(state.sums.sums[row], after.sums.sums[0])
        if state.conv_state is not None:
            torch.testing.assert_close(
                state.conv_state[row][-lengths[row] :], after.conv_state[0][-lengths[row] :]
            )

    position_ids = torch.cat([torch.arange(n) for n in lengths])[None]
    y, _ = mixer(torch.cat(texts, 1), Layout.from_position_ids(position_ids))
    expected = torch.cat([expected for expected, _ in whole], 1)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-8)


def test_decoding_token_by_token_gives_the_same_output(mixer):
    u = torch.randn(2, 6, D, dtype=torch.float64)
    state, parts = None, []
    for t in range(6):
        y, state = mixer(u[:, t : t + 1], state=state)
        parts.append(y)
    want, after = mixer(u)
    torch.testing.assert_close(torch.cat(parts, 1), want)
    torch.testing.assert_close(state.sums.sums, after.sums.sums)
    assert torch.equal(state.sums.num_tokens, after.sums.num_tokens)


def test_a_batch_of_no_rows_continues_from_no_rows(mixer):
    state = None
    for n in (3, 1, 2):
        y, state = mixer(torch.randn(0, n, D, dtype=torch.float64), state=state)
    assert y.shape == (0, 2, D) and len(state.sums.sums) == len(state.sums.num_tokens) == 0


def test_no_tokens_leave_the_state_as_it_is(mixer):
    _, before = mixer(torch.randn(2, 3, D, dtype=torch.float64))
    y, after = mixer(torch.randn(2, 0, D, dtype=torch.float64), state=before)
    assert y.shape == (2, 0, D) and torch.equal(after.sums.sums, before.sums.sums)


def test_packed_documents_accept_no_state(mixer):
    _, state = mixer(torch.randn(1, 2, D, dtype=torch.float64))
    layout = Layout.from_position_ids(torch.tensor([[0, 0]]))
    with pytest.raises(ValueError, match="packed documents start with an empty state"):
        mixer(torch.randn(1, 2, D, dtype=torch.float64), layout, state)


def test_a_state_without_a_history_is_not_rolled_back(mixer):
    _, state = mixer(torch.randn(1, 2, D, dtype=torch.float64))
    with pytest.raises(ValueError, match="num_tokens=1: expected 0 to 0"):
        state.rollback(1)
