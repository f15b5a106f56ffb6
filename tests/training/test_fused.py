"""The fused step and PyTorch's autograd are the same function."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from hyperagg.models.classifier import AggregationMixer, Classifier
from hyperagg.text import Ragged
from hyperagg.training import fused
from hyperagg.training.steppers import FusedStepper, Recipe

V, C, D = 13, 4, 24


def model():
    made = Classifier(V, C, D, AggregationMixer(D))
    with torch.no_grad():  # positions start at one; here they shall matter
        made.mixer.positions.weight.add_(0.3 * torch.randn_like(made.mixer.positions.weight))
    return made


def rows_of(lengths):
    borders = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    ids = np.random.default_rng(0).integers(0, V, borders[-1]).astype(np.int32)
    return Ragged(ids, borders)


@given(st.lists(st.integers(0, 70), min_size=1, max_size=6))
def test_logits_are_the_modules(lengths):
    torch.manual_seed(0)
    made, rows = model(), rows_of(lengths)
    want = made(torch.from_numpy(rows.token_ids), torch.from_numpy(rows.cu_seqlens))
    np.testing.assert_allclose(fused.logits(made, rows), want.detach(), atol=1e-5)


@pytest.mark.parametrize("n", [0, 1, 2, 9, 70])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_step_is_row_adagrad_on_the_autograd_gradient(n, smoothing):
    # Each token once, as the fused step meets the uses of a word one by one.
    ids = torch.randperm(100)[:n].int()
    made = Classifier(100, C, D, AggregationMixer(D))
    before = {name: p.detach().clone() for name, p in made.named_parameters()}
    logits = made(ids, torch.tensor([0, n]))
    loss = F.cross_entropy(logits, torch.tensor([2]), label_smoothing=smoothing)
    gradients = dict(zip(before, torch.autograd.grad(loss, list(made.parameters()))))

    stepper = FusedStepper(made, Recipe(learning_rate=0.03, label_smoothing=smoothing))
    rows = Ragged(ids.numpy(), np.array([0, n]))
    got = stepper.step(rows, np.array([2]), np.array([0]), 0.0, 0.1)

    assert got == pytest.approx(loss.item(), rel=1e-5)
    for name, parameter in made.named_parameters():
        gradient = gradients[name].to_dense().reshape(len(parameter), -1)
        mean_square = gradient.square().mean(1, keepdim=True)
        step = 0.03 * gradient / mean_square.sqrt().clamp(min=1e-12)
        torch.testing.assert_close(
            parameter.detach(), before[name] - step.reshape(parameter.shape), atol=2e-5, rtol=1e-4
        )


def test_the_steps_of_a_run_are_the_same_in_one_call_or_many():
    rows, targets = rows_of([20] * 30), np.arange(30) % C
    order = np.random.default_rng(1).permutation(30)
    torch.manual_seed(0)
    whole = model()
    parts = Classifier(V, C, D, AggregationMixer(D))
    parts.load_state_dict(whole.state_dict())
    recipe = Recipe()
    FusedStepper(whole, recipe).step(rows, targets, order, 0.0, 0.5)
    stepper = FusedStepper(parts, recipe)
    stepper.step(rows, targets, order[:10], 0.0, 0.5 / 3)
    stepper.step(rows, targets, order[10:], 0.5 / 3, 0.5)
    for a, b in zip(whole.parameters(), parts.parameters()):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
