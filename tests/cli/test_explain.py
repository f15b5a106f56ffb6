"""hyperagg explain."""

from __future__ import annotations

import json

import hyperagg


def test_texts_classes_and_a_page(fresh, table, rows, tmp_path):
    texts, labels = [text for text, _ in rows], [label for _, label in rows]
    model, page = tmp_path / "model", tmp_path / "why.html"
    classifier = hyperagg.TextClassifier(d_model=16, epochs=2).fit(texts, labels)
    classifier.save_pretrained(model)

    answer = fresh("explain", model, table, "--limit", 2, "--html", page)
    assert answer.code == 0, answer.err
    assert answer.out.startswith(str(classifier.predict(texts[:1])[0]))
    assert f"read {len(rows):,} rows; explained 2" in answer.err
    assert page.read_text("utf-8").count("<section>") == 2

    answer = fresh("explain", model, table, "--limit", 1, "--json")
    row = json.loads(answer.out)
    c = row["classes"].index(row["label"])
    total = row["bias"][c] + sum(token[c] for token in row["contributions"])
    assert abs(total - row["logits"][c]) < 1e-3
    assert len(row["tokens"]) == len(row["contributions"])

    answer = fresh("explain", model)
    assert {line.split(":")[0] for line in answer.out.splitlines()} == set(labels)
    answer = fresh("explain", model, "--html", page)
    assert answer.code == 2 and "name a FILE" in answer.err
    answer = fresh("explain", model, table, "--html", tmp_path)
    assert answer.code == 2 and "is a folder; expected the name of a file" in answer.err
