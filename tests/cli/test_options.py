"""What all commands do with options, and lines that add up."""

from __future__ import annotations

import re

import pytest

from hyperagg.cli._terms import list_terms


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (["train", "a.csv", "--text", "a", "--text", "b"], "--text"),
        (["predict", "model", "a.csv", "--text", "a", "--text=b"], "--text"),
        (["lm", "train", "a.txt", "--text", "a", "--text", "a"], "--text"),
        (["compare", "a.csv", "--label", "a", "--label", "a"], "--label"),
    ],
)
def test_a_second_column_of_texts_or_labels_is_refused(cli, command, option):
    answer = cli(*command)
    assert answer.code == 2
    assert f"{option}: is given 2 times; expected one column" in answer.err, answer.err
    assert len(answer.err.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["--out", ""], ["--out="]])
@pytest.mark.parametrize("command", [["train", "a.csv"], ["predict", "m", "a"], ["lm", "train"]])
def test_an_empty_out_is_not_the_current_folder(cli, command, arguments):
    answer = cli(*command, *arguments)
    assert answer.code == 2
    assert "--out: expected a path, got ''" in answer.err
    assert len(answer.err.splitlines()) == 1


@pytest.mark.parametrize("command", ["compare", "tune"])
@pytest.mark.parametrize("option", ["--number", "--category", "--image", "--audio"])
def test_columns_of_other_kinds_are_refused_with_the_command_that_takes_them(cli, command, option):
    """They were no such option, with --resume as a possible one."""
    answer = cli(
        command, "a.csv", "--time-limit" if command == "tune" else "--epochs", 1, option, "a"
    )
    assert answer.code == 2 and len(answer.err.splitlines()) == 1
    assert (
        f"hyperagg {command} trains on texts alone; expected --text, or hyperagg train"
        in answer.err
    )
    assert option in answer.err and option not in cli(command, "--help").out


def test_other_options_may_be_repeated(cli):
    command = ["predict", "none", "a.csv", "--keep", "a", "--keep", "b", "--top-k=1", "--top-k=2"]
    answer = cli(*command)
    assert answer.code == 2 and "does not exist" in answer.err and "times" not in answer.err


def test_the_terms_of_a_line_add_up():
    terms = [("a", 1.0), ("b", -0.5), ("c", 0.25), ("d", 0.125)]
    line = list_terms(terms, 2)
    assert line == "a +1.00, b -0.50, 2 others +0.38"
    numbers = map(float, re.findall(r"[+-][\d.]+", line))
    assert sum(numbers) == pytest.approx(sum(value for _, value in terms), abs=0.01)
    assert list_terms(terms, 3).endswith(", 1 other +0.12")
    assert list_terms(terms, 4).endswith(", d +0.12") and list_terms([], 2) == ""


def test_tokens_that_look_like_another_part_of_the_list_are_in_quotes():
    terms = [
        (",", 1.0),
        (", but", -0.5),
        ("a\nb", 0.25),
        ("\n", 0.5),
        ('"', 0.1),
        ("ship ports", 1),
    ]
    line = r'"," +1.00, ", but" -0.50, "a\nb" +0.25, "\n" +0.50, "\"" +0.10, ship ports +1.00'
    assert list_terms(terms, 9) == line


def test_a_folder_of_an_interrupted_training_is_named_as_one(cli, tmp_path):
    (tmp_path / "checkpoint.safetensors").write_bytes(b"")
    (tmp_path / "a.csv").write_text("text\na\n")
    answer = cli("predict", tmp_path, tmp_path / "a.csv")
    assert answer.code == 2 and "holds an interrupted training" in answer.err
    pytest.importorskip("transformers")
    (tmp_path / "checkpoints").mkdir()
    answer = cli("lm", "generate", tmp_path, "--prompt", "a")
    assert answer.code == 2 and "hyperagg lm train --resume" in answer.err


@pytest.mark.parametrize("command", ["train", "tune", "compare", "evaluate", "predict", "explain"])
def test_a_wrong_way_to_treat_errors_is_named_by_its_option(cli, command):
    model = ["model"] if command in ("evaluate", "predict", "explain") else []
    answer = cli(command, *model, "a.csv", "--on-error", "nope")
    expected = "empty, stop, skip" if command in ("predict", "explain") else "stop, skip"
    assert answer.code == 2
    assert f"--on-error nope: expected one of {expected}\n" in answer.err


@pytest.mark.parametrize(
    "option", [["--on-error", "skip"], ["--delimiter", ";"], ["--no-header"], ["--format", "csv"]]
)
def test_options_of_files_are_refused_beside_a_name(cli, option):
    answer = cli("compare", "banking77", *option)
    assert answer.code == 2
    assert f"{option[0]}: applies to a file; banking77 is a data set name" in answer.err


def test_a_model_of_several_columns_has_no_export(cli, tmp_path):
    (tmp_path / "config.json").write_text('{"format": "hyperagg.MultimodalClassifier"}')
    answer = cli("export", tmp_path, tmp_path / "model.onnx")
    assert answer.code == 2
    assert "a model of several columns; expected a classifier of text alone" in answer.err


def test_names_of_data_sets_are_never_cut(cli):
    answer = cli("data", "list")
    assert answer.code == 0 and "reuters-modapte" in answer.out
