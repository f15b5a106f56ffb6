"""The mixers of the neural baselines, on ragged rows."""

from __future__ import annotations

import pytest
import torch

from hyperagg.classifier.baselines.attention import AttentionMixer, TransformerMixer
from hyperagg.classifier.baselines.neural import NeuralModule

pytestmark = pytest.mark.torch


@pytest.fixture(params=[AttentionMixer, TransformerMixer], ids=lambda mixer: mixer.__name__)
def model(request):
    return NeuralModule(20, 3, request.param(16)).eval()


def test_a_row_does_not_depend_on_its_batch(model):
    rows = [torch.randint(20, (n,), dtype=torch.int32) for n in (5, 1, 9, 2)]
    together = model(torch.cat(rows), torch.tensor([0, 5, 6, 15, 17]))
    for i, row in enumerate(rows):
        alone = model(row, torch.tensor([0, len(row)]))
        torch.testing.assert_close(together[i], alone[0], atol=1e-5, rtol=1e-5)


def test_an_empty_row_gives_finite_logits(model):
    logits = model(torch.tensor([3, 4], dtype=torch.int32), torch.tensor([0, 0, 2]))
    assert torch.isfinite(logits).all()
    if isinstance(model.mixer, AttentionMixer):
        torch.testing.assert_close(logits[0], model.head.bias)


def test_every_parameter_gets_a_gradient(model):
    model(torch.arange(17, dtype=torch.int32), torch.tensor([0, 5, 17])).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.to_dense().abs().sum() > 0, name


def test_the_order_of_tokens_matters(model):
    forward = model(torch.tensor([1, 2, 3], dtype=torch.int32), torch.tensor([0, 3]))
    backward = model(torch.tensor([3, 2, 1], dtype=torch.int32), torch.tensor([0, 3]))
    assert (forward - backward).abs().max() > 1e-6
