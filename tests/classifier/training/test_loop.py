"""The training loop: determinism, checkpoints, the best epoch."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import numpy as np
import pytest

from hyperagg.classifier.config import TrainingConfig
from hyperagg.classifier.model import ClassifierModel
from hyperagg.classifier.training import loop
from hyperagg.classifier.training.loop import train
from hyperagg.classifier.training.train_step import LabeledDocuments, Objective, TrainStep
from hyperagg.text import Ragged

V, C, D = 40, 3, 16


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(loop, "TOKENS_PER_CHUNK", 100)


def data(documents=90, seed=0):
    """Documents whose class is the residue modulo C of their tokens."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, C, documents)
    rows = [C * rng.integers(0, V // C, rng.integers(1, 20)) + y for y in targets]
    borders = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    return LabeledDocuments(
        Ragged(np.concatenate(rows).astype(np.int32), borders), one_each(targets)
    )


def one_each(classes):
    return Ragged(np.array(classes, np.int32), np.arange(len(classes) + 1))


def training_config(epochs=3, learning_rate=0.03, label_smoothing=0.1):
    return TrainingConfig(epochs, learning_rate, label_smoothing)


def train_step(epochs=3):
    model = ClassifierModel.initialize(V, C, D, "harmonic", np.random.default_rng(0))
    objective = Objective(np.ones(C, np.float32))
    return TrainStep(model, training_config(epochs), objective)


def parameters(step):
    return step.model.copy().arrays


def equal(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def test_learns_and_the_seed_determines_the_parameters():
    results = []
    for seed in (0, 0, 1):
        step = train_step()
        history = train(step, data(), data(30, seed=9), seed=seed)
        results.append(parameters(step))
    assert history.validation_score[history.best_epoch] > 0.8
    assert equal(results[0], results[1])
    assert not equal(results[0], results[2])


@pytest.mark.parametrize("stop_after", [1, 2, 4, 7])
def test_resumes_to_the_same_bits_from_any_chunk(stop_after, tmp_path):
    whole = train_step()
    history = train(whole, data(), data(30, 9), seed=3)

    file = tmp_path / "checkpoint.safetensors"
    chunks = 0

    def interrupt(progress):
        nonlocal chunks
        chunks += 1
        if chunks == stop_after:
            os.kill(os.getpid(), signal.SIGINT)

    stopped = train_step()
    with pytest.raises(KeyboardInterrupt):
        train(stopped, data(), data(30, 9), seed=3, checkpoint=file, callbacks=[interrupt])
    assert chunks == stop_after, "Ctrl-C stops after the chunk it falls in"

    resumed = train_step()
    again = train(resumed, data(), data(30, 9), seed=3, checkpoint=file, resume=True)
    assert equal(parameters(whole), parameters(resumed))
    assert again.loss == pytest.approx(history.loss)
    assert again.best_epoch == history.best_epoch
    assert file.exists()  # the caller removes it


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    stop = lambda progress: os.kill(os.getpid(), signal.SIGINT)  # noqa: E731
    with pytest.raises(KeyboardInterrupt):
        train(train_step(), data(), None, seed=0, callbacks=[stop], checkpoint=file)
    weighted = replace(data(), weights=np.ones(90, np.float32))
    for rows, seed, epochs in (
        (data(seed=5), 0, 3),
        (data(), 1, 3),
        (data(), 0, 4),
        (weighted, 0, 3),
    ):
        with pytest.raises(ValueError, match="other data or arguments"):
            train(train_step(epochs), rows, None, seed=seed, checkpoint=file, resume=True)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match="not a checkpoint"):
        train(train_step(), data(), None, seed=0, checkpoint=file, resume=True)


def test_the_best_epoch_is_kept():
    step, validation = train_step(6), data(30, 9)
    history = train(step, data(), validation, seed=0)
    predicted = step.model.logits(validation.rows).argmax(1)
    accuracy = float((predicted == validation.targets.token_ids).mean())
    assert history.validation_score[history.best_epoch] == pytest.approx(accuracy)


@pytest.mark.parametrize(
    "scores, losses, best",
    [
        ([0.9, 0.8, 0.7], [1.0, 2.0, 3.0], 0),
        ([0.9, 0.8, 0.9], [1.0, 2.0, 3.0], 2),  # of equal scores the last one
        ([0.9, 0.8, 0.8], [2.0, 1.0, 3.0], 1),  # the lowest loss is later
        ([0.7, 0.8, 0.9], [1.0, 2.0, 3.0], 2),  # the greatest score is later
    ],
)
def test_the_best_epoch_has_the_greatest_score_or_the_lowest_loss(
    monkeypatch, scores, losses, best
):
    scored, lost = iter(scores), iter(losses)
    monkeypatch.setattr(Objective, "score", lambda *_: next(scored))
    monkeypatch.setattr(Objective, "validation_loss", lambda *_: next(lost))
    history = train(train_step(3), data(), data(30, 9), seed=0)
    assert (history.validation_score, history.validation_loss) == (scores, losses)
    assert history.best_epoch == best


def test_a_loss_that_is_not_finite_names_the_learning_rate():
    step = train_step(1)
    step.model.weight[0, 0] = np.nan
    step.load_optimizer_state(step.optimizer_state())  # which reads the parameters as well
    with pytest.raises(ValueError, match=r"learning_rate=0\.03: the loss is not finite"):
        train(step, data(), None, seed=0)
