"""The hyperparameter search, on newswires."""

from __future__ import annotations

import json
import math
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

import hyperagg
from hyperagg.classifier.tuning.comparison import Comparison
from hyperagg.classifier.tuning.report import ranked_trials, to_json, trials_table
from hyperagg.classifier.tuning.search import TuningResult, tune
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


def record_fits(monkeypatch):
    """The arguments of every classifier that is trained, and the texts that it learns from."""
    seen = []
    fit = hyperagg.TextClassifier.fit

    def record(self, X, y, **arguments):
        seen.append((self.config, tuple(X)))
        return fit(self, X, y, **arguments)

    monkeypatch.setattr(hyperagg.TextClassifier, "fit", record)
    return seen


def test_the_default_is_the_first_trial_and_never_better_than_the_best(rows):
    tuned = tune(*rows, time_limit=3000, trials=5, progress=False)
    first, best = tuned.trials[0], tuned.best_trial
    plain = hyperagg.TextClassifier().config
    assert len(tuned.trials) == 5 and all(trial.valid for trial in tuned.trials)
    assert (first.config["d_model"], first.config["max_ngrams"]) == (
        plain.d_model,
        plain.max_ngrams,
    )
    assert first.config["epochs"] == 10
    assert best.score == max(trial.score for trial in tuned.trials) >= first.score > 0.8

    again = tune(*rows, time_limit=3000, trials=5, progress=False)
    assert configs(again) == configs(tuned) and again.comparison == tuned.comparison
    texts = rows[0][:50]
    np.testing.assert_array_equal(again.classifier.logits(texts), tuned.classifier.logits(texts))
    other = tune(*rows, time_limit=3000, trials=2, seed=1, progress=False)
    assert configs(other)[1][0] != configs(tuned)[1][0]


@pytest.mark.parametrize("several", [False, True])
def test_the_first_trial_is_the_default_classifier(rows, several):
    texts, labels = rows
    if several:
        labels = [(y, "long") if len(text.split()) > 80 else (y,) for text, y in zip(*rows)]
    runner = TrialRunner(texts, labels, math.inf, None, 0)
    trial = runner.run(runner.default)
    training, held_out = runner.rows(0)
    default = hyperagg.TextClassifier(refit=False).fit(*training, progress=False)
    assert trial.score == default.evaluate(*held_out)[runner.metric]
    explicit = hyperagg.TextClassifier(refit=False, **runner.default).fit(*training)
    np.testing.assert_array_equal(explicit.logits(texts[:50]), default.logits(texts[:50]))


def test_settings_have_few_digits(rows):
    tuned = tune(*rows, time_limit=3000, trials=3, progress=False)
    for trial in tuned.trials[1:]:
        for name in ("learning_rate", "label_smoothing"):
            assert trial.config[name] == float(f"{trial.config[name]:.3g}")


def test_no_row_of_the_comparison_was_scored_in_the_search(rows, monkeypatch):
    seen = record_fits(monkeypatch)
    runner = TrialRunner(*rows, math.inf, None, 0)
    assert runner.run(runner.default) and runner.run({**runner.default, "d_model": 8})
    assert runner.num_validation > 40
    compared = runner.compare(runner.trials[1])
    assert compared.num_folds == 4
    dimensions = [config.d_model for config, _ in seen]
    assert dimensions == [64, 8, 64, 8, 64, 8, 64, 8, 64, 8]
    for k, (_, texts) in enumerate(seen):
        assert texts == tuple(runner.rows(k // 2)[0][0])
    held_out = [set(fold.tolist()) for fold in runner._folds]
    assert len(set.union(*held_out)) == sum(map(len, held_out))  # disjoint
    assert compared.num_rows == sum(map(len, held_out[1:]))


def test_the_final_classifier_learns_from_all_rows(rows, monkeypatch):
    seen = record_fits(monkeypatch)
    tuned = tune(*rows, time_limit=3000, trials=2, progress=False)
    assert seen[-1] == (tuned.classifier.config, tuple(rows[0]))
    assert all(len(texts) < len(rows[0]) for _, texts in seen[:-1])


def fake(monkeypatch, scores, compared):
    """Trials with these scores, the default first, and this outcome of the comparison."""
    default = hyperagg.TextClassifier().config.d_model

    def run(self, config):
        score = scores[len(self.trials)]
        if len(self.trials):
            config = {**config, "d_model": 4 + len(self.trials)}
        self.trials.append(Trial(config, score, 0.01, 1.0, True))
        return self.trials[-1]

    monkeypatch.setattr(TrialRunner, "run", run)
    monkeypatch.setattr(TrialRunner, "compare", lambda *arguments: compared)
    return default


def comparison(difference, error):
    return Comparison(0.8 + difference, 0.8, difference, error, 240, 4)


@pytest.mark.parametrize(
    ("scores", "compared", "selected", "said"),
    [
        ((0.8, 0.9, 0.7), comparison(0.02, 0.01), 1, "by more than one standard error: trial 1 is"),
        ((0.8, 0.9, 0.7), comparison(0.01, 0.01), 0, "not better than the default by more than"),
        ((0.8, 0.9, 0.7), comparison(-0.02, 0.01), 0, "not better than the default by more than"),
        ((0.8, 0.9, 0.7), None, 0, "the comparison was interrupted: the default is kept"),
        ((0.8, 0.8, 0.7), comparison(0.02, 0.01), 0, "the default won the search, of 3 trials"),
        ((0.8,), comparison(0.02, 0.01), 0, "only the default was tried: it is kept"),
    ],
)
def test_the_default_is_kept_unless_the_best_is_better_by_a_standard_error(
    rows, monkeypatch, scores, compared, selected, said
):
    default = fake(monkeypatch, scores, compared)
    tuned = tune(*rows, time_limit=3000, trials=len(scores), progress=False)
    assert tuned.selected_trial is tuned.trials[selected]
    assert tuned.classifier.config.d_model == (4 + selected if selected else default)
    if not selected:
        assert tuned.arguments == {}
        assert tuned.classifier.config == hyperagg.TextClassifier().config
    else:
        assert tuned.arguments == tuned.best_trial.config
    assert said in tuned.summary()
    if len(scores) > 1 and compared is not None and tuned.best_trial is not tuned.trials[0]:
        assert (
            f"difference {100 * compared.difference:+.2f} points, standard error 1.00"
            in tuned.summary()
        )
        assert "90.00 % on" in tuned.summary() and "240 other held-out rows" in tuned.summary()


def test_a_comparison_takes_as_many_folds_as_the_time_allows(rows):
    for seconds_left, folds in ((0.0, 1), (math.inf, 4)):
        runner = TrialRunner(*rows, math.inf, None, 0)
        assert runner.run(runner.default) and runner.run({**runner.default, "epochs": 2})
        runner.seconds_left = lambda seconds_left=seconds_left: seconds_left
        shown = []
        compared = runner.compare(runner.trials[1], callback=shown.append)
        assert compared.num_folds == folds and shown == list(range(1, folds + 1))
    assert runner.compare(runner.trials[1], 2).num_folds == 2


def test_an_interrupted_comparison_has_the_folds_so_far(rows, monkeypatch):
    runner = TrialRunner(*rows, math.inf, None, 0)
    assert runner.run(runner.default) and runner.run({**runner.default, "epochs": 2})

    def interrupt(after):
        def callback(fold):
            if fold > after:
                raise KeyboardInterrupt

        return callback

    assert runner.compare(runner.trials[1], callback=interrupt(0)) is None
    assert runner.compare(runner.trials[1], callback=interrupt(2)).num_folds == 2


def test_a_trial_that_diverges_in_the_comparison_is_wrong_in_all_rows(rows):
    runner = TrialRunner(*rows, math.inf, None, 0)
    assert runner.run(runner.default)
    config = {**runner.default, "learning_rate": 1e30}
    runner.trials.append(Trial(config, 0.99, 1.0, 1.0, True))
    compared = runner.compare(runner.trials[1], 1)
    assert compared.score == 0.0 < compared.default_score and not compared.is_better


def test_the_size_limit(rows):
    tuned = tune(*rows, time_limit=3000, trials=6, max_size_mb=0.6, progress=False)
    assert tuned.selected_trial is tuned.best_trial and tuned.comparison is not None
    assert "the default is too large: trial" in tuned.summary()
    assert not tuned.trials[0].valid and tuned.trials[0].size_mb > 0.6
    assert tuned.best_trial.valid and all(trial.size_mb <= 0.6 for trial in tuned.trials[1:])
    size = tuned.classifier.model_.embedding.nbytes / 1e6
    assert size <= 0.6
    # The estimated size is that of the saved embedding.
    assert tuned.best_trial.size_mb == pytest.approx(size, rel=1e-6)
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
    folds = []
    compare = TrialRunner.compare
    monkeypatch.setattr(
        TrialRunner, "compare", lambda self, *a: folds.append(a[1]) or compare(self, *a)
    )
    tuned = tune(*rows, time_limit=3000, progress=False)
    assert folds in ([], [1])  # one fold, unless the default is the best
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
    labels[texts.index(runner.rows(0)[1][0][0])].append("unique")
    tuned = tune(texts, labels, time_limit=3000, trials=2, progress=False)
    assert tuned.metric == "micro_f1"
    assert "by micro-F1 on" in trials_table(tuned).title.plain
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
    with pytest.raises(ValueError, match="2 texts; expected at least 5 of a class"):
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

    file, out = tmp_path / "news 1.txt", tmp_path / "model"
    lines = [f"__label__{label} {text}" for text, label in zip(*rows)]
    file.write_text("\n".join(lines), "utf-8")
    search = (file, "--time-limit", 3000, "--trials", 3, "--seed", 4)
    code, output, messages = call(*search, "--out", out)
    assert not code, messages
    assert f"300 rows, {len(set(rows[1]))} classes" in messages
    assert f"-> {out}; all trials in {out / 'tuning.json'}" in messages
    found = json.loads((out / "tuning.json").read_text("utf-8"))
    assert len(found["trials"]) == 3
    assert sum(line.startswith("default ") for line in output.splitlines()) == 1
    assert hyperagg.TextClassifier.from_pretrained(out).predict(rows[0][:1])

    # The command that it prints trains the same model.
    prefix = "to train the same model: hyperagg "
    command = next(line for line in output.splitlines() if line.startswith(prefix))
    assert command.removeprefix(prefix) == found["command"].removeprefix("hyperagg ")
    again = tmp_path / "again"
    monkeypatch.setattr(sys, "argv", [*shlex.split(found["command"]), "--out", str(again)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 0
    capsys.readouterr()
    weights = (out / "model.safetensors").read_bytes()
    assert (again / "model.safetensors").read_bytes() == weights

    # So does the search, and its JSON is what it writes.
    code, output, _ = call(*search, "--out", tmp_path / "b", "--json")
    printed = json.loads(output)
    assert not code and (tmp_path / "b" / "model.safetensors").read_bytes() == weights
    assert printed == json.loads((tmp_path / "b" / "tuning.json").read_text("utf-8"))
    assert printed["command"] == found["command"]
    assert [t["config"] for t in printed["trials"]] == [t["config"] for t in found["trials"]]

    # The record does not outlive the model.
    argv = ["hyperagg", "train", file, "--out", out, "--epochs", 1, "--force"]
    monkeypatch.setattr(sys, "argv", [*map(str, argv)])
    with pytest.raises(SystemExit):
        main()
    assert not (out / "tuning.json").exists()
    capsys.readouterr()

    code, _, messages = call(file, "--time-limit", 0, "--out", tmp_path / "c")
    assert code and "--time-limit=0.0: expected" in messages


def test_the_command_shows_the_verdict_and_both_commands(rows, tmp_path, monkeypatch, capsys):
    file = tmp_path / "news.txt"
    lines = [f"__label__{label} {text}" for text, label in zip(*rows)]
    file.write_text("\n".join(lines), "utf-8")
    for name, compared in (("a", comparison(0.01, 0.02)), ("b", comparison(0.03, 0.02))):
        fake(monkeypatch, [0.8, 0.9, 0.85], compared)
        argv = ["hyperagg", "tune", file, "--time-limit", 300, "--trials", 3]
        argv += ["--format", "fasttext", "--on-error", "skip", "--out", tmp_path / name]
        monkeypatch.setattr(sys, "argv", [*map(str, argv)])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 0
        output = capsys.readouterr().out.splitlines()
        table = [line.split()[0] for line in output[2:5]]
        assert table == ["1", "2", "default"]  # the best first
        train = f"hyperagg train {file} --format fasttext --on-error skip"
        settings = f"{train} --d-model 5 --max-ngrams "
        if name == "a":
            assert f"to train the same model: {train}" in output
            assert any(line.startswith(f"to train trial 1 instead: {settings}") for line in output)
        else:
            assert any(line.startswith(f"to train the same model: {settings}") for line in output)
            assert not any("instead" in line for line in output)


def test_the_code_of_the_page_runs(capsys):
    page = (Path(__file__).parents[3] / "docs" / "tuning.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(code, "tuning.md", "exec"), {})
    assert f"# {capsys.readouterr().out}" == code.splitlines(keepends=True)[-1]


def test_the_report_of_trials_without_a_score(rows):
    scores = [0.5, math.nan, 0.7, 0.6]
    trials = [Trial({"epochs": i}, s, 1.0, 1.0, s >= 0) for i, s in enumerate(scores)]
    tuned = TuningResult(None, trials[2], trials[2], trials, None, {}, "accuracy", 9)
    assert [number for number, _ in ranked_trials(tuned)] == [2, 3, 0, 1]
    found = json.loads(json.dumps(to_json(tuned), allow_nan=False))
    assert found["trials"][1]["score"] is None
    assert (found["best_trial"], found["selected_trial"], found["comparison"]) == (2, 2, None)


def test_a_long_search_shows_the_best_and_the_default(rows):
    config = TrialRunner(*rows, math.inf, None, 0).default
    trials = [Trial(config, i / 100, 1.0, 1.0, True) for i in range(50)]
    tuned = TuningResult(None, trials[49], trials[49], trials, None, {}, "accuracy", 9)
    table = trials_table(tuned)
    assert table.row_count == 21
    shown = [text.plain for text in table.columns[0]._cells]
    assert shown == [*map(str, range(49, 29, -1)), "default"]
    assert table.title.plain == "the best 20 of 50 settings, by accuracy on 9 held-out rows"
