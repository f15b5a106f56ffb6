"""The search for arguments, on real newswires."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

import hyperagg
from hyperagg.classifier.tuning.search import tune
from hyperagg.classifier.tuning.trials import Trial, Trials
from hyperagg.cli import app

pytest.importorskip("optuna", reason='pip install "hyperagg[tune]"')


@pytest.fixture(scope="module")
def rows():
    """Texts and labels of real newswires, which ten epochs learn in a moment."""
    train = hyperagg.load_dataset("r8").train
    picked = np.random.default_rng(0).permutation(len(train.texts))[:300]
    return [train.texts[i] for i in picked], [train.labels[i] for i in picked]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("hyperagg.classifier.config.MIN_STEPS", 1_000)


def configs(tuned):
    return [(trial.config, trial.score) for trial in tuned.trials]


def test_the_default_is_first_and_never_better_than_what_is_kept(rows):
    tuned = tune(*rows, seconds=300, trials=5, progress=False)
    first, best = tuned.trials[0], tuned.best
    plain = hyperagg.TextClassifier().config
    assert len(tuned.trials) == 5 and all(trial.counts for trial in tuned.trials)
    assert (first.config["d_model"], first.config["max_ngrams"]) == (
        plain.d_model,
        plain.max_ngrams,
    )
    assert first.config["epochs"] == 10
    assert best.score == max(trial.score for trial in tuned.trials) >= first.score > 0.8
    config = tuned.classifier.config
    assert best is first or all(getattr(config, k) == v for k, v in best.config.items())
    # What is estimated is what the saved embedding has.
    saved = tuned.classifier.model_.embedding.size * 4 / 1e6
    assert best.megabytes == pytest.approx(saved, rel=1e-6)

    again = tune(*rows, seconds=300, trials=5, progress=False)
    assert configs(again) == configs(tuned)
    texts = rows[0][:50]
    np.testing.assert_array_equal(again.classifier.logits(texts), tuned.classifier.logits(texts))
    other = tune(*rows, seconds=300, trials=2, seed=1, progress=False)
    assert configs(other)[1][0] != configs(tuned)[1][0]


def test_trials_see_no_held_out_row(rows, monkeypatch):
    seen = []
    fit = hyperagg.TextClassifier.fit

    def note(self, texts, labels, **arguments):
        seen.append(set(texts))
        return fit(self, texts, labels, **arguments)

    monkeypatch.setattr(hyperagg.TextClassifier, "fit", note)
    trials = Trials(*rows, math.inf, None, 0)
    assert not set(trials.kept[0]) & set(trials.held[0]) and len(trials.held[0]) > 40
    tune(*rows, seconds=300, trials=2, progress=False)
    assert seen == [set(trials.kept[0]), set(trials.kept[0]), set(rows[0])]


def test_a_size_is_kept_to(rows):
    tuned = tune(*rows, seconds=300, trials=6, max_mb=0.6, progress=False)
    assert not tuned.trials[0].counts and tuned.trials[0].megabytes > 0.6
    assert tuned.best.counts and all(trial.megabytes <= 0.6 for trial in tuned.trials[1:])
    assert tuned.classifier.model_.embedding.size * 4e-6 <= 0.6
    with pytest.raises(ValueError, match=r"max_mb=0\.001: the least that was tried takes"):
        tune(*rows, seconds=20, max_mb=0.001, progress=False)


def test_when_time_is_up_there_is_the_default(rows):
    tuned = tune(*rows, seconds=0.01, progress=False)
    assert len(tuned.trials) == 1 and tuned.best is tuned.trials[0]
    assert tuned.classifier.config == hyperagg.TextClassifier().config
    assert tuned.classifier.predict(rows[0][:3])


def test_an_interrupt_gives_the_best_so_far(rows, monkeypatch):
    attempt = Trials.attempt

    def stop(self, config):
        if len(self.done) == 2:
            raise KeyboardInterrupt
        return attempt(self, config)

    monkeypatch.setattr(Trials, "attempt", stop)
    tuned = tune(*rows, seconds=300, progress=False)
    assert len(tuned.trials) == 2 and tuned.classifier.predict(rows[0][:3])
    monkeypatch.setattr(Trials, "attempt", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        tune(*rows, seconds=300, progress=False)


def test_a_rate_that_diverges_is_a_trial_without_a_score(rows):
    trials = Trials(*rows, math.inf, None, 0)
    assert trials.attempt(trials.default).counts
    wild = trials.attempt({**trials.default, "learning_rate": 1e30})
    assert math.isnan(wild.score) and not wild.counts and trials.best is trials.done[0]


def test_of_equals_the_earlier_is_kept(rows):
    trials = Trials(*rows, math.inf, None, 0)
    trials.done = [Trial({}, score, 1.0, 1.0, True) for score in (0.5, 0.7, 0.7)]
    assert trials.best is trials.done[1]


def test_several_labels_a_text(rows):
    texts = rows[0]
    labels = [[y, "long"] if len(text.split()) > 80 else [y] for text, y in zip(*rows)]
    held = Trials(texts, [tuple(some) for some in labels], math.inf, None, 0).held[0]
    # One held-out row has a label that no other row has, which nothing could learn.
    labels[texts.index(held[0])].append("alone")
    tuned = tune(texts, labels, seconds=300, trials=2, progress=False)
    assert tuned.classifier.multi_label_ and 0.5 < tuned.best.score < 1
    assert "alone" in tuned.classifier.classes_


def test_what_cannot_be_tuned_is_told(rows, monkeypatch):
    for wrong in (dict(seconds=0), dict(seconds=1, trials=0), dict(seconds=1, max_mb=-1)):
        with pytest.raises(ValueError, match="give a number above 0"):
            tune(*rows, **wrong)
    with pytest.raises(ValueError, match="give 5 or more of a class"):
        tune(["a", "b"], ["x", "y"], seconds=1)
    with pytest.raises(ValueError, match="at least two distinct labels"):
        tune(["a"] * 20, ["x"] * 20, seconds=1)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r'pip install "hyperagg\[tune\]"'):
        tune(*rows, seconds=1)


def test_the_command(rows, tmp_path):
    from typer.testing import CliRunner

    file, out = tmp_path / "news.txt", tmp_path / "model"
    lines = [f"__label__{label} {text}" for text, label in zip(*rows)]
    file.write_text("\n".join(lines), "utf-8")
    arguments = ["tune", str(file), "--seconds", "300", "--trials", "2", "--out", str(out)]
    answer = CliRunner().invoke(app, arguments)
    assert answer.exit_code == 0, answer.output
    assert "default" in answer.output and f"300 rows, {len(set(rows[1]))} classes" in answer.output
    assert hyperagg.TextClassifier.from_pretrained(out).predict(rows[0][:1])
    answer = CliRunner().invoke(app, ["tune", str(file), "--seconds", "0", "--out", str(out)])
    assert answer.exit_code == 1 and "seconds=0.0" in str(answer.exception)
