"""Capacity of a sum: theory against simulation, and frontiers by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import ndtr

from research.analysis.capacity import KINDS, Memory, accuracy, frontier, train
from research.analysis.capacity_theory import predicted, random_accuracy, signs

# Points with accuracies away from 0 and 1, and d large enough for Gaussian sums.
POINTS = {
    "random signs": [(64, 4), (128, 8), (256, 16), (512, 64)],
    "Gaussian": [(512, 16), (512, 64)],
    "Gaussian, divided": [(128, 4), (512, 4)],
    "sinusoidal": [(512, 4), (512, 32)],
    "all frequencies": [(256, 16), (512, 32)],
    "learned, untrained": [(128, 4), (512, 16)],
}


@pytest.mark.parametrize(("kind", "d", "n"), [(k, *point) for k in POINTS for point in POINTS[k]])
def test_theory_is_within_three_standard_errors_of_simulation(kind, d, n):
    # Retrievals from one sequence are not independent, hence the deviation over seeds.
    found = [accuracy(lambda: KINDS[kind].draw(d, n), 256, seed) for seed in range(12)]
    error = max(np.std(found, ddof=1) / math.sqrt(len(found)), 1e-3)
    assert abs(np.mean(found) - predicted(kind, d, n)) < 3 * error


def test_two_tokens_and_large_n_give_the_textbook_formula():
    # V = 2, n and d large: the difference of two scores is N(d, 2 n d).
    assert random_accuracy(signs(400), 4000, 2) == pytest.approx(ndtr(math.sqrt(5)), abs=1e-3)


def test_predictions_fall_with_n_and_rise_with_d():
    table = np.array([[predicted("random signs", d, n) for n in (4, 16, 64)] for d in (64, 256)])
    assert (np.diff(table, axis=1) < 0).all() and (np.diff(table, axis=0) > 0).all()
    with pytest.raises(ValueError, match="kind='trained': expected one of random signs"):
        predicted("trained", 8, 4)


def test_a_memory_by_hand():
    # Every position has its own channels, so retrieval is exact.
    p = torch.eye(4).repeat_interleave(8, 1)
    embedding = torch.nn.functional.normalize(torch.randn(10, 8), dim=1).repeat(1, 4)
    assert accuracy(lambda: Memory(embedding, p), 256, 0) == 1.0
    # All positions are equal: the same token is retrieved at each of them.
    alike = Memory(torch.eye(64), torch.ones(8, 64))
    assert accuracy(lambda: alike, 512, 0) < 0.3


def test_the_seed_decides_and_the_global_state_is_restored():
    state = torch.get_rng_state()
    first, again, other = (
        accuracy(lambda: KINDS["random signs"].draw(64, 8), 512, seed) for seed in (1, 1, 2)
    )
    assert first == again != other
    assert torch.equal(state, torch.get_rng_state())


def test_training_exceeds_random_vectors():
    memory = train(16, 4, 0, vocabulary=32, steps=300, batch=128)
    assert accuracy(lambda: memory, 512, 1) > predicted("random signs", 16, 4, 32) + 0.1
    again = train(16, 4, 0, vocabulary=32, steps=300, batch=128)
    assert torch.equal(memory.p, again.p)


def test_frontiers_by_hand():
    lengths = (4, 8, 16)
    assert frontier(lengths, (0.9, 0.5, 0.1), 0.5, 1000) == pytest.approx(8)
    # Half way between logits of 2 and -2.
    low, high = 1 / (1 + math.exp(2)), 1 / (1 + math.exp(-2))
    assert frontier(lengths, (high, low, low), 0.5, 10**6) == pytest.approx(4 * math.sqrt(2))
    assert frontier(lengths, (1.0, 1.0, 0.995), 0.99, 1000) is None
    assert frontier(lengths, (0.4, 0.3, 0.2), 0.5, 1000) is None
    # 1000 correct retrievals do not prove an accuracy of 1.
    assert 4 < frontier(lengths, (1.0, 0.5, 0.0), 0.99, 1000) < 8
