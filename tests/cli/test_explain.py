"""hyperagg explain."""

from __future__ import annotations

import json

import pytest

import hyperagg


def test_texts_classes_and_a_page(cli, table, rows, tmp_path):
    texts, labels = [text for text, _ in rows], [label for _, label in rows]
    model, page = tmp_path / "model", tmp_path / "why.html"
    classifier = hyperagg.TextClassifier(d_model=16, epochs=2).fit(texts, labels)
    classifier.save_pretrained(model)

    answer = cli("explain", model, table, "--limit", 2, "--html", page)
    assert answer.code == 0, answer.err
    assert answer.out.startswith(f"{table}: row 1: {classifier.predict(texts[:1])[0]} ")
    assert f"read {len(rows):,} rows; explained 2" in answer.err
    assert page.read_text("utf-8").count("<article>") == 2

    answer = cli("explain", model, table, "--limit", 1, "--json")
    row = json.loads(answer.out)
    c = row["classes"].index(row["label"])
    total = row["bias"][c] + sum(token[c] for token in row["contributions"])
    assert abs(total - row["logits"][c]) < 1e-3
    assert len(row["tokens"]) == len(row["contributions"])

    worst = cli("explain", model, table, "--worst", "--limit", 3, "--json")
    found = [json.loads(line) for line in worst.out.splitlines()]
    wrong = [i for i, label in enumerate(classifier.predict(texts)) if label != labels[i]]
    assert found and len(found) == min(3, len(wrong))
    for row in found:
        assert row["label"] != row["true_label"]
    one = cli("explain", model, table, "--row", 7, "--class", labels[0], "--json")
    assert json.loads(one.out)["row"].endswith("row 7")
    first, second = classifier.classes_[:2]
    pair = cli("explain", model, table, "--row", 7, "--class", first, "--against", second)
    assert f": {first} rather than {second}" in pair.out

    answer = cli("explain", model)
    assert {line.split(":")[0] for line in answer.out.splitlines()} == set(labels)
    answer = cli("explain", model, "--html", page)
    assert answer.code == 2 and "name a FILE" in answer.err
    answer = cli("explain", model, table, "--html", tmp_path)
    assert answer.code == 2 and "is a folder; expected the name of a file" in answer.err


def test_rows_without_a_text_can_be_left_out(cli, rows, tmp_path):
    texts, labels = [text for text, _ in rows], [label for _, label in rows]
    classifier = hyperagg.TextClassifier(d_model=16, epochs=1).fit(texts, labels)
    classifier.save_pretrained(tmp_path / "model")
    gap = tmp_path / "gap.csv"
    gap.write_text(f"text,label\n,{labels[0]}\ngood,{labels[0]}\n", "utf-8")
    command = ["explain", tmp_path / "model", gap, "--label", "label", "--json"]
    answer = cli(*command)
    assert answer.code == 2 and "or leave them out with --on-error skip" in answer.err
    answer = cli(*command, "--on-error", "skip")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["row"].endswith("row 2 (line 3)")
    answer = cli(*command, "--on-error", "skip", "--row", 1)
    assert answer.code == 2 and "--row 1: cannot be used and is left out" in answer.err
    answer = cli(*command, "--on-error", "skip", "--row", 2)
    assert json.loads(answer.out)["row"].endswith("row 2 (line 3)")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--class", "sport"], "--class sport: expected one of 'bad', 'good'"),
        (["--against", "bad"], "needs --class"),
        (["--class", "bad", "--against", "bad"], "expected another label"),
        (["--row", "9"], "--row 9: there are 2 rows; expected 1 to 2"),
        (["--row", "1", "--worst"], "expected one of them"),
        (["--label", "stars"], "'stars'"),
    ],
)
def test_impossible_options_are_named(cli, model, tmp_path, options, message):
    file = tmp_path / "films.csv"
    file.write_text("text,label\na fine film,good\na dull film,bad\n")
    answer = cli("explain", model, file, *options)
    assert (answer.code, answer.err.count("\n")) == (2, 1) and message in answer.err


def test_a_text_of_several_lines_is_explained_in_one(cli, model, tmp_path):
    table = tmp_path / "new.csv"
    table.write_text('text\n"a fine\nfilm"\n', "utf-8")
    first, logit = cli("explain", model, table).out.splitlines()
    assert first.endswith("a fine film") and logit.startswith("  logit")


def test_rows_with_unknown_labels_are_not_among_the_worst(cli, model, tmp_path):
    table = tmp_path / "test.csv"
    table.write_text("text,label\na fine film,bad\na fine film,odd\n", "utf-8")
    answer = cli("explain", model, table, "--worst", "--json")
    assert len(answer.out.splitlines()) == 1
    assert "which count as errors: 'odd'; they are not explained" in answer.err
