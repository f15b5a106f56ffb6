"""Random numbers from a seed, beside other threads."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from hyperagg._common.torch_random import preserve_random_state, seeded  # noqa: E402

pytestmark = pytest.mark.torch


def draw(seed):
    """What an initialization may draw, in every form."""
    with seeded(seed):
        tensors = [
            *nn.Linear(7, 5).parameters(),
            *nn.Embedding(9, 4).parameters(),
            *nn.Conv2d(2, 3, 3).parameters(),
            nn.init.trunc_normal_(torch.empty(40)),
            nn.init.orthogonal_(torch.empty(6, 6)),
            torch.randn(5),
            torch.rand(2, 3),
            torch.randint(100, (6,)),
            torch.randperm(20),
            torch.rand_like(torch.empty(4)),
            torch.empty(5).exponential_(),
            torch.normal(torch.zeros(3), 1.0),
            torch.bernoulli(torch.full((8,), 0.5)),
        ]
    return torch.cat([tensor.detach().double().reshape(-1) for tensor in tensors])


def test_the_numbers_are_those_of_the_seed_and_the_process_keeps_its_state():
    torch.manual_seed(5)
    linear = nn.Linear(30, 20)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    with seeded(5):
        assert torch.equal(nn.Linear(30, 20).weight, linear.weight)
    draw(3)
    assert torch.equal(torch.get_rng_state(), before)


def test_threads_do_not_disturb_each_other():
    expected = [draw(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for own, alone in zip(pool.map(draw, range(4)), expected, strict=True):
                assert torch.equal(own, alone)


def test_what_cannot_be_seeded_is_refused():
    with seeded(0), pytest.raises(NotImplementedError, match="takes no generator"):
        torch.native_dropout(torch.ones(4), 0.5, True)


def test_the_states_of_the_process_are_put_back():
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    with preserve_random_state():
        expected = random.random(), np.random.rand(), torch.rand(1).item()
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected
