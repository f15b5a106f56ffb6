"""Learning curves on made-up texts."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hyperagg._common.runs import Runs
from hyperagg.data import Dataset, Split
from research.studies import learning_curves
from research.studies.learning_curves import (
    curve_table,
    draw_curves,
    lead_table,
    measure_curve,
    measure_curves,
)

METHODS = ["complement_nb", "linear_svc"]


def split(count: int, seed: int, mark: str = "") -> Split:
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        label = ("good", "bad")[rng.integers(2)]
        words = [label if rng.random() < 0.7 else "film", *rng.choice(list("abcdefgh"), 4), mark]
        rows.append((" ".join(words), label))
    return Split([text for text, _ in rows], [label for _, label in rows])


DATA = Dataset("films", split(200, 0), split(60, 1, "test"), "")
TEST = DATA.test.texts, DATA.test.labels


def measure(path, resume=False, test=TEST, sizes=(8, 20, 500), draws=2):
    return measure_curve(DATA, test, sizes, draws, METHODS, Runs(path, "s", resume))


def test_every_cell_is_measured_once_and_a_killed_run_continues(tmp_path, monkeypatch):
    whole = measure(tmp_path / "whole.json")
    assert list(whole) == ["8", "20"]  # there are no 500 training texts
    assert all(len(whole[size][method]) == 2 for size in whole for method in METHODS)
    trained, add = [], Runs.add

    def killed(self, key, run):
        add(self, key, run)
        trained.append(key)
        if len(trained) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Runs, "add", killed)
    with pytest.raises(KeyboardInterrupt):
        measure(tmp_path / "parts.json")
    assert measure(tmp_path / "parts.json", resume=True) == whole
    assert len(trained) == len(set(trained)) == 8


def test_no_choice_depends_on_the_test_rows(tmp_path, monkeypatch):
    """Other test labels give the same settings, and cross-validation sees no test text."""
    seen = []
    mean_score = learning_curves.mean_score

    def spy(baseline, parameters, folds):
        seen.extend(fold for fold in folds if fold.held_out_texts is not TEST[0])
        return mean_score(baseline, parameters, folds)

    monkeypatch.setattr(learning_curves, "mean_score", spy)
    chosen = []
    for i, labels in enumerate((TEST[1], TEST[1][::-1])):
        measure(tmp_path / f"{i}.json", test=(TEST[0], labels))
        runs = json.loads((tmp_path / f"{i}.json").read_text())["runs"]
        chosen.append({key: run["parameters"] for key, run in runs.items()})
    assert chosen[0] == chosen[1]
    assert seen and not any("test" in t for f in seen for t in (*f.texts, *f.held_out_texts))


def test_a_draw_has_two_classes(tmp_path):
    rare = Split(["a b c"] * 99 + ["d"], ["yes"] * 99 + ["no"])
    for draw in range(5):
        folds, final = learning_curves._folds(Dataset("x", rare, rare, ""), TEST, 6, draw)
        assert set(final.labels) == {"yes", "no"} and len(final.labels) == 6
        assert all(len(set(fold.labels)) == 2 for fold in folds)


def test_the_default_classifier_and_fasttext_learn(tmp_path):
    pytest.importorskip("fasttext")
    runs = Runs(tmp_path / "runs.json", "s", False)
    found = measure_curve(DATA, TEST, [100], 1, ["aggregation", "fasttext"], runs)
    assert all(accuracies[0] > 0.7 for accuracies in found["100"].values())


def test_the_table_begins_with_the_means_over_the_data_sets(tmp_path):
    curves = {
        "r8": {"30": {"aggregation": [0.8, 0.9], "linear_svc": [0.7, 0.7]}},
        "mr": {"30": {"aggregation": [0.6, 0.6], "linear_svc": [0.5, 0.6]}},
    }
    assert curve_table({"accuracy": curves}).splitlines() == [
        "| dataset | labelled texts | aggregation | linear_svc |",
        "|---|---:|---:|---:|",
        "| mean of 2 data sets | 30 | 72.50 | 62.50 |",
        "| r8 | 30 | 85.00 ± 7.07 | 70.00 ± 0.00 |",
        "| mr | 30 | 60.00 ± 0.00 | 55.00 ± 7.07 |",
    ]
    assert lead_table({"accuracy": curves}).splitlines()[2:] == [
        "| mean of 2 | 72.5 (+10.0) |",
        "| r8 | 85.0 (+15.0) |",
        "| mr | 60.0 (+5.0) |",
    ]
    draw_curves({"accuracy": curves}, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_baselines_are_measured_without_aggregation(tmp_path, monkeypatch):
    monkeypatch.setattr(learning_curves, "load_texts", lambda name: DATA)

    def measure_here(measure, names, jobs, write):
        write({name: measure(name) for name in names})

    monkeypatch.setattr(learning_curves, "measure_sets", measure_here)
    measure_curves(["films"], [8], 1, ["complement_nb"], tmp_path)
    assert "complement_nb" in (tmp_path / "table.md").read_text("utf-8")
    assert not (tmp_path / "lead.md").exists()
