"""Discriminative tokens have a larger scale."""

from __future__ import annotations

import numpy as np
import pytest

from hyperagg.classifier.training.feature_scaling import feature_scales
from hyperagg.classifier.training.train_step import LabeledDocuments
from hyperagg.text import Ragged, WordTokenizer


def one_each(classes):
    return Ragged(np.array(classes, np.int32), np.arange(len(classes) + 1))


def test_a_token_of_one_class_has_a_large_scale_and_an_ngram_half_of_it():
    texts = ["oil the ship rose", "gold the ship rose"] * 50
    tokenizer = WordTokenizer.train(texts, max_ngrams=100)
    data = LabeledDocuments(tokenizer.encode(texts), one_each(np.arange(100) % 2))
    scales = dict(zip(tokenizer.vocabulary, feature_scales(tokenizer, data).initial))
    assert scales["oil"] > 2 * scales["the"] > 0
    assert scales["oil"] == pytest.approx(scales["gold"], rel=1e-5)
    assert scales["the ship"] == pytest.approx(scales["the"] / 2, rel=1e-5)
    assert scales["oil the"] == pytest.approx(scales["oil"] / 2, rel=1e-5)


def test_by_hand():
    # Two classes with half of the occurrences each; row 1 occurs twice, in the first class alone.
    rows = Ragged(np.array([1, 1, 2, 2], np.int32), np.array([0, 2, 4]))
    scales = feature_scales(
        WordTokenizer(["[UNK]", "a", "b"]), LabeledDocuments(rows, one_each([0, 1]))
    )
    logs = np.log((2.5 / 3) / 0.5), np.log((0.5 / 3) / 0.5)
    scores = 0.1 + np.sqrt((logs[0] ** 2 + logs[1] ** 2) / 2)
    for scale, power in (scales.initial, 0.5), (scales.lr, 0.8):
        assert scale[1:] == pytest.approx([1, 1])  # relative to the mean over all occurrences
        assert scale[0] == pytest.approx((0.1 / scores) ** power)


def test_without_tokens_every_scale_is_one():
    empty = LabeledDocuments(Ragged(np.empty(0, np.int32), np.array([0, 0])), one_each([0]))
    for scale in feature_scales(WordTokenizer(["[UNK]", "a"]), empty):
        assert scale.tolist() == [1, 1]
