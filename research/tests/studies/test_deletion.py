"""Deletion deletes the right words, and gradients agree with explanations."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import hyperagg
from hyperagg.data import Dataset, Split
from research.cli import app
from research.studies import deletion as study
from research.studies.deletion import PATHS, deletion, gradient_parts, occlusion, without


@pytest.fixture(scope="module")
def small():
    full = hyperagg.load_dataset("r8")
    train = Split(full.train.texts[:600], full.train.labels[:600])
    return Dataset("r8-part", train, full.test, full.source)


@pytest.fixture(scope="module")
def trained(small):
    return hyperagg.TextClassifier(d_model=16, epochs=3).fit(small.train.texts, small.train.labels)


def predict(trained, text):
    p = trained.decoder.probabilities(trained.logits([text]).astype(np.float64))[0]
    return int(p.argmax()), p


def test_only_the_given_words_are_deleted(small, trained):
    rng = np.random.default_rng(0)
    for text in [*small.test.texts[:20], "U.S.-based  oil, 3.5%\nof İstanbul's"]:
        e = trained.explain(text)
        deleted = rng.permutation(len(e.tokens))[:5]
        rest = without(text, e.spans, deleted)
        spans = trained.tokenizer_.align(rest).spans
        assert [rest[a:b] for a, b in spans] == np.delete(np.array(e.tokens), deleted).tolist()
    assert without("a-b", [(0, 1), (1, 2), (2, 3)], np.array([1])) == "a b"
    assert without(text, e.spans, np.array([], int)) == text
    assert without(text, e.spans, np.arange(len(e.spans))).strip() == ""


def test_every_method_deletes_as_many_words_as_random_does(small, trained, monkeypatch):
    deleted = []

    def record(text, spans, words):
        deleted.append(len(words))
        return without(text, spans, words)

    monkeypatch.setattr(study, "without", record)
    monkeypatch.setattr(study, "occlusion", lambda c, text, y, groups: np.zeros(groups.max() + 1))
    text = max(small.test.texts[:20], key=lambda text: len(set(text.split())))
    study._measure(trained, [text], 0)
    methods = ["explain", "explain, margin", *PATHS, "occlusion", "random"]
    singles = deleted[: len(methods) * len(study.DELETED)]
    assert singles == list(study.DELETED) * len(methods)
    # Whole words are deleted with all their occurrences, which may be more.
    words = deleted[len(singles) :]
    assert len(words) == len(singles) and all(a <= b for a, b in zip(singles, words))


def test_integrated_gradients_add_up_to_the_change_of_the_probability(small, trained):
    for text in small.test.texts[:20]:
        c, p = predict(trained, text)
        parts = gradient_parts(trained, text, c, PATHS["integrated gradients"])
        nothing = trained.decoder.probabilities(trained.explain("").logits.astype(np.float64))
        np.testing.assert_allclose(parts.sum(), p[c] - nothing[c], atol=2e-3)


def test_gradient_times_input_follows_from_exact_contributions(small, trained):
    # dp_y / dz_j = p_y ([j = y] - p_j), and the logits are a sum over tokens.
    for text in small.test.texts[:20]:
        e, (c, p) = trained.explain(text), predict(trained, text)
        parts = gradient_parts(trained, text, c, PATHS["gradient × input"])
        expected = p[c] * (e.contributions[:, c] - e.contributions @ p)
        np.testing.assert_allclose(parts, expected, rtol=1e-4, atol=1e-7)


def test_occlusion_is_the_drop_without_each_word(small, trained, monkeypatch):
    monkeypatch.setattr(study, "_TEXTS_PER_BATCH", 7)
    text = small.test.texts[3]
    e, (c, p) = trained.explain(text), predict(trained, text)
    drops = occlusion(trained, text, c)
    assert drops.shape == (len(e.tokens),)
    for word in (0, 5, len(e.tokens) - 1):
        rest = " ".join(np.delete(np.array(e.tokens), word))
        np.testing.assert_allclose(drops[word], p[c] - predict(trained, rest)[1][c], atol=1e-9)


def test_files_and_results_and_resume(small, tmp_path, monkeypatch):
    threads = torch.get_num_threads()
    results = deletion(small, 30, 1, tmp_path)
    assert torch.get_num_threads() == threads
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert results["rows"] == {"train": 600, "explained": 30}
    for unit in ("occurrences", "words"):
        drop = {name: method["drop"][0][2] for name, method in results[unit].items()}
        # Five random words of about a hundred change little.
        assert min(drop[name] for name in drop if name != "random") > 3 * max(0, drop["random"])
        for method in results[unit].values():
            assert all(0 <= fraction <= 1 for fraction in method["changed"][0])
    # Without all occurrences of a word the contributions of the others change little.
    whole = results["words"]["explain"]
    np.testing.assert_allclose(whole["predicted"][0][:3], whole["drop"][0][:3], atol=0.1)
    assert (tmp_path / "deletion.png").stat().st_size > 0
    assert "| whole words | k = 1 |" in (tmp_path / "table.md").read_text()
    assert [table.row_count for table in study.deletion_tables(results)] == [7, 7]

    monkeypatch.setattr(hyperagg.TextClassifier, "fit", lambda *a, **k: pytest.fail("trained"))
    again = deletion(small, 30, 1, tmp_path, resume=True)
    assert again["words"] == results["words"]
    with pytest.raises(ValueError, match="another study"):
        deletion(small, 31, 1, tmp_path, resume=True)


def test_errors_name_the_argument(small, tmp_path):
    with pytest.raises(ValueError, match="texts=0: expected an integer >= 1"):
        deletion(small, 0, 1, tmp_path)
    multi_label = Split(["oil", "gas"], [("a", "b"), ()])
    with pytest.raises(ValueError, match="dataset='wires': expected one label per text"):
        deletion(Dataset("wires", multi_label, multi_label, ""), 1, 1, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_command(small, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    monkeypatch.setattr("hyperagg.data.load_dataset", lambda name: small)
    arguments = ["study", "deletion", "--texts", "5", "--seeds", "1", "--out", str(tmp_path)]
    answer = CliRunner().invoke(app, arguments)
    assert answer.exit_code == 0, answer.output
    assert "single occurrences" in answer.output and (tmp_path / "results.json").exists()
