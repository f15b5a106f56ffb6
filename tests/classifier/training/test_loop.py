from __future__ import annotations

import os
import signal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hyperagg._common.split import train_validation_split
from hyperagg.classifier.baselines.attention import AttentionMixer
from hyperagg.classifier.model import Classifier
from hyperagg.classifier.training import loop
from hyperagg.classifier.training.loop import train
from hyperagg.classifier.training.train_steps import (
    Labelled,
    Objective,
    make_train_step,
    predict_logits,
)
from hyperagg.classifier.training_config import Recipe
from hyperagg.layers.pooling import PooledAggregation
from hyperagg.text import Ragged

V, C, D = 40, 3, 16


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(loop, "TOKENS_PER_CHUNK", 100)


def data(documents=90, seed=0):
    """Documents whose class is the residue that most of their words have."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, C, documents)
    rows = [C * rng.integers(0, V // C, rng.integers(1, 20)) + y for y in targets]
    borders = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    return Labelled(Ragged(np.concatenate(rows).astype(np.int32), borders), one_each(targets))


def one_each(classes):
    return Ragged(np.array(classes, np.int32), np.arange(len(classes) + 1))


def train_step(mixer=PooledAggregation, recipe=Recipe(epochs=3)):
    torch.manual_seed(0)
    objective = Objective(np.ones(C, np.float32))
    return make_train_step(Classifier(V, C, D, mixer(D)), recipe, objective)


def weights(one):
    return {name: tensor.clone() for name, tensor in one.model.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


RECIPES = [
    (PooledAggregation, Recipe(epochs=3)),
    (AttentionMixer, Recipe(epochs=3, learning_rate=0.01, batch_size=8)),
]


@pytest.mark.parametrize(("mixer", "recipe"), RECIPES)
def test_learns_and_the_seed_decides_the_weights(mixer, recipe):
    results = []
    for seed in (0, 0, 1):
        one = train_step(mixer, recipe)
        history = train(one, data(), data(30, seed=9), recipe, seed=seed)
        results.append(weights(one))
    assert history.validation_score[history.best_epoch] > 0.8
    assert equal(results[0], results[1])
    assert not equal(results[0], results[2])


@pytest.mark.parametrize(("mixer", "recipe"), RECIPES)
@pytest.mark.parametrize("stop_after", [1, 2, 4, 7])
def test_resumes_to_the_same_weights_from_any_chunk(mixer, recipe, stop_after, tmp_path):
    whole = train_step(mixer, recipe)
    history = train(whole, data(), data(30, 9), recipe, seed=3)

    file = tmp_path / "checkpoint.safetensors"
    chunks = 0

    def interrupt(progress):
        nonlocal chunks
        chunks += 1
        if chunks == stop_after:
            os.kill(os.getpid(), signal.SIGINT)

    stopped = train_step(mixer, recipe)
    with pytest.raises(KeyboardInterrupt):
        train(stopped, data(), data(30, 9), recipe, seed=3, checkpoint=file, report=interrupt)
    assert chunks == stop_after, "Ctrl-C stops after the chunk it falls in"

    resumed = train_step(mixer, recipe)
    again = train(resumed, data(), data(30, 9), recipe, seed=3, checkpoint=file, resume=True)
    assert equal(weights(whole), weights(resumed))
    assert again.loss == pytest.approx(history.loss)
    assert again.best_epoch == history.best_epoch
    assert file.exists()  # whoever asked for it takes it away


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    stop = {"report": lambda progress: os.kill(os.getpid(), signal.SIGINT), "checkpoint": file}
    with pytest.raises(KeyboardInterrupt):
        train(train_step(), data(), None, Recipe(epochs=3), seed=0, **stop)
    for other in (
        dict(data=data(seed=5), seed=0, recipe=Recipe(epochs=3)),
        dict(data=data(), seed=1, recipe=Recipe(epochs=3)),
        dict(data=data(), seed=0, recipe=Recipe(epochs=4)),
    ):
        with pytest.raises(ValueError, match="other data or arguments"):
            train(
                train_step(),
                other["data"],
                None,
                other["recipe"],
                seed=other["seed"],
                checkpoint=file,
                resume=True,
            )
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match="not a checkpoint"):
        train(train_step(), data(), None, Recipe(epochs=3), seed=0, checkpoint=file, resume=True)


def test_the_best_epoch_is_kept_and_never_a_later_worse_one():
    recipe = Recipe(epochs=6)
    one = train_step(recipe=recipe)
    history = train(one, data(), data(30, 9), recipe, seed=0)
    best = max(history.validation_score)
    assert history.validation_score[history.best_epoch] == best
    validation = data(30, 9)
    predicted = predict_logits(one.model, validation.rows, 32).argmax(1)
    assert float((predicted == validation.targets.token_ids).mean()) == pytest.approx(best)


def test_a_loss_that_is_not_finite_stops_with_the_rate_named():
    one = train_step()
    with torch.no_grad():
        one.model.head.weight[0, 0] = float("nan")
    one.load_optimizer_state(one.optimizer_state())  # and with it the weights
    with pytest.raises(ValueError, match=r"learning_rate=0\.03"):
        train(one, data(), None, Recipe(epochs=1), seed=0)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=200), st.integers(0, 5))
def test_hold_out_takes_a_run_of_each_class(labels, seed):
    targets = np.array(labels)
    kept, held = train_validation_split(np.unique(targets, return_inverse=True)[1], 0.1, seed)
    assert sorted([*kept, *held]) == list(range(len(targets)))
    for label in set(labels):
        own = np.flatnonzero(targets == label)
        places = np.flatnonzero(np.isin(own, held))
        assert len(places) == len(own) // 10
        gaps = np.diff(places)
        # Neighbours, but for one wrap from the class's end to its start.
        assert (gaps > 1).sum() <= 1
