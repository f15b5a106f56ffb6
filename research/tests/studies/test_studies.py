from __future__ import annotations

import json
import sys

import numpy as np
import pytest

import hyperagg
from hyperagg.classifier.baselines.linear_and_fasttext import BASELINES, choose
from hyperagg.classifier.compare import compare, results_table
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


def test_compare_writes_what_it_promises_and_resumes(small, tmp_path, monkeypatch):
    results = compare(small, ["attention"], 2, tmp_path, epochs=1, progress=False)
    written = json.loads((tmp_path / "results.json").read_text())
    assert written == results
    for name in ("aggregation", "attention"):
        model = results["models"][name]
        assert len(model["accuracy"]) == len(model["macro_f1"]) == 2
        assert model["parameters"] > 0 and model["train_seconds_per_epoch"] > 0
        assert model["predict_docs_per_second"] > 0
        # The same seeds, the model that was saved, the same answers.
        clf = hyperagg.TextClassifier.from_pretrained(tmp_path / "models" / name)
        scores = clf.evaluate(small.test.texts, small.test.labels)
        assert scores["accuracy"] == pytest.approx(model["accuracy"][0])
    assert np.mean(results["models"]["aggregation"]["accuracy"]) > 0.85
    assert results["ratios"]["attention"].keys() == {
        "train_seconds_per_epoch",
        "predict_docs_per_second",
    }
    for name in ("table.md", "learning_curves.png", "cosines.png"):
        assert (tmp_path / name).stat().st_size > 0
    assert results_table(results).row_count == 2

    # Everything is measured: going on trains nothing.
    monkeypatch.setattr(hyperagg.TextClassifier, "fit", lambda *a, **k: pytest.fail("trained"))
    again = compare(small, ["attention"], 2, tmp_path, epochs=1, resume=True, progress=False)
    assert again["models"] == results["models"]
    with pytest.raises(ValueError, match="another study"):
        other = Dataset("other", small.train, small.test, "")
        compare(other, [], 1, tmp_path, resume=True)


def test_bad_arguments_are_named(small, tmp_path):
    with pytest.raises(ValueError, match="lstm"):
        compare(small, ["lstm"], 1, tmp_path)
    with pytest.raises(ValueError, match="seeds"):
        compare(small, [], 0, tmp_path)
    assert not list(tmp_path.iterdir())


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


@pytest.mark.parametrize("name", ["tfidf", "fasttext"])
def test_baselines_learn_newswires(small, tmp_path, name):
    if name == "fasttext":
        pytest.importorskip("fasttext", reason='pip install "hyperagg[rivals]"')
    results = compare(small, [name], 1, tmp_path, epochs=1, progress=False)
    model = results["models"][name]
    assert model["accuracy"][0] > 0.9 and model["recipe"] in BASELINES[name].GRID
    assert model["fit_seconds"] > 0 and model["parameters"] > 1000
    write_accuracy(tmp_path, {small.name: results})
    table = (tmp_path / "table.md").read_text()
    assert f"| set | training rows | aggregation | {name} |" in table
    ours = 100 * results["models"]["aggregation"]["accuracy"][0]
    assert f"| r8-part | 400 | {ours:.2f} (" in table


def test_a_baseline_keeps_what_is_best_on_held_out_rows(small, monkeypatch):
    seen = []

    class Model:
        GRID = ({"C": 1}, {"C": 2}, {"C": 3})

        def __init__(self, C):
            self.C = C

        def fit(self, split, seed):
            seen.append((len(split.texts), self.C))

        def predict(self, texts):
            rows = dict(zip(small.train.texts, small.train.labels))
            return [rows[text] if self.C == 2 else "earn" for text in texts]

    monkeypatch.setitem(BASELINES, "tfidf", Model)
    assert choose("tfidf", small) == {"C": 2}
    assert [C for _, C in seen] == [1, 2, 3] and all(n < 400 for n, _ in seen)


def test_a_baseline_that_is_not_installed_is_told_before_anything_is_trained(
    small, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "fasttext", None)
    monkeypatch.setattr(hyperagg.TextClassifier, "fit", lambda *a, **k: pytest.fail("trained"))
    with pytest.raises(ImportError, match=r"hyperagg\[rivals\]"):
        compare(small, ["fasttext"], 1, tmp_path)
