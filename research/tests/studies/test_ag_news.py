from __future__ import annotations

import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

import hyperagg
from hyperagg.data import Dataset, Split
from research.cli import app
from research.studies import ag_news as study
from research.studies import ag_news_training
from research.studies.ag_news import ag_news_original, ag_news_table
from research.studies.ngram_language_models import Bigram, Unigram


@pytest.fixture(scope="module")
def small():
    """A few real articles."""
    full = hyperagg.load_dataset("ag-news")
    train, test = (Split(s.texts[:90], s.labels[:90]) for s in (full.train, full.test))
    return Dataset("ag-news", train, test, full.source)


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch):
    monkeypatch.setattr(study, "D_MODEL", 16)
    monkeypatch.setattr(study, "LENGTH", 48)
    monkeypatch.setattr(ag_news_training, "TIMED_ROUNDS", 1)


def test_vocabulary_and_token_ids():
    vocabulary = study._vocabulary(["The cat's here, the CAT", "the dog"])
    assert vocabulary == {"the": 2, "cats": 3, "here": 4, "cat": 5, "dog": 6}
    (row,) = study._token_ids(["A dog - the cat!"], vocabulary)
    assert row.shape == (49,)
    assert row[:6].tolist() == [1, 6, 2, 5, 0, 0]


def test_perplexity_of_words_excludes_padding():
    # Positions: a word with probability 1/2, one with 1/8, two of padding with 1/4.
    ids = np.array([[5, 6, 7, 0, 0]])
    nats = np.log([[2.0, 8.0, 4.0, 4.0]])
    assert study._perplexities(nats, ids) == {
        "perplexity": pytest.approx(4),
        "perplexity_with_padding": pytest.approx(4),
    }
    nats[0, 2:] = 0
    found = study._perplexities(nats, ids)
    assert found["perplexity"] == pytest.approx(4)
    assert found["perplexity_with_padding"] == pytest.approx(2)


def test_ngram_models_by_hand():
    a, b = 1, 2
    rows = np.array([[a, b, a, b, 0], [b, a, b, 0, 0], [a, b, a, 0, 0]])
    # Next tokens: b a b, a b, b a. So a occurs 3 times and b 4 times, plus one each.
    nats = Unigram(rows, 3).nats(np.array([[a, a, b, 0, 0]]))
    assert np.exp(-nats) == pytest.approx(np.array([[4 / 9, 5 / 9, 1, 1]]))
    model = Bigram(rows, 3)
    # a is followed by b 4 times and by the end once; b by a 3 times and by the end twice.
    ids = np.array([[a, b, a, 0, 0], [a, a, 0, 0, 0]])
    found = np.exp(-model.nats(ids, 0.5))
    ends, all_a, all_b = (count / 13 for count in (3 + 1, 3 + 1, 4 + 1))
    first = [(4 / 5 + all_b) / 2, (3 / 5 + all_a) / 2, (1 / 5 + ends) / 2, 1]
    assert found == pytest.approx(np.array([first, [all_a / 2, (1 / 5 + ends) / 2, 1, 1]]))
    # The probabilities of all three successors of a add up to one.
    total = np.exp(-model.nats(np.array([[a, k] for k in range(3)]))).sum()
    assert total == pytest.approx(1)
    assert model.parameters == 4 + 3


def test_files_and_results(small, tmp_path):
    options = {"epochs": 2, "texts": 64, "test_texts": 40, "progress": False}
    results = ag_news_original(small, tmp_path, **options)
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert results["original_figures"] == {"aggregation": 2.99, "attention": 3.15}
    assert results["rows"] == {
        "train": 64,
        "train_available": 90,
        "train_published": 120_000,
        "test": 40,
    }
    size = results["vocab_size"]
    for model in results["models"].values():
        assert 1 < model["perplexity_with_padding"] < model["perplexity"] < 5 * size
        assert model["parameters"] > 0 and model["train_seconds_per_epoch"] > 0
    common = size * 16 + 48 * 16 + 16 * size + size
    attention = 3 * 17 * 64 + 65 * 16
    models = results["models"]
    assert models["aggregation"]["parameters"] == models["no mixing"]["parameters"]
    assert models["aggregation"]["parameters"] == common + 16 * 16
    assert models["attention"]["parameters"] == common + attention
    # The unigram predicts padding with certainty, so both figures agree.
    counted = math.log(models["unigram"]["perplexity_with_padding"])
    words = math.log(models["unigram"]["perplexity"])
    assert counted == pytest.approx(results["word_positions"] * words)
    for seconds in results["step_seconds"].values():
        assert seconds["step"] > 0 and seconds["below_softmax"] > 0
    (panel, *_) = results["orthogonality"].values()
    assert panel.keys() == {"aggregation", "attention", "untrained"}
    assert (tmp_path / "cosines.png").stat().st_size > 0
    table = (tmp_path / "table.md").read_text()
    assert "| aggregation, Ekin (2025) | 2.99 |" in table
    assert "64 training texts of 90 available ones (120,000 are published)" in table
    assert ag_news_table(results).row_count == 8
    with pytest.raises(ValueError, match="another study"):
        ag_news_original(small, tmp_path, **{**options, "epochs": 3}, resume=True)


def test_an_interrupted_study_resumes_to_the_same_figures(small, tmp_path, monkeypatch):
    options = {"epochs": 3, "texts": 64, "test_texts": 40, "progress": False}
    whole = ag_news_original(small, tmp_path / "whole", **options)
    steps, step = 0, ag_news_training._step

    def interrupted(*arguments):
        nonlocal steps
        steps += 1
        if steps == 6 + 5:  # attention, in its third epoch of two steps each
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(ag_news_training, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ag_news_original(small, tmp_path / "parts", **options)
    steps = 100
    with pytest.raises(ValueError, match="another study"):
        ag_news_original(small, tmp_path / "parts", **{**options, "texts": 63}, resume=True)
    parts = ag_news_original(small, tmp_path / "parts", **options, resume=True)
    # The last epoch of attention, three without a mixer, and four models timed twice.
    assert steps - 100 == 2 + 6 + 4 * 2
    for name, model in whole["models"].items():
        for figure in ("perplexity", "perplexity_with_padding", "parameters"):
            assert parts["models"][name][figure] == model[figure], (name, figure)
        assert parts["models"][name].get("loss") == model.get("loss")
    assert parts["orthogonality"] == whole["orthogonality"]


def test_the_corrected_protocol_refuses_options_of_the_original():
    options = ["study", "ag-news", "--protocol", "corrected", "--epochs", "2"]
    answer = CliRunner().invoke(app, options)
    assert isinstance(answer.exception, ValueError)
    assert "--epochs 2: expected only with --protocol original" in str(answer.exception)
