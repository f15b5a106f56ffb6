"""The comparison with baselines, on a few hundred newswires."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

import hyperagg
from hyperagg.classifier.compare import compare, dataset_from_rows, results_table
from hyperagg.data import Dataset, Split


@pytest.fixture(scope="module")
def small():
    """The first words of newswires of the four largest classes of r8."""
    full = hyperagg.load_dataset("r8")
    largest = {"earn", "acq", "crude", "trade"}

    def part(split, limit):
        pairs = [
            (" ".join(text.split()[:40]), y)
            for text, y in zip(split.texts, split.labels)
            if y in largest
        ]
        picked = np.random.default_rng(0).permutation(len(pairs))[:limit]
        return Split([pairs[i][0] for i in picked], [pairs[i][1] for i in picked])

    return Dataset("r8-part", part(full.train, 400), part(full.test, 100), full.source)


@pytest.mark.torch
def test_it_writes_what_it_promises_and_resumes(small, tmp_path, monkeypatch):
    lines = []
    options = dict(epochs=1, progress=False, callback=lines.append)
    results = compare(small, ["attention"], 2, tmp_path, **options)
    assert len(lines) == 4 and "s per epoch" in lines[0] and "documents/s" in lines[0]
    assert json.loads((tmp_path / "results.json").read_text()) == results
    for model in results["models"].values():
        assert len(model["accuracy"]) == len(model["macro_f1"]) == 2
        assert len(model["expected_calibration_error"]) == 2
        assert model["parameters"] > 0 and model["train_seconds_per_epoch"] > 0
        assert model["predict_documents_per_second"] > 0
        assert model["training_config"]["epochs"] == 1
    aggregation = results["models"]["aggregation"]
    assert np.mean(aggregation["accuracy"]) > 0.85
    saved = hyperagg.TextClassifier.from_pretrained(tmp_path / "models" / "aggregation")
    scores = saved.evaluate(small.test.texts, small.test.labels)
    assert scores["accuracy"] == pytest.approx(aggregation["accuracy"][0])
    assert results["ratios"]["attention"].keys() == {
        "train_seconds_per_epoch",
        "predict_documents_per_second",
    }
    for name in ("table.md", "learning_curves.png"):
        assert (tmp_path / name).stat().st_size > 0
    assert results_table(results).row_count == 2

    # Every run is done, so resuming trains nothing.
    monkeypatch.setattr(hyperagg.TextClassifier, "fit", lambda *a, **k: pytest.fail("trained"))
    again = compare(small, ["attention"], 2, tmp_path, resume=True, **options)
    assert again["models"] == results["models"]
    with pytest.raises(ValueError, match="another study"):
        other = Dataset("other", small.train, small.test, "")
        compare(other, [], 1, tmp_path, resume=True)


@pytest.mark.parametrize("name", ["tfidf", "fasttext"])
def test_parameters_of_external_baselines_are_selected(small, tmp_path, monkeypatch, name):
    pytest.importorskip({"tfidf": "sklearn"}.get(name, name))
    grid = ({"learning_rate": 0.1, "epochs": 1}, {"learning_rate": 1.0, "epochs": 15})
    monkeypatch.setattr("hyperagg.classifier.baselines.fasttext.FastTextClassifier.GRID", grid)
    model = compare(small, [name], 1, tmp_path, epochs=1, progress=False)["models"][name]
    assert model["accuracy"][0] > 0.8 and model["training_config"]
    assert model["fit_seconds"] > 0 and model["parameters"] > 1000


def test_default_baselines_that_are_not_installed_are_skipped_with_one_line(
    small, tmp_path, monkeypatch
):
    def without_torch(module):
        raise ImportError("they need PyTorch: pip install 'hyperagg[torch]'")

    monkeypatch.setattr("hyperagg.classifier.compare.import_module", without_torch)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    lines = []
    results = compare(small, None, 1, tmp_path, epochs=1, progress=False, callback=lines.append)
    assert list(results["models"]) == ["aggregation", "words"]
    skipped = [line for line in lines if "skipped" in line]
    assert len(skipped) == 1
    assert skipped[0].startswith("attention, transformer are skipped: ")
    assert skipped[0].endswith("pip install 'hyperagg[torch]'")
    assert lines[-1].endswith("pip install 'hyperagg[plot]'")
    assert not (tmp_path / "learning_curves.png").exists()


def test_a_named_baseline_that_is_not_installed_is_refused_before_training(
    small, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "fasttext", None)
    monkeypatch.setattr(hyperagg.TextClassifier, "fit", lambda *a, **k: pytest.fail("trained"))
    with pytest.raises(ImportError, match=r"pip install 'hyperagg\[baselines\]'"):
        compare(small, ["fasttext"], 1, tmp_path)


def test_bad_arguments_are_refused_before_training(small, tmp_path, monkeypatch):
    monkeypatch.setattr(hyperagg.TextClassifier, "fit", lambda *a, **k: pytest.fail("trained"))
    with pytest.raises(ValueError, match=r"baselines='lstm': expected one of .*attention"):
        compare(small, ["lstm"], 1, tmp_path)
    with pytest.raises(ValueError, match="seeds=0: expected an integer >= 1"):
        compare(small, [], 0, tmp_path)
    unknown = Dataset("x", small.train, Split(["oil"], ["sports"]), "")
    with pytest.raises(ValueError, match=r"test labels\[0\]: the label 'sports'"):
        compare(unknown, [], 1, tmp_path)
    assert not list(tmp_path.iterdir())


def test_rows_of_a_file_are_split_into_training_and_test_rows():
    rows = Split([f"text {i}" for i in range(23)], ["a"] * 10 + ["b"] * 10 + ["c"] * 3)
    data = dataset_from_rows("file", rows)
    assert sorted(data.train.texts + data.test.texts) == sorted(rows.texts)
    assert sorted(data.test.labels) == ["a", "a", "b", "b"]
    given = dataset_from_rows("file", rows, Split(["x"], ["a"]), source="two files")
    assert given.train is rows and len(given.test) == 1 and given.source == "two files"
    with pytest.raises(ValueError, match="3 rows; expected at least 5 rows of a class"):
        dataset_from_rows("file", Split(["a", "b", "c"], ["x", "y", "z"]))


def test_a_label_is_never_only_in_the_test_rows():
    labels = [("a", f"only {i}") for i in range(10)]
    with pytest.raises(ValueError, match="10 rows"):
        dataset_from_rows("file", Split([f"text {i}" for i in range(10)], labels))
    labels = [("a",)] * 9 + [("a", "rare")]
    for test_fraction in (0.2, 0.5):
        data = dataset_from_rows(
            "file", Split([f"text {i}" for i in range(10)], labels), test_fraction=test_fraction
        )
        assert "rare" not in {one for row in data.test.labels for one in row}
