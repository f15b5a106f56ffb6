from __future__ import annotations

from typing import get_args

import pytest
import torch
import torch.nn.functional as F

from research.models import original_language_model
from research.models.original_language_model import MixerName, OriginalLanguageModel

V, D, N = 30, 16, 12


@pytest.fixture(params=get_args(MixerName))
def name(request):
    return request.param


@pytest.fixture
def model(name):
    return OriginalLanguageModel(V, name, D, N)


def test_a_token_does_not_change_earlier_positions(model, name):
    model.eval()
    ids = torch.randint(V, (2, N))
    other = ids.clone()
    other[:, 7] = (ids[:, 7] + 1) % V
    moved = (model(other) - model(ids)).abs().amax((0, 2))
    assert moved[:7].max() == 0 and moved[7] > 0
    # Without a mixer a position depends on its own token only.
    assert (moved[8:] > 0).all() == (name != "no mixing")


def test_the_chunked_softmax_is_exact(model, monkeypatch):
    monkeypatch.setattr(original_language_model, "CHUNK", 5)
    ids, targets = torch.randint(V, (2, 3, N))
    torch.manual_seed(1)  # seed of the noise
    loss = model.accumulate(ids, targets)
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    torch.manual_seed(1)
    expected = F.cross_entropy(model.head(model(ids)).flatten(0, 1), targets.flatten())
    expected.backward()
    torch.testing.assert_close(loss, expected.detach())
    for name, p in model.named_parameters():
        assert p.grad.abs().sum() > 0, name
        torch.testing.assert_close(found[name], p.grad, atol=1e-6, rtol=1e-4)
    model.eval()
    expected = -model.head(model(ids)).log_softmax(-1).gather(2, targets[..., None])[..., 0]
    torch.testing.assert_close(model.losses(ids, targets), expected.detach())


def test_the_masked_product_equals_aggregation():
    ours, theirs = (
        OriginalLanguageModel(V, name, D, N).eval() for name in ("aggregation", "masked product")
    )
    theirs.load_state_dict(ours.state_dict())
    ids = torch.randint(V, (2, N))
    torch.testing.assert_close(ours(ids), theirs(ids))
