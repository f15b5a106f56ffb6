from __future__ import annotations

import json

import numpy as np
import pytest

import hyperagg
from hyperagg.classifier.compare import compare
from hyperagg.data import Dataset, Split
from research.studies import reuters as reuters_study
from research.studies.accuracy import write_accuracy
from research.studies.reuters import reuters, reuters_table


@pytest.fixture(scope="module")
def small():
    """A few hundred real newswires of the four largest classes of r8."""
    full = hyperagg.load_dataset("r8")
    largest = {"earn", "acq", "crude", "trade"}

    def part(split, most):
        pairs = [(t, y) for t, y in zip(split.texts, split.labels) if y in largest]
        picked = np.random.default_rng(0).permutation(len(pairs))[:most]
        return Split([pairs[i][0] for i in picked], [pairs[i][1] for i in picked])

    return Dataset("r8-part", part(full.train, 400), part(full.test, 100), full.source)


def test_reuters_in_the_sources_protocol(small, tmp_path, monkeypatch):
    # So that two epochs of 400 short wires learn, and do so quickly.
    monkeypatch.setattr(reuters_study, "RATE", 3e-3)
    monkeypatch.setattr(reuters_study, "LENGTH", 48)
    results = reuters(small, "source", 1, tmp_path, epochs=2)
    assert results["source_figures"] == {"aggregation": 0.7863, "attention": 0.7796}
    for model in results["models"].values():
        assert model["accuracy"][0] >= model["accuracy_of_last_epoch"][0] > 0.5
    # 10,000 words, 48 places, the layer, and a head with bias.
    d = 256
    head = 4 * d + 4
    assert results["models"]["aggregation"]["parameters"] == 10_000 * d + 48 * d + d * d + head
    attention = 3 * (d + 1) * 4 * d + (4 * d + 1) * d
    assert results["models"]["attention"]["parameters"] == 10_000 * d + 48 * d + attention + head
    assert reuters_table(results).row_count == 2
    assert json.loads((tmp_path / "results.json").read_text()) == results


def test_keras_ids():
    data = Dataset("x", Split(["a b, B", "a-b c"], ["0", "1"]), Split(["b z"], ["0"]), "")
    train, test = reuters_study._keras_ids(data)
    assert train.shape == (2, 256)
    # b is used most, then a; a wire starts with 1 and is padded in front with 0.
    assert train[0, -4:].tolist() == [1, 4, 3, 3]
    assert train[1, -5:].tolist() == [0, 1, 4, 3, 5]
    assert test[0, -3:].tolist() == [1, 3, 6]


def test_the_accuracy_table_has_a_row_per_data_set(small, tmp_path):
    results = compare(small, ["tfidf"], 1, tmp_path, epochs=1, progress=False)
    write_accuracy(tmp_path, {small.name: results})
    table = (tmp_path / "table.md").read_text()
    assert "training rows | aggregation | tfidf |" in table
    ours = 100 * results["models"]["aggregation"]["accuracy"][0]
    assert f"| r8-part | 400 | {ours:.2f} (" in table
