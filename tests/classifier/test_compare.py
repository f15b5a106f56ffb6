"""The comparison with baselines, on a few hundred newswires."""

from __future__ import annotations

import json
import sys
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

import hyperagg
from hyperagg._common.report import times
from hyperagg._common.runs import Runs
from hyperagg.classifier.baselines.features import TfidfFeatures
from hyperagg.classifier.baselines.linear import TfidfClassifier
from hyperagg.classifier.baselines.predictions import correct_rows
from hyperagg.classifier.baselines.search import Diverged, OneTwoFive
from hyperagg.classifier.baselines.selection import held_out_fold
from hyperagg.classifier.comparison.compare import compare
from hyperagg.classifier.comparison.dataset import dataset_from_rows
from hyperagg.classifier.comparison.report import results_table
from hyperagg.classifier.predictor import load_predictor
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
    assert lines[0].startswith("attention does not learn from the held-out rows")
    assert len(lines) == 5 and "s to fit" in lines[1] and "documents/s" in lines[1]
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
    table = (tmp_path / "table.md").read_text("utf-8")
    seconds = [results["models"][name]["fit_seconds"] for name in ("attention", "aggregation")]
    assert f"| {times(seconds[0] / seconds[1])} |" in table
    for name in ("table.md", "learning_curves.png"):
        assert (tmp_path / name).stat().st_size > 0
    page = (tmp_path / "explanations.html").read_text("utf-8")
    assert 10 <= page.count("<article>") <= 20 and "test row 1<" in page
    with StringIO() as file:
        Console(file=file, width=80).print(results_table(results))
        shown = file.getvalue()
    # Two seeds, and no column is cut off.
    assert "…" not in shown and "paired test" in shown and len(shown.splitlines()) == 6

    # Every run is done, so resuming trains nothing.
    monkeypatch.setattr(hyperagg.TextClassifier, "fit", lambda *a, **k: pytest.fail("trained"))
    again = compare(small, ["attention"], 2, tmp_path, resume=True, **options)
    assert again["models"] == results["models"]
    renamed = Dataset("other", small.train, small.test, "")  # the same rows
    again = compare(renamed, ["attention"], 2, tmp_path, resume=True, **options)
    assert again["models"] == results["models"] and again["dataset"] == "other"
    first, *rest = small.test.labels
    labels = ["acq" if first == "earn" else "earn", *rest]
    corrected = Dataset(small.name, small.train, Split(small.test.texts, labels), "")
    with pytest.raises(ValueError, match="another study"):
        compare(corrected, [], 1, tmp_path, resume=True)


def test_a_model_that_is_missing_or_of_other_arguments_is_trained_again(small, tmp_path):
    """A resumed comparison kept it, and said that a model was there that had been removed."""
    folder = tmp_path / "models" / "aggregation"
    lines = []
    options = dict(progress=False, callback=lines.append)
    results = compare(small, [], 1, tmp_path, epochs=1, **options)
    fingerprint = load_predictor(folder).fingerprint
    compare(small, [], 1, tmp_path, epochs=2, resume=True, **options)
    assert load_predictor(folder).fingerprint != fingerprint
    for damage in (lambda: None, lambda: (folder / "config.json").unlink()):
        damage()
        (tmp_path / "explanations.html").unlink()
        lines.clear()
        again = compare(small, [], 1, tmp_path, epochs=1, resume=True, **options)
        assert f"aggregation, seed 0, is trained again: {tmp_path} does not" in lines[0]
        scores = load_predictor(folder).predict(small.test.texts)
        correct = np.mean([a == b for a, b in zip(scores, small.test.labels)])
        measured = again["models"]["aggregation"]["accuracy"][0]
        assert measured == results["models"]["aggregation"]["accuracy"][0] == correct
        assert (tmp_path / "explanations.html").exists()
    lines.clear()
    (tmp_path / "explanations.html").unlink()
    compare(small, [], 1, tmp_path, epochs=1, resume=True, **options)
    assert (tmp_path / "explanations.html").exists() and "trained again" not in lines[0]


@pytest.mark.parametrize("name", ["linear_svc", "fasttext"])
def test_external_baselines_are_searched_and_compared(small, tmp_path, monkeypatch, name):
    pytest.importorskip("sklearn" if name == "linear_svc" else "fasttext")
    fasttext = "hyperagg.classifier.baselines.fasttext.FastTextClassifier"
    monkeypatch.setattr(
        TfidfClassifier, "STARTS", ({"word_ngrams": 1, "char_ngrams": 0, "strength": 1.0},)
    )
    start = dict(learning_rate=1.0, epochs=10, word_ngrams=1, min_chars=0, max_chars=0, d_model=5)
    monkeypatch.setattr(f"{fasttext}.STARTS", (start,))
    monkeypatch.setattr(f"{fasttext}.AXES", {"learning_rate": OneTwoFive()})
    monkeypatch.setattr(TfidfClassifier, "AXES", {"strength": OneTwoFive()})
    lines = []
    options = dict(epochs=1, progress=False, save_models=False, callback=lines.append)
    results = compare(small, [name], 2, tmp_path, **options)
    model = results["models"][name]
    assert model["fit_seconds"] > 0 and model["parameters"] > 300
    assert model["search"]["parameters"] == model["training_config"]
    assert model["search"]["held_out_rows"] == 5 * 38
    assert len(model["accuracy"]) == (1 if name == "linear_svc" else 2)
    # The predictions of every run are kept.
    runs = json.loads((tmp_path / "runs.json").read_text())["runs"]
    kept = [run["predictions"] for key, run in runs.items() if key.startswith(f"{name} epochs")]
    correct = correct_rows(kept, small.test.labels, results["classes"])
    assert correct.mean(1).tolist() == model["accuracy"]
    test = results["paired"][name]
    difference = np.mean(results["models"]["aggregation"]["accuracy"]) - correct.mean()
    assert test["difference"] == pytest.approx(difference) and 0 < test["p"] <= 1
    assert "aggregation, paired test" in (tmp_path / "table.md").read_text()
    assert model["accuracy"][0] > 0.8
    assert model["search"]["is_complete"]
    assert any(line.startswith(f"{name}: ") and "best of" in line for line in lines)


def test_every_model_learns_from_the_same_rows(small, tmp_path, monkeypatch):
    """Beside neural baselines, linear models learned from the validation rows as well."""
    pytest.importorskip("sklearn")
    numbers = {}
    fit = TfidfClassifier.fit

    def spy(self, X, y, seed=0):
        numbers.setdefault(seed, []).append(list(X))
        return fit(self, X, y, seed=seed)

    monkeypatch.setattr(TfidfClassifier, "fit", spy)
    options = dict(epochs=1, search_seconds=0, progress=False, save_models=False)
    lines = []
    results = compare(
        small, ["words", "linear_svc"], 2, tmp_path / "part", callback=lines.append, **options
    )
    for seed in (0, 1):
        ((texts,),) = (numbers[seed],)
        assert texts == list(held_out_fold(*_columns(small.train), seed).texts)
    assert len(results["models"]["linear_svc"]["accuracy"]) == 2
    assert not results["models"]["linear_svc"]["search"]["is_complete"]
    assert any("default settings, without a search" in line for line in lines)
    numbers.clear()
    compare(small, ["linear_svc"], 2, tmp_path / "all", **options)
    assert numbers == {0: [small.train.texts]}


def test_a_baseline_that_diverges_is_left_out_with_one_line(small, tmp_path, monkeypatch):
    """fastText's "Encountered NaN" ended the comparison with a traceback."""
    pytest.importorskip("sklearn")

    def diverge(self, X, y, seed=0):
        raise Diverged("it diverges with strength=1.0")

    monkeypatch.setattr(TfidfClassifier, "fit", diverge)
    lines = []
    options = dict(epochs=1, search_seconds=0, progress=False, save_models=False)
    results = compare(small, ["linear_svc", "words"], 1, tmp_path, callback=lines.append, **options)
    assert list(results["models"]) == ["aggregation", "words"]
    assert "linear_svc, seed 0, is left out: it diverges with strength=1.0" in lines


def _columns(split):
    return split.texts, split.labels


def test_other_limits_of_the_search_are_not_resumed_from(small, tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.setattr(TfidfClassifier, "AXES", {"strength": OneTwoFive()})
    options = dict(aggregation=False, progress=False, save_models=False, resume=True)
    first = compare(small, ["complement_nb"], 1, tmp_path, search_seconds=0, **options)
    assert first["models"]["complement_nb"]["search"]["candidates"] == 0
    second = compare(small, ["complement_nb"], 1, tmp_path, search_seconds=1000, **options)
    assert second["models"]["complement_nb"]["search"]["candidates"] > 2


def test_no_choice_depends_on_the_test_rows(small, tmp_path, monkeypatch):
    """Other test rows, with other labels, give the same candidates, scores and models."""
    pytest.importorskip("sklearn")
    monkeypatch.setattr(TfidfClassifier, "AXES", {"strength": OneTwoFive()})
    seen = set()
    fit_transform, transform = TfidfFeatures.fit_transform, TfidfFeatures.matrices

    def matrices(self, fold):
        seen.update(fold.texts, fold.held_out_texts)
        return transform(self, fold)

    def spy(self, texts):
        seen.update(texts)
        return fit_transform(self, texts)

    monkeypatch.setattr(TfidfFeatures, "matrices", matrices)
    monkeypatch.setattr(TfidfFeatures, "fit_transform", spy)
    options = dict(aggregation=False, save_models=False, progress=False)
    marked = Split([f"test only {text}" for text in small.test.texts], small.test.labels)
    shifted = Split(marked.texts[:40], list(reversed(marked.labels))[:40])
    runs = []
    for i, test in enumerate((marked, shifted)):
        compare(
            Dataset("r8-part", small.train, test, ""),
            ["linear_svc", "complement_nb"],
            1,
            tmp_path / str(i),
            **options,
        )
        found = json.loads((tmp_path / str(i) / "runs.json").read_text())["runs"]
        runs.append({key: run for key, run in found.items() if "epochs=" not in key})
    assert seen == set(small.train.texts)
    scores = [
        {key: (run["score"], run.get("parameters")) for key, run in found.items()} for found in runs
    ]
    assert scores[0] == scores[1] and len(scores[0]) > 10


def test_a_comparison_that_was_killed_repeats_nothing(small, tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.setattr(TfidfClassifier, "AXES", {"strength": OneTwoFive()})
    options = dict(aggregation=False, save_models=False, progress=False)
    compare(small, ["complement_nb"], 1, tmp_path / "whole", **options)
    whole = json.loads((tmp_path / "whole" / "runs.json").read_text())["runs"]

    class Killed(BaseException):
        pass

    add, trained = Runs.add, []

    def killed(self, key, run):
        add(self, key, run)
        trained.append(key)
        if len(trained) in (5, len(whole) - 1):
            raise Killed

    monkeypatch.setattr(Runs, "add", killed)
    for _ in range(2):
        with pytest.raises(Killed):
            compare(small, ["complement_nb"], 1, tmp_path / "parts", resume=True, **options)
    compare(small, ["complement_nb"], 1, tmp_path / "parts", resume=True, **options)
    assert trained == list(whole)
    parts = json.loads((tmp_path / "parts" / "runs.json").read_text())["runs"]
    for key, run in whole.items():
        for same in ("score", "predictions", "accuracy", "parameters"):
            assert run.get(same) == parts[key].get(same)


def test_default_baselines_that_are_not_installed_are_skipped_with_one_line(
    small, tmp_path, monkeypatch
):
    def without_torch(module):
        raise ImportError("they need an extra: pip install 'hyperagg[extra]'")

    monkeypatch.setattr("hyperagg.classifier.comparison.models.import_module", without_torch)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    lines = []
    results = compare(small, None, 1, tmp_path, epochs=1, progress=False, callback=lines.append)
    assert list(results["models"]) == ["aggregation", "words"]
    skipped = [line for line in lines if "skipped" in line]
    assert len(skipped) == 1
    assert skipped[0].startswith("linear_svc, fasttext, attention are skipped: ")
    assert skipped[0].endswith("pip install 'hyperagg[extra]'")
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


def test_several_labels_per_text_are_tested_by_micro_f1(small, tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.setattr(TfidfClassifier, "AXES", {"strength": OneTwoFive()})

    def with_length(rows):
        labels = [(y, "long") if len(x) > 600 else (y,) for x, y in zip(rows.texts, rows.labels)]
        return Split(rows.texts, labels)

    data = Dataset("tags", with_length(small.train), with_length(small.test), "")
    options = dict(epochs=20, progress=False, save_models=False, callback=lambda line: None)
    results = compare(data, ["complement_nb"], 1, tmp_path, **options)
    models, test = results["models"], results["paired"]["complement_nb"]
    difference = models["aggregation"]["micro_f1"][0] - models["complement_nb"]["micro_f1"][0]
    assert test["difference"] == pytest.approx(difference) and 0 < test["p"] <= 1
    assert "micro-F1 % | aggregation, paired test" in (tmp_path / "table.md").read_text()
