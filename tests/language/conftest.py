"""Small models, and what their tests share."""

from __future__ import annotations

import pytest
import torch

from hyperagg.language import HyperAggConfig, HyperAggForCausalLM

V = 40


@pytest.fixture
def make_model():
    """Return a function that makes a model of two layers, always the same one."""

    def make(layer_types="gated", model_class=HyperAggForCausalLM, **options):
        torch.manual_seed(0)
        settings = dict(
            vocab_size=V,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            layer_types=layer_types,
            conv_kernel_size=3,
            pad_token_id=0,
        )
        return model_class(HyperAggConfig(**settings | options)).eval()

    return make


@pytest.fixture
def make_ids():
    """Return a function that makes a row of random token ids."""

    def make(length, seed=1):
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(1, V, (length,), generator=generator)

    return make
