"""Prompts of key-value lines: what is drawn, what is asked, and a study that resumes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from research.studies import key_values
from research.studies.key_values import (
    MODELS,
    ask,
    draw_names,
    draw_num_pairs,
    draw_pairs,
    key_values_table,
    run_key_values,
    text_of,
)


def test_a_text_lists_its_pairs_and_repeats_some_of_them():
    rng, names = np.random.default_rng(0), draw_names()
    assert len(set(names)) == key_values.NAMES
    pairs = draw_pairs(rng, names, 7)
    lines = text_of(pairs, rng, 40).split("\n")
    assert lines[:7] == [f"{name} {number}" for name, number in pairs.items()]
    assert len(lines) == 40 and set(lines[7:]) == set(lines[:7]) and lines[7:14] != lines[:7]
    assert set(map(len, map(str, pairs.values()))) == {2}


def test_half_of_the_texts_list_fifty_pairs_and_the_others_mostly_few():
    rng = np.random.default_rng(0)
    counts = np.bincount([draw_num_pairs(rng) for _ in range(4000)])
    assert counts[0] == 0 and counts[1:].all() and len(counts) == key_values.PAIRS + 1
    assert counts[-1] > 1900 and counts[1:11].sum() > 2 * counts[41:-1].sum()


class Reader(torch.nn.Module):
    """Answer with the token that followed the last one before."""

    def generate(self, ids, attention_mask, max_new_tokens, do_sample, pad_token_id):
        assert attention_mask.all() and max_new_tokens == 1 and not do_sample
        answers = []
        for row in ids.tolist():
            answers.append(row[row.index(row[-1]) + 1])
        return torch.cat([ids, torch.tensor(answers)[:, None]], 1)


def test_a_model_that_looks_up_the_name_answers_all(tmp_path):
    runs = key_values.Runs(tmp_path / "runs.json", "", False)
    size = key_values.Size(64, 1, 2, key_values.HEAD_DIM)
    study = key_values._Study(tmp_path, size, draw_names(), 3, 2, runs, False)
    assert study.packed.input_ids.shape == (3, 201)
    assert (study.packed.input_ids[:, 0] == study.tokenizer.eos_token_id).all()
    for row, num_pairs in zip(study.packed, study.packed.num_pairs):
        ids, labels = row["input_ids"], row["labels"]
        answers = labels != -100
        assert answers.sum() == key_values.LINES - num_pairs
        assert (labels[answers] == ids[answers]).all()
        listed = ids[1 : 2 * num_pairs + 1].tolist()
        number_of = dict(zip(listed[::2], listed[1::2]))
        for at in answers.nonzero().flatten().tolist():
            assert number_of[int(ids[at - 1])] == labels[at]
    pairs = study.test[0]
    answers = dict(ask(Reader(), study.tokenizer, pairs))
    assert answers == {name: str(number) for name, number in pairs.items()}
    assert key_values._accuracy(Reader(), study.tokenizer, study.test) == 1


def test_files_and_resume(tmp_path, monkeypatch):
    monkeypatch.setattr(key_values, "CONTEXTS", (10, 20))
    options = dict(d_model=64, layers=1, texts=16, prompts=1)
    results = run_key_values(tmp_path, **options, seeds=1, progress=False)
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert list(results["models"]) == list(MODELS)
    assert (tmp_path / "table.md").read_text() == key_values_table(results)
    for model in results["models"].values():
        tried = model["validation"]
        assert list(tried) == [f"{rate:g}" for rate in key_values.LEARNING_RATES]
        assert tried[f"{model['learning_rate']:g}"] == max(tried.values())
    sizes = {name: model["cache_bytes"] for name, model in results["models"].items()}
    assert sizes["attention"]["20"] == 2 * sizes["attention"]["10"]
    assert sizes["gated + associative"]["20"] == sizes["gated + associative"]["10"]
    weights = [model["non_embedding_parameters"] for model in results["models"].values()]
    assert weights == pytest.approx([weights[0]] * 3, rel=0.02)

    seeds = run_key_values(tmp_path, **options, seeds=2, resume=True, progress=False)
    for name, model in seeds["models"].items():
        assert model["test"][:1] == results["models"][name]["test"] and len(model["test"]) == 2
    monkeypatch.setattr(key_values, "train_model", None)
    assert run_key_values(tmp_path, **options, seeds=2, resume=True)["models"] == seeds["models"]
    with pytest.raises(ValueError, match="another study"):
        run_key_values(tmp_path, **options | {"texts": 8}, resume=True)
