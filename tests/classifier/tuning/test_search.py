"""The hyperparameter search, on newswires."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

import hyperagg
from hyperagg.classifier.tuning.search import tune
from hyperagg.classifier.tuning.trial_runner import Trial, TrialRunner
from hyperagg.cli import main

pytest.importorskip("optuna", reason="pip install 'hyperagg[tune]'")


@pytest.fixture(scope="module")
def rows():
    """Texts and labels of 300 newswires."""
    train = hyperagg.load_dataset("r8").train
    picked = np.random.default_rng(0).permutation(len(train.texts))[:300]
    return [train.texts[i] for i in picked], [train.labels[i] for i in picked]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("hyperagg.classifier.config.MIN_STEPS", 1_000)


def configs(tuned):
    return [(trial.config, trial.score) for trial in tuned.trials]


def test_the_default_is_the_first_trial_and_never_better_than_the_best(rows):
    tuned = tune(*rows, time_limit=300, trials=5, progress=False)
    first, best = tuned.trials[0], tuned.best_trial
    plain = hyperagg.TextClassifier().config
    assert len(tuned.trials) == 5 and all(trial.valid for trial in tuned.trials)
    assert (first.config["d_model"], first.config["max_ngrams"]) == (
        plain.d_model,
        plain.max_ngrams,
    )
    assert first.config["epochs"] == 10
    assert best.score == max(trial.score for trial in tuned.trials) >= first.score > 0.8
    config = tuned.classifier.config
    assert best is first or all(getattr(config, k) == v for k, v in best.config.items())
    # The estimated size is that of the saved embedding.
    saved = tuned.classifier.model_.embedding.nbytes / 1e6
    assert best.size_mb == pytest.approx(saved, rel=1e-6)

    again = tune(*rows, time_limit=300, trials=5, progress=False)
    assert configs(again) == configs(tuned)
    texts = rows[0][:50]
    np.testing.assert_array_equal(again.classifier.logits(texts), tuned.classifier.logits(texts))
    other = tune(*rows, time_limit=300, trials=2, seed=1, progress=False)
    assert configs(other)[1][0] != configs(tuned)[1][0]


def test_trials_do_not_learn_validation_rows(rows, monkeypatch):
    seen = []
    fit = hyperagg.TextClassifier.fit

    def record(self, X, y, **arguments):
        seen.append(set(X))
        return fit(self, X, y, **arguments)

    monkeypatch.setattr(hyperagg.TextClassifier, "fit", record)
    runner = TrialRunner(*rows, math.inf, None, 0)
    assert not set(runner.training[0]) & set(runner.validation[0])
    assert len(runner.validation[0]) > 40
    tune(*rows, time_limit=300, trials=2, progress=False)
    assert seen == [set(runner.training[0]), set(runner.training[0]), set(rows[0])]


def test_the_size_limit(rows):
    tuned = tune(*rows, time_limit=300, trials=6, max_size_mb=0.6, progress=False)
    assert not tuned.trials[0].valid and tuned.trials[0].size_mb > 0.6
    assert tuned.best_trial.valid and all(trial.size_mb <= 0.6 for trial in tuned.trials[1:])
    assert tuned.classifier.model_.embedding.nbytes / 1e6 <= 0.6
    with pytest.raises(ValueError, match=r"max_size_mb=0\.001: expected at least .*, the smallest"):
        tune(*rows, time_limit=20, max_size_mb=0.001, progress=False)


def test_without_time_the_default_is_trained(rows):
    tuned = tune(*rows, time_limit=0.01, progress=False)
    assert len(tuned.trials) == 1 and tuned.best_trial is tuned.trials[0]
    assert tuned.classifier.config == hyperagg.TextClassifier().config
    assert tuned.classifier.predict(rows[0][:3])


def test_an_interrupt_trains_the_best_so_far(rows, monkeypatch):
    run = TrialRunner.run

    def stop(self, config):
        if len(self.trials) == 2:
            raise KeyboardInterrupt
        return run(self, config)

    monkeypatch.setattr(TrialRunner, "run", stop)
    tuned = tune(*rows, time_limit=300, progress=False)
    assert len(tuned.trials) == 2 and tuned.classifier.predict(rows[0][:3])
    monkeypatch.setattr(TrialRunner, "run", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        tune(*rows, time_limit=300, progress=False)


def test_a_learning_rate_that_diverges_gives_a_trial_without_a_score(rows):
    runner = TrialRunner(*rows, math.inf, None, 0)
    assert runner.run(runner.default).valid
    wild = runner.run({**runner.default, "learning_rate": 1e30})
    assert math.isnan(wild.score) and not wild.valid and runner.best is runner.trials[0]


def test_of_equal_scores_the_first_is_the_best(rows):
    runner = TrialRunner(*rows, math.inf, None, 0)
    runner.trials = [Trial({}, score, 1.0, 1.0, True) for score in (0.5, 0.7, 0.7)]
    assert runner.best is runner.trials[1]


def test_several_labels_per_text(rows):
    texts = rows[0]
    labels = [[y, "long"] if len(text.split()) > 80 else [y] for text, y in zip(*rows)]
    runner = TrialRunner(texts, [tuple(row) for row in labels], math.inf, None, 0)
    # One validation row has a label that no other row has.
    labels[texts.index(runner.validation[0][0])].append("unique")
    tuned = tune(texts, labels, time_limit=300, trials=2, progress=False)
    assert tuned.classifier.multi_label_ and 0.5 < tuned.best_trial.score < 1
    assert "unique" in tuned.classifier.classes_


def test_invalid_arguments(rows, monkeypatch):
    for wrong in (
        dict(time_limit=0),
        dict(time_limit=1, trials=0),
        dict(time_limit=1, max_size_mb=-1),
    ):
        with pytest.raises(ValueError, match=r"(time_limit|trials|max_size_mb)=.*: expected"):
            tune(*rows, **wrong)
    with pytest.raises(ValueError, match="X: 2 texts; expected at least 5 of a class"):
        tune(["a", "b"], ["x", "y"], time_limit=1)
    with pytest.raises(ValueError, match="expected at least"):
        tune(["a"] * 20, ["x"] * 20, time_limit=1)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"pip install 'hyperagg\[tune\]'$"):
        tune(*rows, time_limit=1)


def test_the_command(rows, tmp_path, monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["hyperagg", "tune", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code, *capsys.readouterr()

    file, out = tmp_path / "news.txt", tmp_path / "model"
    lines = [f"__label__{label} {text}" for text, label in zip(*rows)]
    file.write_text("\n".join(lines), "utf-8")
    code, output, messages = call(file, "--time-limit", 300, "--trials", 2, "--out", out)
    assert not code, messages
    assert "default" in output + messages
    assert f"300 rows, {len(set(rows[1]))} classes" in messages
    assert hyperagg.TextClassifier.from_pretrained(out).predict(rows[0][:1])
    code, _, messages = call(file, "--time-limit", 0, "--out", tmp_path / "b")
    assert code and "time_limit=0.0" in messages
