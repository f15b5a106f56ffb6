"""The comparison of mixers: equal sizes, learning-rate search, resume."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

from hyperagg.data import Corpus, load_dataset
from research.studies import language_models
from research.studies.language_mixers import (
    MAMBA,
    MIXERS,
    SIZES,
    build_model,
    non_embedding_parameters,
)
from research.studies.language_models import compare_language_models


@pytest.fixture(scope="module")
def corpus():
    texts = load_dataset("r8").train.texts
    return Corpus("r8", texts[:150], texts[150:155], texts[155:165], "r8")


def run(corpus, out, **options):
    return compare_language_models(
        corpus,
        out,
        **dict(
            size="tiny",
            mixers=["gated", "attention"],
            vocab_size=300,
            sequence_length=32,
            tokens=2048,
            seeds=1,
            progress=False,
        )
        | options,
    )


@pytest.fixture(scope="module")
def study(corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    return run(corpus, out), out


def test_files_and_results(study):
    results, out = study
    assert json.loads((out / "results.json").read_text()) == results
    assert list(results["models"]) == ["unigram", "bigram", "gated", "attention"]
    for model in results["models"].values():
        assert 1 < model["perplexity"] < 400 and model["parameters"] > 0
        assert math.isclose(model["bits_per_byte"], model["seeds"]["bits_per_byte"][0])
    assert (out / "cosines.png").exists()
    assert "| attention |" in (out / "table.md").read_text()
    panel = results["orthogonality"]["all words"]
    assert set(panel) == {"gated", "attention", "untrained"}


def test_resume_trains_nothing_again(study, corpus, monkeypatch):
    results, out = study
    monkeypatch.setattr(language_models, "train_model", None)
    assert run(corpus, out, resume=True)["models"] == results["models"]
    with pytest.raises(ValueError, match="another study"):
        run(corpus, out, resume=True, tokens=4096)
    with pytest.raises(ValueError, match="another study"):
        run(corpus, out, resume=True, bf16=True)


def test_bfloat16_trains_to_about_the_same(study, corpus, tmp_path):
    results, _ = study
    other = run(corpus, tmp_path, mixers=["gated"], bf16=True)
    found, exact = (each["models"]["gated"]["perplexity"] for each in (other, results))
    assert other["bf16"] and not results["bf16"]
    assert found != exact and found == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize("size", SIZES)
def test_all_mixers_have_equally_many_weights(size):
    class Words:
        bos_token_id = eos_token_id = pad_token_id = None

        def __len__(self) -> int:
            return 300

    with torch.device("meta"):
        models = {n: build_model(n, SIZES[size], Words(), 256) for n in (*MIXERS, MAMBA)}
    d, layers = SIZES[size].d_model, SIZES[size].layers
    for name, model in models.items():
        assert non_embedding_parameters(model) == pytest.approx(12 * layers * d * d, rel=0.02), name


def test_mamba_learns(corpus, tmp_path):
    one = replace(corpus, validation=corpus.validation[:1], test=corpus.test[:1])
    results = run(one, tmp_path, mixers=["mamba"], tokens=512)
    assert 1 < results["models"]["mamba"]["perplexity"] < 300
    assert "mamba" in results["orthogonality"]["all words"]


def test_errors_name_the_argument(corpus, tmp_path):
    with pytest.raises(ValueError, match="mixer='gates': expected one of feed-forward only"):
        run(corpus, tmp_path, mixers=["gates"])
    with pytest.raises(ValueError, match="size='huge': expected one of tiny, small"):
        run(corpus, tmp_path, size="huge")
