"""The kernels compute the function, the loss and the gradients of a PyTorch reference."""

from __future__ import annotations

import threading
import tracemalloc

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from hyperagg._numba import threads as thread_pool
from hyperagg.classifier.config import TrainingConfig
from hyperagg.classifier.kernels import trainer
from hyperagg.classifier.kernels.train_step import divide_into_blocks
from hyperagg.classifier.model import ClassifierModel
from hyperagg.classifier.training.train_step import LabeledDocuments, Objective, TrainStep
from hyperagg.text import Ragged, occurrence_weights

pytestmark = pytest.mark.torch

V, C, D = 13, 4, 24
POOLINGS = ["harmonic", "mean"]
WEIGHTS = np.array([1, 2, 0.5, 3], np.float32)
OBJECTIVES = {
    "single-label": Objective(np.ones(C, np.float32)),
    "single-label, weighted": Objective(WEIGHTS),
    "multi-label": Objective(WEIGHTS, multi_label=True),
}
CONFIG = TrainingConfig(epochs=3, learning_rate=0.03, label_smoothing=0.1)


def make_model(pooling="harmonic", vocab_size=V):
    rng = np.random.default_rng(0)
    model = ClassifierModel.initialize(vocab_size, C, D, pooling, rng)
    # Positions start at one; here they should matter.
    model.positions += 0.3 * rng.standard_normal(model.positions.shape).astype(np.float32)
    return model


def make_rows(lengths, vocab_size=V):
    boundaries = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    ids = np.random.default_rng(0).integers(0, vocab_size, boundaries[-1]).astype(np.int32)
    return Ragged(ids, boundaries)


def make_targets(rows, multi_label):
    """One class per row, or none to three."""
    rng = np.random.default_rng(1)
    each = [rng.permutation(C)[: rng.integers(4) if multi_label else 1] for _ in range(len(rows))]
    boundaries = np.concatenate([[0], np.cumsum([len(own) for own in each], dtype=np.int64)])
    return Ragged(np.concatenate([*each, []]).astype(np.int32), boundaries)


def reference_logits(parameters, pooling, ids):
    """The definition: W sum_t w_t e_t * p_block(t) / |w| + b, for one row of ids."""
    ids = ids.tolist()
    context = torch.zeros(D, dtype=torch.float64)
    squares = 0.0
    for t, token in enumerate(ids):
        weight = 1 / ids[: t + 1].count(token) if pooling == "harmonic" else 1.0
        squares += weight**2
        block = min((t + 1).bit_length() - 1, len(parameters["positions"]) - 1)
        context = context + weight * parameters["embedding"][token] * parameters["positions"][block]
    if ids:
        context = context / (squares**0.5 if pooling == "harmonic" else len(ids))
    return parameters["weight"] @ context + parameters["bias"]


def reference_loss(logits, targets, objective, smoothing):
    weights = torch.from_numpy(objective.class_weights).double()
    truth = torch.zeros(C, dtype=torch.float64)
    truth[targets.tolist()] = 1
    if objective.multi_label:
        importance = 1 + truth * (weights - 1)
        truth = truth * (1 - smoothing) + smoothing / 2
        return F.binary_cross_entropy_with_logits(logits, truth, importance, reduction="sum")
    smoothed = truth * (1 - smoothing) + smoothing / C
    return F.cross_entropy(logits, smoothed) * (weights * truth).sum()


def as_tensors(model):
    return {
        name: torch.from_numpy(array).double().requires_grad_()
        for name, array in model.arrays.items()
    }


@given(st.lists(st.integers(0, 70), min_size=1, max_size=6), st.sampled_from(POOLINGS))
def test_the_logits_are_those_of_the_definition(lengths, pooling):
    model, rows = make_model(pooling), make_rows(lengths)
    parameters = as_tensors(model)
    expected = [
        reference_logits(parameters, pooling, rows.token_ids[begin:end]).detach().numpy()
        for begin, end in zip(rows.cu_seqlens, rows.cu_seqlens[1:])
    ]
    np.testing.assert_allclose(model.logits(rows), expected, atol=1e-5)


@given(st.lists(st.lists(st.integers(0, 5), max_size=40), max_size=6))
def test_the_c_th_occurrence_has_the_weight_one_over_c(texts):
    boundaries = np.concatenate([[0], np.cumsum([len(t) for t in texts], dtype=np.int64)])
    rows = Ragged(np.array([i for t in texts for i in t], np.int32), boundaries)
    expected = np.array([1 / t[: i + 1].count(t[i]) for t in texts for i in range(len(t))])
    np.testing.assert_allclose(occurrence_weights(rows, 6), expected, rtol=1e-6)


@pytest.mark.parametrize("n", [0, 1, 2, 9, 70])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("weight", [None, 0.25])
@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_a_step_is_adagrad_by_rows_on_the_gradient(n, smoothing, pooling, weight, objective):
    # Each token occurs once, because the fused step updates a row at each occurrence.
    ids = np.random.default_rng(n).permutation(100)[:n].astype(np.int32)
    model = make_model(pooling, 100)
    classes = np.array([2, 0] if objective.multi_label else [2], np.int32)
    data = LabeledDocuments(
        Ragged(ids, np.array([0, n])),
        Ragged(classes, np.array([0, len(classes)])),
        None if weight is None else np.array([weight], np.float32),
    )
    parameters = as_tensors(model)
    logits = reference_logits(parameters, pooling, ids)
    loss = (weight or 1.0) * reference_loss(logits, classes, objective, smoothing)
    loss.backward()

    train_step = TrainStep(model, TrainingConfig(1, 0.03, smoothing), objective)
    found = train_step.step(data, np.array([0]), 0.0, 0.1)
    train_step.sync_to_model()

    assert found == pytest.approx(loss.item(), rel=1e-5)
    for name, before in parameters.items():
        gradient = torch.zeros_like(before) if before.grad is None else before.grad
        rows = gradient.reshape(len(before), -1)
        mean_square = rows.square().mean(1, keepdim=True)
        step = (0.03 * rows / mean_square.sqrt().clamp(min=1e-12)).reshape(before.shape)
        np.testing.assert_allclose(
            model.arrays[name], (before - step).detach(), atol=2e-5, rtol=1e-4
        )


def train_late_in_a_run(threads=1, objective=OBJECTIVES["single-label"]):
    """Train on blocks of about a hundred documents, which have several tasks per phase."""
    rows = make_rows(np.random.default_rng(2).integers(0, 60, 250), 200)
    data = LabeledDocuments(rows, make_targets(rows, objective.multi_label))
    order = np.random.default_rng(1).permutation(250)
    model = make_model(vocab_size=200)
    config = TrainingConfig(epochs=100, learning_rate=0.03, label_smoothing=0.1)
    train_step = TrainStep(model, config, objective, threads=threads)
    loss = train_step.step(data, order, 0.5, 0.51)
    train_step.sync_to_model()
    return {"loss": np.array(loss), **model.arrays}


def assert_same_bits(found, expected):
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.fixture
def threads_for_any_work(monkeypatch):
    monkeypatch.setattr(trainer, "_MIN_WORK_PER_THREAD", 1)


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_threads_change_no_bit(objective, threads_for_any_work):
    expected = train_late_in_a_run(1, objective)
    for threads in (2, 2, 3, 5, 8, 16):
        assert_same_bits(train_late_in_a_run(threads, objective), expected)


def test_any_number_of_threads_can_be_asked_for():
    assert_same_bits(train_late_in_a_run(2**62), train_late_in_a_run(1))


def test_training_holds_the_embedding_once_more_and_no_further_copies():
    model = ClassifierModel.initialize(20_000, C, D, "mean", np.random.default_rng(0))
    size = 20_000 * (-(-D // 16) * 16) * 4
    tracemalloc.start()
    try:
        train_step = TrainStep(model, CONFIG, OBJECTIVES["single-label"])
        created = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        train_step.sync_to_model()
        written = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert size < created < 1.3 * size
    assert written < 0.1 * size


def test_a_single_thread_of_many_suffices(monkeypatch, threads_for_any_work):
    expected = train_late_in_a_run()

    def run_the_last(kernel, borders, *args):
        kernel(borders[-2], borders[-1], *args)

    monkeypatch.setattr(trainer, "run", run_the_last)
    assert_same_bits(train_late_in_a_run(3), expected)


def test_threads_that_cannot_start_are_not_missed(monkeypatch, threads_for_any_work):
    expected = train_late_in_a_run()

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    thread_pool._pool.cache_clear()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert_same_bits(train_late_in_a_run(3), expected)
    thread_pool._pool.cache_clear()


@given(
    st.lists(st.integers(0, 40_000), max_size=200),
    st.integers(0, 1_000_000),
    st.sampled_from([2, 50_000]),
)
def test_blocks_hold_all_documents_and_are_bounded(lengths, before, classes):
    boundaries = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    empty = np.empty(0, np.float32)
    batch = trainer.Batch(empty, empty, boundaries, empty, empty, empty)
    order = np.random.default_rng(0).permutation(len(lengths))
    plan, documents, tokens = divide_into_blocks(batch, order, before, classes)
    assert plan.boundaries[0] == 0 and plan.boundaries[-1] == len(lengths)
    for first, last in zip(plan.boundaries, plan.boundaries[1:]):
        number, size = last - first, sum(lengths[i] for i in order[first:last])
        assert 0 < number <= documents and size <= tokens
        assert size == plan.token_offsets[last] - plan.token_offsets[first]
        # One share is never divided; more than one share is within all bounds.
        if number > 16:
            assert number <= (before + first) ** 0.5 and number * classes <= 2**22
            assert size <= 32_768


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_document_weights_of_one_change_no_bit(objective):
    rows = make_rows(np.random.default_rng(2).integers(0, 60, 100))
    targets = make_targets(rows, objective.multi_label)
    models = []
    for weights in (None, np.ones(100, np.float32)):
        models.append(make_model())
        train_step = TrainStep(models[-1], CONFIG, objective)
        train_step.step(LabeledDocuments(rows, targets, weights), np.arange(100), 0.0, 0.5)
        train_step.sync_to_model()
    for name, array in models[1].arrays.items():
        np.testing.assert_array_equal(array, models[0].arrays[name])


def test_one_call_or_many_give_the_same_steps():
    rows = make_rows([20] * 48)
    data = LabeledDocuments(rows, make_targets(rows, multi_label=False))
    order = np.random.default_rng(1).permutation(48)
    whole, parts = make_model(), make_model()
    objective = OBJECTIVES["single-label"]
    train_step = TrainStep(whole, CONFIG, objective)
    train_step.step(data, order, 0.0, 1 / 3)
    train_step.sync_to_model()
    train_step = TrainStep(parts, CONFIG, objective)
    train_step.step(data, order[:16], 0.0, 1 / 9)
    train_step.step(data, order[16:], 1 / 9, 1 / 3)
    train_step.sync_to_model()
    for name, array in parts.arrays.items():
        np.testing.assert_allclose(array, whole.arrays[name], atol=1e-6, rtol=1e-5)
