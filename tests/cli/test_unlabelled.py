"""hyperagg train --unlabelled."""

from __future__ import annotations

import json

import pytest

SMALL = ("--d-model", "8", "--epochs", "2")


@pytest.fixture()
def labelled(tmp_path):
    path = tmp_path / "films.csv"
    rows = [f"a {'fine' if i % 2 else 'dull'} film {i},{i % 2}" for i in range(20)]
    path.write_text("\n".join(["review,stars", *rows, ""]), "utf-8")
    return path


def train(cli, labelled, tmp_path, *more):
    columns = ("--text", "review", "--label", "stars")
    return cli("train", labelled, *columns, *SMALL, "--out", tmp_path / "model", *more)


@pytest.mark.parametrize("format", ["csv", "jsonl", "txt"])
def test_files_of_any_format_without_labels(cli, labelled, tmp_path, format):
    texts = ["a moving film", "a moving tale", "a flat film"] * 5
    path = tmp_path / f"more.{format}"
    if format == "csv":
        path.write_text("\n".join(["id,review", *(f"7,{t}" for t in texts), ""]), "utf-8")
    elif format == "jsonl":
        path.write_text("".join(json.dumps({"review": t}) + "\n" for t in texts), "utf-8")
    else:
        path.write_text("\n".join([*texts, ""]), "utf-8")
    second = tmp_path / f"second.{format}"
    second.write_text(path.read_text("utf-8"), "utf-8")
    answer = train(cli, labelled, tmp_path, "--unlabelled", path, "--unlabelled", second)
    assert answer.code == 0, answer.err
    assert "read 30 rows from 2 files without labels" in answer.err
    tokenizer = json.loads((tmp_path / "model" / "tokenizer.json").read_text("utf-8"))
    assert "moving" in tokenizer["vocabulary"]


def test_errors_are_one_line(cli, labelled, tmp_path):
    empty = tmp_path / "empty.txt"
    empty.write_text("", "utf-8")
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("title\na film\n", "utf-8")
    for path, reason in ((empty, "empty.txt"), (wrong, "'review'"), ("nofile.txt", "nofile.txt")):
        answer = train(cli, labelled, tmp_path, "--unlabelled", path)
        assert (answer.code, answer.err.count("\n")) == (2, 1), answer.err
        assert reason in answer.err
    answer = train(cli, labelled, tmp_path, "--unlabelled", labelled, "--number", "stars")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "--unlabelled: applies to a classifier of text alone" in answer.err
    assert not (tmp_path / "model").exists()
