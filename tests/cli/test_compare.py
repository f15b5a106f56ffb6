"""hyperagg compare on files of the user."""

from __future__ import annotations

import json
import re

import pytest


@pytest.fixture
def films(tmp_path):
    path = tmp_path / "films.csv"
    rows = [f"a {word} film {i},{label}" for i in range(20) for word, label in WORDS]
    path.write_text("\n".join(["review,stars", *rows]))
    return path


WORDS = (("good", "yes"), ("bad", "no"))


def test_a_file_is_split_and_a_test_file_is_used(cli, films, tmp_path):
    options = ["--text", "review", "--label", "stars", "--epochs", "1", "--baselines", "words"]
    answer = cli("compare", films, *options, "--out", tmp_path / "split")
    assert answer.code == 0, answer.err
    assert "films: 32 training rows, 8 test rows" in answer.out
    results = json.loads((tmp_path / "split" / "results.json").read_text())
    assert list(results["models"]) == ["aggregation", "words"]

    answer = cli("compare", films, *options, "--test", films, "--out", tmp_path / "given")
    assert answer.code == 0 and "films: 40 training rows, 40 test rows" in answer.out


def test_options_for_files_are_refused_with_a_data_set(cli, tmp_path):
    answer = cli("compare", "r8", "--text", "review", "--out", tmp_path / "out")
    assert answer.code == 2 and "--text: applies to a file; r8 is a data set name" in answer.err


def test_a_test_label_that_does_not_occur_in_training_is_refused(cli, films, tmp_path):
    other = tmp_path / "other.csv"
    other.write_text("review,stars\nan odd film,maybe\n")
    options = ["--text", "review", "--label", "stars", "--test", other, "--baselines", "words"]
    answer = cli("compare", films, *options, "--out", tmp_path / "out")
    assert answer.code == 2 and "test labels[0]" in answer.err and "'maybe'" in answer.err
    assert not (tmp_path / "out").exists()


def test_the_numbers_of_rows_that_were_read_and_left_out_are_printed(cli, films, tmp_path):
    """With --on-error skip rows used to be left out in silence."""
    bad = tmp_path / "bad.csv"
    bad.write_text(films.read_text("utf-8").rstrip("\n") + "\n,good\n", "utf-8")
    options = ["--baselines", "words", "--epochs", 1, "--on-error", "skip"]
    options += ["--text", "review", "--label", "stars", "--out", tmp_path / "out"]
    answer = cli("compare", bad, *options)
    assert answer.code == 0, answer.err
    assert re.search(r"bad\.csv: 41 rows, left out 1 of them \(first: .*line \d+", answer.out)


def test_a_comparison_is_replaced_only_with_force(cli, films, tmp_path):
    out = tmp_path / "out"
    columns = ["--text", "review", "--label", "stars"]
    command = ["compare", films, *columns, "--baselines", "words", "--epochs", 1, "--out", out]
    answer = cli(*command)
    assert answer.code == 0, answer.err
    assert f"explanations.html, models/aggregation, models/words in {out}" in answer.out
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    refused = cli(*command)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert f"--out {out}: holds a comparison; give another folder, or replace it" in refused.err
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    (out / "results.json").unlink()
    refused = cli(*command)
    assert (
        refused.code == 2 and "an interrupted comparison; continue it with --resume" in refused.err
    )
    renamed = films.rename(tmp_path / "other.csv")
    answer = cli("compare", renamed, *command[2:], "--resume")
    assert answer.code == 0 and (out / "results.json").exists(), answer.err
    answer = cli("compare", renamed, *command[2:], "--force")
    assert answer.code == 0, answer.err
    (out / "runs.json").write_text("{")
    answer = cli("compare", renamed, *command[2:], "--resume")
    assert answer.code == 2 and f"{out / 'runs.json'}: not a file of runs" in answer.err
    assert cli("train", renamed, *columns, "--out", tmp_path / "model", "--epochs", 1).code == 0
    refused = cli("compare", renamed, *columns, "--out", tmp_path / "model")
    assert refused.code == 2 and "holds a model; give another folder" in refused.err


def test_a_finished_comparison_is_resumed_with_its_options_only(cli, films, tmp_path):
    """Other options used to replace its table and models without --force."""
    pytest.importorskip("sklearn")
    out = tmp_path / "out"
    command = ["compare", films, "--text", "review", "--label", "stars", "--out", out]
    fast = ["--epochs", 1, "--search", "none", "--baselines"]
    assert cli(*command, *fast, "complement_nb").code == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for options, differing in (
        (["--epochs", 2, "--search", "none", "--baselines", "complement_nb"], "--epochs"),
        (["--epochs", 1, "--search", "1s", "--baselines", "complement_nb"], "--search"),
        ([*fast, "complement_nb,words"], "the training rows, which depend on --baselines"),
    ):
        refused = cli(*command, *options, "--resume")
        assert (refused.code, refused.err.count("\n")) == (2, 1)
        assert f"{out}: holds a comparison that differs in {differing};" in refused.err
        assert refused.err.endswith("give another folder, or replace it with --force\n")
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    more = cli(*command, *fast, "complement_nb,linear_svc", "--seeds", 2, "--resume")
    assert more.code == 0, more.err
    results = json.loads((out / "results.json").read_text())
    assert list(results["models"]) == ["aggregation", "complement_nb", "linear_svc"]
    assert len(results["models"]["aggregation"]["accuracy"]) == 2


@pytest.mark.parametrize("name", ["aggregation", "words"])
def test_a_model_of_no_comparison_is_replaced_only_with_force(cli, films, tmp_path, name):
    """compare used to look for a model in OUT alone, and it saves to OUT/models."""
    out, columns = tmp_path / "out", ["--text", "review", "--label", "stars", "--epochs", 1]
    model = out / "models" / name
    assert cli("train", films, *columns, "--out", model).code == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    command = ["compare", films, *columns, "--baselines", "words", "--out", out]
    for options in ([], ["--resume"]):
        refused = cli(*command, *options)
        assert refused.code == 2 and f"--out {out}: holds a model in models/{name};" in refused.err
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert cli(*command, "--force").code == 0


def test_resume_and_force_exclude_each_other(cli, films, tmp_path):
    options = ["--text", "review", "--label", "stars", "--out", tmp_path / "out"]
    refused = cli("compare", films, *options, "--resume", "--force")
    assert refused.code == 2 and "--force: begins again, and --resume continues" in refused.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "seconds"), [("1.5m", 90.0), ("20", 20.0), ("none", 0.0), ("full", None)]
)
def test_the_time_of_a_search_is_limited(cli, films, tmp_path, monkeypatch, given, seconds):
    seen = []

    def stop(*arguments, **options):
        seen.append(options["search_seconds"])
        raise ValueError("stopped")

    monkeypatch.setattr("hyperagg.classifier.comparison.compare.compare", stop)
    options = ["--text", "review", "--label", "stars", "--out", tmp_path / "out"]
    cli("compare", films, *options, "--search", given)
    assert seen == [seconds]


@pytest.mark.parametrize("given", ["0", "-1", "fast", "inf", ""])
def test_another_time_of_a_search_is_refused(cli, films, tmp_path, given):
    options = ["--text", "review", "--label", "stars", "--out", tmp_path / "out"]
    answer = cli("compare", films, *options, "--search", given)
    assert answer.code == 2 and f"--search {given}: expected a number of seconds" in answer.err
    assert answer.err.rstrip().endswith("or none, or full")
