"""The fused step and PyTorch's autograd are the same function."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from hyperagg._numba.barrier import wait
from hyperagg.classifier.kernels import scoring
from hyperagg.classifier.kernels import trainer as fused
from hyperagg.classifier.model import Classifier
from hyperagg.classifier.training.train_steps import (
    AutogradTrainStep,
    FusedTrainStep,
    Labelled,
    Objective,
)
from hyperagg.classifier.training_config import Recipe
from hyperagg.layers.pooling import PooledAggregation
from hyperagg.layers.pooling import occurrence_weights as occurrence_weights_in_torch
from hyperagg.text import Ragged, occurrence_weights

V, C, D = 13, 4, 24
POOLINGS = ["harmonic", "mean"]
OBJECTIVES = {
    "one label": Objective(np.ones(C, np.float32)),
    "one label, weighted": Objective(np.array([1, 2, 0.5, 3], np.float32)),
    "several labels": Objective(np.array([1, 2, 0.5, 3], np.float32), multi_label=True),
}


def model(pooling="harmonic", words=V):
    made = Classifier(words, C, D, PooledAggregation(D, pooling))
    with torch.no_grad():  # positions start at one; here they shall matter
        made.mixer.positions.weight.add_(0.3 * torch.randn_like(made.mixer.positions.weight))
    return made


def rows_of(lengths, words=V):
    borders = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    ids = np.random.default_rng(0).integers(0, words, borders[-1]).astype(np.int32)
    return Ragged(ids, borders)


def targets_of(rows, several):
    """One class a row, or none to three of them."""
    rng = np.random.default_rng(1)
    each = [rng.permutation(C)[: rng.integers(4) if several else 1] for _ in range(len(rows))]
    borders = np.concatenate([[0], np.cumsum([len(own) for own in each], dtype=np.int64)])
    return Ragged(np.concatenate([*each, []]).astype(np.int32), borders)


@given(st.lists(st.integers(0, 70), min_size=1, max_size=6), st.sampled_from(POOLINGS))
def test_logits_are_the_modules(lengths, pooling):
    torch.manual_seed(0)
    made, rows = model(pooling), rows_of(lengths)
    want = made(torch.from_numpy(rows.token_ids), torch.from_numpy(rows.cu_seqlens))
    np.testing.assert_allclose(scoring.logits(fused.weights(made), rows), want.detach(), atol=1e-5)


@given(st.lists(st.lists(st.integers(0, 5), max_size=40), max_size=6))
def test_the_c_th_use_counts_a_c_th(texts):
    borders = np.concatenate([[0], np.cumsum([len(t) for t in texts], dtype=np.int64)])
    rows = Ragged(np.array([i for t in texts for i in t], np.int32), borders)
    want = np.array([1 / t[: i + 1].count(t[i]) for t in texts for i in range(len(t))])
    np.testing.assert_allclose(occurrence_weights(rows, 6), want, rtol=1e-6)
    own_row = np.repeat(np.arange(len(texts)), rows.lengths)
    got = occurrence_weights_in_torch(
        torch.from_numpy(rows.token_ids), torch.from_numpy(own_row), 6
    )
    np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("n", [0, 1, 2, 9, 70])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_a_step_is_row_adagrad_on_the_autograd_gradient(n, smoothing, pooling, objective):
    # Each token once, as the fused step meets the uses of a word one by one.
    ids = torch.randperm(100)[:n].int()
    made = model(pooling, 100)
    recipe = Recipe(learning_rate=0.03, label_smoothing=smoothing)
    classes = np.array([2, 0] if objective.multi_label else [2], np.int32)
    data = Labelled(
        Ragged(ids.numpy(), np.array([0, n])), Ragged(classes, np.array([0, len(classes)]))
    )
    before = {name: p.detach().clone() for name, p in made.named_parameters()}
    loss = AutogradTrainStep(made, recipe, objective).loss(data)
    gradients = dict(zip(before, torch.autograd.grad(loss, list(made.parameters()))))

    train_step = FusedTrainStep(made, recipe, objective)
    got = train_step.step(data, np.array([0]), 0.0, 0.1)
    train_step.sync_to_model()

    assert got == pytest.approx(loss.item(), rel=1e-5)
    for name, parameter in made.named_parameters():
        gradient = gradients[name].to_dense().reshape(len(parameter), -1)
        mean_square = gradient.square().mean(1, keepdim=True)
        step = 0.03 * gradient / mean_square.sqrt().clamp(min=1e-12)
        torch.testing.assert_close(
            parameter.detach(), before[name] - step.reshape(parameter.shape), atol=2e-5, rtol=1e-4
        )


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_threads_and_calls_do_not_change_a_bit(objective):
    rows = rows_of(np.random.default_rng(2).integers(0, 60, 100))
    data = Labelled(rows, targets_of(rows, objective.multi_label))
    order = np.random.default_rng(1).permutation(100)
    torch.manual_seed(0)
    start = model().state_dict()
    weights, losses = [], []
    for threads in (1, 2, 2, 3, 4, 9):
        made = model()
        made.load_state_dict(start)
        train_step = FusedTrainStep(made, Recipe(), objective, threads=threads)
        losses.append(train_step.step(data, order, 0.0, 0.5))
        train_step.sync_to_model()
        weights.append(made.state_dict())
    assert len(set(losses)) == 1
    for other in weights[1:]:
        assert all(torch.equal(weights[0][name], other[name]) for name in other)


def test_the_steps_of_a_run_are_the_same_in_one_call_or_many():
    rows = rows_of([20] * 48)
    data = Labelled(rows, targets_of(rows, several=False))
    order = np.random.default_rng(1).permutation(48)
    torch.manual_seed(0)
    whole, parts = model(), model()
    parts.load_state_dict(whole.state_dict())
    objective = OBJECTIVES["one label"]
    train_step = FusedTrainStep(whole, Recipe(), objective)
    train_step.step(data, order, 0.0, 0.6)
    train_step.sync_to_model()
    train_step = FusedTrainStep(parts, Recipe(), objective)
    train_step.step(data, order[:16], 0.0, 0.2)
    train_step.step(data, order[16:], 0.2, 0.6)
    train_step.sync_to_model()
    for a, b in zip(whole.parameters(), parts.parameters()):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


@njit(nogil=True)
def _meet(me, threads, arrivals, places, rounds):
    """Each writes the round into its place; all must see it of all before the next."""
    wrong = 0
    for i in range(rounds):
        places[me] = i
        wait(arrivals, threads, 2 * i + 1)
        for place in places:
            wrong += place != i
        wait(arrivals, threads, 2 * i + 2)
    return wrong


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_nobody_leaves_a_barrier_before_all_are_there(threads):
    arrivals, places, wrong = np.zeros(1, np.int64), np.zeros(threads, np.int64), []
    _meet(0, 1, np.zeros(1, np.int64), np.zeros(1, np.int64), 1)  # compiles
    args = threads, arrivals, places, 200
    workers = [
        threading.Thread(target=lambda me=me: wrong.append(_meet(me, *args)))
        for me in range(threads)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == [0] * threads
