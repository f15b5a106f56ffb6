"""What tells classes apart, and how fast it is learned."""

from __future__ import annotations

import numpy as np
import pytest

from hyperagg.classifier.training.feature_scaling import row_rates
from hyperagg.classifier.training.train_steps import Labelled
from hyperagg.text import Ragged, WordTokenizer


def one_each(classes):
    return Ragged(np.array(classes, np.int32), np.arange(len(classes) + 1))


def test_what_one_class_uses_learns_faster_and_a_gram_at_half_the_rate():
    texts = ["oil the ship rose", "gold the ship rose"] * 50
    tokenizer = WordTokenizer.train(texts, max_ngrams=100)
    data = Labelled(tokenizer.encode(texts), one_each(np.arange(100) % 2))
    rates = dict(zip(tokenizer.vocabulary, row_rates(tokenizer, data)))
    assert rates["oil"] > 2 * rates["the"] > 0
    assert rates["oil"] == pytest.approx(rates["gold"], rel=1e-5)
    assert rates["the ship"] == pytest.approx(rates["the"] / 2, rel=1e-5)
    assert rates["oil the"] == pytest.approx(rates["oil"] / 2, rel=1e-5)


def test_by_hand():
    # Two classes with half of the uses each; row 1 is used twice by the first alone.
    rows = Ragged(np.array([1, 1, 2, 2], np.int32), np.array([0, 2, 4]))
    rates = row_rates(WordTokenizer(["[UNK]", "a", "b"]), Labelled(rows, one_each([0, 1])))
    logs = np.log((2.5 / 3) / 0.5), np.log((0.5 / 3) / 0.5)
    telling = 0.1 + np.sqrt((logs[0] ** 2 + logs[1] ** 2) / 2)
    assert rates[1:] == pytest.approx([1, 1])  # of the mean over all uses
    assert rates[0] == pytest.approx(np.sqrt(0.1 / telling))


def test_nothing_to_go_by():
    nothing = Labelled(Ragged(np.empty(0, np.int32), np.array([0, 0])), one_each([0]))
    assert row_rates(WordTokenizer(["[UNK]", "a"]), nothing).tolist() == [1, 1]
