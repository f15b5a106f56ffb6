"""What is taken out is taken out, and gradients are what explanations say they are."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import hyperagg
from hyperagg.cli import app
from hyperagg.data import Dataset, Split
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


def answer(trained, text):
    p = trained.answers.probabilities(trained.logits([text]).astype(np.float64))[0]
    return int(p.argmax()), p


def test_words_that_are_taken_out_are_gone_and_no_others(small, trained):
    rng = np.random.default_rng(0)
    for text in [*small.test.texts[:20], "U.S.-based  oil, 3.5%\nof İstanbul's"]:
        e = trained.explain(text)
        out = rng.permutation(len(e.tokens))[:5]
        left = without(text, e.spans, out)
        spans = trained.tokenizer.align(left).spans
        assert [left[a:b] for a, b in spans] == np.delete(np.array(e.tokens), out).tolist()
    assert without("a-b", [(0, 1), (1, 2), (2, 3)], np.array([1])) == "a b"
    assert without(text, e.spans, np.array([], int)) == text
    assert without(text, e.spans, np.arange(len(e.spans))).strip() == ""


def test_every_method_takes_out_as_many_as_chance_does(small, trained, monkeypatch):
    taken = []

    def note(text, spans, words):
        taken.append(len(words))
        return without(text, spans, words)

    monkeypatch.setattr(study, "without", note)
    monkeypatch.setattr(study, "occlusion", lambda c, text, y, groups: np.zeros(groups.max() + 1))
    text = max(small.test.texts[:20], key=lambda text: len(set(text.split())))
    study._measure(trained, [text], 0)
    methods = ["explain", "explain, margin", *PATHS, "occlusion", "random"]
    singles = taken[: len(methods) * len(study.REMOVED)]
    assert singles == list(study.REMOVED) * len(methods)
    # Whole words go with all their uses, so that more places may be empty then.
    words = taken[len(singles) :]
    assert len(words) == len(singles) and all(a <= b for a, b in zip(singles, words))


def test_integrated_gradients_add_up_to_what_the_text_adds_to_the_probability(small, trained):
    for text in small.test.texts[:20]:
        c, p = answer(trained, text)
        parts = gradient_parts(trained, text, c, PATHS["integrated gradients"])
        nothing = trained.answers.probabilities(trained.explain("").logits.astype(np.float64))
        np.testing.assert_allclose(parts.sum(), p[c] - nothing[c], atol=2e-3)


def test_gradient_times_input_is_an_exact_part_less_that_of_the_likely_classes(small, trained):
    # dp_y / dz_j = p_y ([j = y] - p_j), and the logits are a sum over tokens: an independent way.
    for text in small.test.texts[:20]:
        e, (c, p) = trained.explain(text), answer(trained, text)
        parts = gradient_parts(trained, text, c, PATHS["gradient × input"])
        expected = p[c] * (e.contributions[:, c] - e.contributions @ p)
        np.testing.assert_allclose(parts, expected, rtol=1e-4, atol=1e-7)


def test_occlusion_is_the_fall_without_each_word(small, trained, monkeypatch):
    monkeypatch.setattr(study, "_TEXTS_AT_ONCE", 7)
    text = small.test.texts[3]
    e, (c, p) = trained.explain(text), answer(trained, text)
    falls = occlusion(trained, text, c)
    assert falls.shape == (len(e.tokens),)
    for word in (0, 5, len(e.tokens) - 1):
        left = " ".join(np.delete(np.array(e.tokens), word))
        np.testing.assert_allclose(falls[word], p[c] - answer(trained, left)[1][c], atol=1e-9)


def test_the_study_writes_what_it_promises_and_goes_on(small, tmp_path, monkeypatch):
    threads = torch.get_num_threads()
    results = deletion(small, 30, 1, tmp_path)
    assert torch.get_num_threads() == threads
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert results["rows"] == {"train": 600, "explained": 30}
    for unit in ("uses", "words"):
        fall = {name: method["fall"][0][2] for name, method in results[unit].items()}
        # Five words of about a hundred: chance does next to nothing.
        assert min(fall[name] for name in fall if name != "random") > 3 * max(0, fall["random"])
        for method in results[unit].values():
            assert all(0 <= share <= 1 for share in method["changed"][0])
    # Without all uses of a word the parts of the others stay nearly what they were.
    whole = results["words"]["explain"]
    np.testing.assert_allclose(whole["promised"][0][:3], whole["fall"][0][:3], atol=0.1)
    assert (tmp_path / "deletion.png").stat().st_size > 0
    assert "| whole words | k = 1 |" in (tmp_path / "table.md").read_text()
    assert [table.row_count for table in study.deletion_tables(results)] == [7, 7]

    monkeypatch.setattr(hyperagg.TextClassifier, "fit", lambda *a, **k: pytest.fail("trained"))
    again = deletion(small, 30, 1, tmp_path, resume=True)
    assert again["words"] == results["words"]
    with pytest.raises(ValueError, match="another study"):
        deletion(small, 31, 1, tmp_path, resume=True)


def test_bad_arguments_are_named(small, tmp_path):
    with pytest.raises(ValueError, match="texts=0: give 1 or more"):
        deletion(small, 0, 1, tmp_path)
    several = Split(["oil", "gas"], [("a", "b"), ()])
    with pytest.raises(ValueError, match="wires: has several labels a text"):
        deletion(Dataset("wires", several, several, ""), 1, 1, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_command(small, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    monkeypatch.setattr("hyperagg.data.load_dataset", lambda name: small)
    arguments = ["study", "deletion", "--texts", "5", "--seeds", "1", "--out", str(tmp_path)]
    answer = CliRunner().invoke(app, arguments)
    assert answer.exit_code == 0, answer.output
    assert "single uses" in answer.output and (tmp_path / "results.json").exists()
