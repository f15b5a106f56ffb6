"""Tasks with known labels, mixers of equal size, and a study that resumes."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from research.studies import capacity_tasks
from research.studies.capacity_tasks import LEARNING_RATES, run_tasks, task_tables
from research.studies.sequence_reader import MIXERS, SequenceReader, accuracy, train
from research.studies.sequence_tasks import TASKS, SyntheticTask, expression, value


def test_listops_by_hand():
    # [MAX 3 [MIN 7 5] [MED 1 9 2] [SM 8 6]]
    tokens = [11, 4, 12, 8, 6, 15, 13, 2, 10, 3, 15, 14, 9, 7, 15, 15]
    assert value(tokens) == max(3, min(7, 5), 2, (8 + 6) % 10)
    assert value([10]) == 9


def test_expressions_have_at_most_the_given_number_of_tokens():
    rng = np.random.default_rng(0)
    for max_tokens in range(1, 40):
        tokens = expression(max_tokens, rng)
        assert 1 <= len(tokens) <= max_tokens
        assert sum(11 <= t <= 14 for t in tokens) == tokens.count(15)
        assert 0 <= value(tokens) <= 9


@pytest.mark.parametrize("n", [32, 65])
def test_labels_follow_from_the_rows(n):
    rng = np.random.default_rng(1)
    tokens, labels = TASKS["recall"].draw(n, rng)
    stored = {k: v - 1 for k, v in zip(tokens, tokens[1:]) if k > 16 >= v > 0}
    assert [stored[k] for k in tokens[-8:]] == labels
    tokens, labels = TASKS["copying"].draw(n, rng)
    assert [t - 2 for t in tokens[:8]] == labels and set(tokens[8:-8]) == {0}
    tokens, labels = TASKS["counting"].draw(n, rng)
    assert tokens[:-1].count(tokens[-1] - 4) == labels[0]
    for draw, longest in ((TASKS["parity"].draw, n), (TASKS["parity"].draw_test, 2 * n)):
        tokens, labels = draw(n, rng)
        bits = [token - 1 for token in tokens if token]
        assert len(tokens) == longest and labels == [
            sum(bits[: i - 7 or None]) % 2 for i in range(8)
        ]
    assert len(bits) > n
    tokens, labels = TASKS["listops"].draw(n, rng)
    assert value([t for t in tokens if t][:-1]) == labels[0]
    for task in TASKS.values():
        if isinstance(task, SyntheticTask):
            rows = task.rows(n, 20, rng)
            assert rows.inputs.shape == (20, n) and rows.labels.shape == (20, task.targets)
            assert rows.inputs.min() >= 0 and rows.inputs.max() < task.vocab_size(n)
            assert rows.labels.min() >= 0 and rows.labels.max() < task.classes


@pytest.mark.parametrize("d", [8, 64])
def test_all_mixers_have_equally_many_weights_in_their_blocks(d):
    for mixer in MIXERS:
        weights = SequenceReader(mixer, TASKS["recall"], d, 32).block_weights
        assert weights == pytest.approx(24 * d * d, rel=0.02), mixer


@pytest.mark.parametrize("name", ["reuters", "fsdd"])
def test_real_rows_are_truncated_and_padding_is_ignored(name):
    task = TASKS[name]
    rows, test = task.load(64)
    assert rows.inputs.shape[1] == (64 // task.patch_size if task.patch_size else 64)
    assert rows.lengths.min() >= 1 and rows.lengths.max() == rows.inputs.shape[1]
    assert set(test.labels.ravel()) <= set(rows.labels.ravel()) < set(range(task.classes + 1))
    short = rows.take(np.flatnonzero(rows.lengths < rows.inputs.shape[1])[:4])
    if not len(short.labels):
        return
    model = SequenceReader("gated", task, 16, 64)
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
    model = SequenceReader("gated", TASKS["reuters"], 16, 32)
    train(model, lambda step: rows.take(rng.integers(0, len(rows.labels), 32)), 60, 1e-2)
    most = np.bincount(test.labels.ravel()).max() / len(test.labels)
    assert accuracy(model, test.take(np.arange(512)), 64) > most + 0.1


SMALL = dict(
    mixers=["gated", "gated + associative", "attention"], dimensions=[16], lengths=[32], steps=2
)


def test_files_and_results_and_resume(tmp_path, monkeypatch):
    monkeypatch.setattr(capacity_tasks, "_VALIDATION", 8)
    monkeypatch.setattr(capacity_tasks, "_TEST", 8)
    results = run_tasks(tmp_path, tasks=["recall"], **SMALL)
    assert json.loads((tmp_path / "results.json").read_text()) == results
    found = results["tasks"]["recall"]
    assert list(found["learning_rates"]) == SMALL["mixers"]
    assert set(found["learning_rates"].values()) <= set(LEARNING_RATES)
    assert all(math.isfinite(cell["seconds"][0]) for k, cell in found["cells"].items() if "16" in k)
    assert "| recall | 32 | 16 |" in (tmp_path / "table.md").read_text()
    assert "| recall | 32 | 9" in (tmp_path / "needed.md").read_text()

    # Another task is added without repeating the first.
    trained = []
    real = capacity_tasks.train
    monkeypatch.setattr(capacity_tasks, "train", lambda *a, **k: (trained.append(1), real(*a, **k)))
    more = run_tasks(tmp_path, tasks=["recall", "copying"], **SMALL, resume=True)
    assert more["tasks"]["recall"] == found
    assert len(trained) == len(found["learning_rates"]) * len(LEARNING_RATES)
    with pytest.raises(ValueError, match="another study"):
        run_tasks(tmp_path, tasks=["recall"], **SMALL | {"steps": 3}, resume=True)


def test_errors_name_the_argument(tmp_path):
    with pytest.raises(ValueError, match="task='sorting': expected one of recall"):
        run_tasks(tmp_path, tasks=["sorting"], **SMALL)
    with pytest.raises(ValueError, match="mixer='sum': expected one of identity"):
        run_tasks(tmp_path, tasks=["recall"], **SMALL | {"mixers": ["sum"]})
    with pytest.raises(ValueError, match="dimensions=20: expected 8 or a multiple of 16"):
        run_tasks(tmp_path, tasks=["recall"], **SMALL | {"dimensions": [20]})
    with pytest.raises(ValueError, match=r"lengths=\[8\]: expected integers >= 32"):
        run_tasks(tmp_path, tasks=["recall"], **SMALL | {"lengths": [8]})
    assert not list(tmp_path.iterdir())


def test_the_step_at_which_a_task_is_learned(tmp_path, monkeypatch):
    monkeypatch.setattr(capacity_tasks, "_EVERY", 2)
    monkeypatch.setattr(capacity_tasks, "accuracy", lambda *_: 1.0)
    options = SMALL | {"steps": 3, "mixers": ["gated", "attention"]}
    results = run_tasks(tmp_path, tasks=["parity"], **options)
    cells = results["tasks"]["parity"]["cells"]
    assert cells["gated|16|32"]["learned_at"] == [2]
    assert "| parity | 32 | 16 | 2 | 2 |" in (tmp_path / "learned.md").read_text()
    cells["gated|16|32"]["learned_at"] = [None]
    assert "| parity | 32 | 16 | – | 2 |" in task_tables(results)["learned.md"]
