"""Tasks whose answers are known, mixers of equal weight, and a study that goes on."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from research.studies import capacity_tasks
from research.studies.capacity_tasks import RATES, trained_tasks
from research.studies.sequence_reader import MIXERS, Reader, accuracy, train
from research.studies.sequence_tasks import TASKS, MadeUp, expression, value


def test_listops_by_hand():
    # [MAX 3 [MIN 7 5] [MED 1 9 2] [SM 8 6]]
    tokens = [11, 4, 12, 8, 6, 15, 13, 2, 10, 3, 15, 14, 9, 7, 15, 15]
    assert value(tokens) == max(3, min(7, 5), 2, (8 + 6) % 10)
    assert value([10]) == 9


def test_expressions_keep_within_their_room():
    rng = np.random.default_rng(0)
    for most in range(1, 40):
        tokens = expression(most, rng)
        assert 1 <= len(tokens) <= most
        assert sum(11 <= t <= 14 for t in tokens) == tokens.count(15)
        assert 0 <= value(tokens) <= 9


@pytest.mark.parametrize("n", [32, 65])
def test_the_answers_are_in_the_rows(n):
    rng = np.random.default_rng(1)
    tokens, labels = TASKS["recall"].draw(n, rng)
    held = {k: v - 1 for k, v in zip(tokens, tokens[1:]) if k > 16 >= v > 0}
    assert [held[k] for k in tokens[-8:]] == labels
    tokens, labels = TASKS["copying"].draw(n, rng)
    assert [t - 2 for t in tokens[:8]] == labels and set(tokens[8:-8]) == {0}
    tokens, labels = TASKS["counting"].draw(n, rng)
    assert tokens[:-1].count(tokens[-1] - 4) == labels[0]
    tokens, labels = TASKS["listops"].draw(n, rng)
    assert value([t for t in tokens if t][:-1]) == labels[0]
    for task in TASKS.values():
        if isinstance(task, MadeUp):
            rows = task.rows(n, 20, rng)
            assert rows.inputs.shape == (20, n) and rows.labels.shape == (20, task.answers)
            assert rows.inputs.min() >= 0 and rows.inputs.max() < task.vocabulary(n)
            assert rows.labels.min() >= 0 and rows.labels.max() < task.classes


@pytest.mark.parametrize("d", [8, 64])
def test_all_mixers_have_as_many_weights_in_their_blocks(d):
    for mixer in MIXERS:
        weights = Reader(mixer, TASKS["recall"], d, 32).block_weights
        assert weights == pytest.approx(24 * d * d, rel=0.02), mixer


@pytest.mark.parametrize("name", ["reuters", "fsdd"])
def test_real_rows_are_cut_and_padding_is_not_read(name):
    task = TASKS[name]
    rows, test = task.load(64)
    assert rows.inputs.shape[1] == (64 // task.patch if task.patch else 64)
    assert rows.lengths.min() >= 1 and rows.lengths.max() == rows.inputs.shape[1]
    assert set(test.labels.ravel()) <= set(rows.labels.ravel()) < set(range(task.classes + 1))
    short = rows.take(np.flatnonzero(rows.lengths < rows.inputs.shape[1])[:4])
    if not len(short.labels):
        return
    model = Reader("gate", task, 16, 64)
    model.head.weight.data.normal_()
    other = short.inputs.copy()
    for row, length in zip(other, short.lengths):
        row[length:] = 1
    with torch.no_grad():
        torch.testing.assert_close(model(short), model(short._replace(inputs=other)))


def test_a_reader_learns():
    rng = np.random.default_rng(0)
    rows, test = TASKS["reuters"].load(32)
    torch.manual_seed(0)
    model = Reader("gate", TASKS["reuters"], 16, 32)
    train(model, lambda step: rows.take(rng.integers(0, len(rows.labels), 32)), 60, 1e-2)
    most = np.bincount(test.labels.ravel()).max() / len(test.labels)
    assert accuracy(model, test.take(np.arange(512)), 64) > most + 0.1


SMALL = dict(dimensions=[16], lengths=[32], steps=2, say=lambda line: None)


def test_it_writes_what_it_promises_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(capacity_tasks, "_HELD", 8)
    monkeypatch.setattr(capacity_tasks, "_TEST", 8)
    results = trained_tasks(tmp_path, tasks=["recall"], **SMALL)
    assert json.loads((tmp_path / "results.json").read_text()) == results
    found = results["tasks"]["recall"]
    assert set(found["rates"]) == set(MIXERS) - {"none"}
    assert set(found["rates"].values()) <= set(RATES)
    assert all(math.isfinite(cell["seconds"][0]) for k, cell in found["cells"].items() if "16" in k)
    assert "| recall | 32 | 16 |" in (tmp_path / "table.md").read_text()
    assert "| recall | 32 | 9" in (tmp_path / "needed.md").read_text()

    # More of it, and what is done is not done again.
    trained = []
    real = capacity_tasks.train
    monkeypatch.setattr(capacity_tasks, "train", lambda *a, **k: (trained.append(1), real(*a, **k)))
    more = trained_tasks(tmp_path, tasks=["recall", "copying"], **SMALL, resume=True)
    assert more["tasks"]["recall"] == found
    assert len(trained) == len(found["rates"]) * len(RATES)
    with pytest.raises(ValueError, match="of another study"):
        trained_tasks(tmp_path, tasks=["recall"], **SMALL | {"steps": 3}, resume=True)


def test_bad_arguments_are_named(tmp_path):
    with pytest.raises(ValueError, match="there is no task sorting; there are recall"):
        trained_tasks(tmp_path, tasks=["sorting"], **SMALL)
    with pytest.raises(ValueError, match="dimensions: 20; give 8 or multiples of 16"):
        trained_tasks(tmp_path, tasks=["recall"], **SMALL | {"dimensions": [20]})
    with pytest.raises(ValueError, match="lengths: 8; the tasks take 32 tokens or more"):
        trained_tasks(tmp_path, tasks=["recall"], **SMALL | {"lengths": [8]})
    assert not list(tmp_path.iterdir())
