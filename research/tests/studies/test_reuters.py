"""The Reuters study in the original protocol."""

from __future__ import annotations

import json

import numpy as np

import hyperagg
from hyperagg.data import Dataset, Split
from research.studies import reuters as study
from research.studies.reuters import reuters, reuters_table


def small_dataset() -> Dataset:
    """A few hundred real newswires of the four largest classes of r8."""
    full = hyperagg.load_dataset("r8")
    largest = {"earn", "acq", "crude", "trade"}

    def part(split: Split, rows: int) -> Split:
        pairs = [(t, y) for t, y in zip(split.texts, split.labels) if y in largest]
        picked = np.random.default_rng(0).permutation(len(pairs))[:rows]
        return Split([pairs[i][0] for i in picked], [pairs[i][1] for i in picked])

    return Dataset("r8-part", part(full.train, 400), part(full.test, 100), full.source)


def test_the_original_protocol(tmp_path, monkeypatch):
    # Two epochs of 400 short newswires suffice with these settings.
    monkeypatch.setattr(study, "LEARNING_RATE", 3e-3)
    monkeypatch.setattr(study, "LENGTH", 48)
    results = reuters(small_dataset(), "original", 1, tmp_path, epochs=2)
    assert results["original_figures"] == {"aggregation": 0.7863, "attention": 0.7796}
    for model in results["models"].values():
        assert model["accuracy"][0] >= model["accuracy_of_last_epoch"][0] > 0.5
    # 10,000 words, 48 positions, the layer, and a head with bias.
    d = 256
    head = 4 * d + 4
    assert results["models"]["aggregation"]["parameters"] == 10_000 * d + 48 * d + d * d + head
    attention = 3 * (d + 1) * 4 * d + (4 * d + 1) * d
    assert results["models"]["attention"]["parameters"] == 10_000 * d + 48 * d + attention + head
    assert reuters_table(results).row_count == 2
    assert json.loads((tmp_path / "results.json").read_text()) == results


def test_keras_ids():
    data = Dataset("x", Split(["a b, B", "a-b c"], ["0", "1"]), Split(["b z"], ["0"]), "")
    train, test = study._keras_ids(data)
    assert train.shape == (2, 256)
    # b is most frequent, then a; a newswire starts with 1 and is padded in front with 0.
    assert train[0, -4:].tolist() == [1, 4, 3, 3]
    assert train[1, -5:].tolist() == [0, 1, 4, 3, 5]
    assert test[0, -3:].tolist() == [1, 3, 6]
