"""The standard error of a mean loss: by its formula, and as often right as it says."""

from __future__ import annotations

import numpy as np
import pytest

from hyperagg.language.standard_error import standard_error


def test_documents_of_different_lengths_by_the_formula():
    """Twenty documents with 1 or 3 tokens; L = (10 * 2 + 10 * 3) / 40 = 1.25."""
    losses = [np.array([2.0]), np.array([1.5, 0.5, 1.0])] * 10
    found = standard_error(losses)
    # s - L n is 2 - 1.25 and 3 - 3.75, so the sum of their squares is 20 * 0.75².
    expected = np.sqrt(20 / 19 * 20 * 0.75**2) / 40
    assert (found.num_units, found.unit) == (20, "documents")
    assert found.value == pytest.approx(expected, rel=1e-12)


def test_single_tokens_have_the_usual_standard_error():
    losses = np.random.default_rng(0).normal(3, 1, 500)
    found = standard_error([np.array([loss]) for loss in losses])
    assert found.value == pytest.approx(losses.std(ddof=1) / np.sqrt(500), rel=1e-9)


@pytest.mark.parametrize(
    ("lengths", "unit", "num_units"),
    [
        ([5] * 16, "documents", 16),
        ([5] * 15, "blocks", 32),
        ([2000] + [5] * 100, "blocks", 32),  # one text has most of the tokens
        ([10, 10], "blocks", 20),
        ([64], "blocks", 32),
        ([5, 0] * 16, "documents", 16),  # a text without tokens is not a unit
    ],
)
def test_documents_are_the_units_unless_they_are_few(lengths, unit, num_units):
    rng = np.random.default_rng(0)
    found = standard_error([rng.normal(size=n).astype(np.float32) for n in lengths])
    assert (found.unit, found.num_units) == (unit, num_units)


def test_blocks_are_consecutive_tokens():
    losses = np.arange(64.0)
    means = losses.reshape(32, 2).mean(1)
    expected = means.std(ddof=1) / np.sqrt(32)
    assert standard_error([losses]).value == pytest.approx(expected, rel=1e-12)
    assert standard_error(np.split(losses, 2)).value == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("lengths", [[1], [0, 1, 0], [7, 8]])
def test_few_tokens_have_no_standard_error(lengths):
    assert standard_error([np.ones(n) for n in lengths]) is None


def topics(rng):
    """Documents of 5 to 100 tokens, each with a mean loss of its own, lower in longer ones."""
    lengths = rng.integers(5, 101, 100)
    means = rng.normal(5 - lengths / 50, 0.5)
    return [rng.normal(mean, 1.0, n) for mean, n in zip(means, lengths)]


def one_text(rng):
    """One text whose loss wanders: every token depends on some ten before it."""
    decays = 0.8 ** np.arange(100)
    return [4 + np.convolve(rng.normal(size=6099), decays, mode="valid")]


@pytest.mark.parametrize(("draw", "means"), [(topics, None), (one_text, 4.0)])
def test_intervals_cover_the_true_loss_as_often_as_they_say(draw, means):
    rng = np.random.default_rng(0)
    if means is None:  # of tokens, so that long documents count more
        lengths = np.arange(5, 101)
        means = (lengths * (5 - lengths / 50)).sum() / lengths.sum()
    covered, naive = [], []
    for _ in range(500):
        losses = draw(rng)
        tokens = np.concatenate(losses)
        distance = abs(tokens.mean() - means)
        covered.append(distance < 1.96 * standard_error(losses).value)
        naive.append(distance < 1.96 * tokens.std() / np.sqrt(len(tokens)))
    assert 0.92 < np.mean(covered) < 0.97
    assert np.mean(naive) < 0.7  # as if all tokens were independent
