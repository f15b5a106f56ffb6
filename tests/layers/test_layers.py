from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import hyperagg.layers
from hyperagg.layers import (
    Aggregation,
    AssociativeAggregation,
    BidirectionalAggregation,
    CausalAggregation,
    GatedAssociativeAggregation,
    PooledAggregation,
    SelfAttention,
)


def test_a_missing_pytorch_is_one_line_that_names_the_extra():
    code = """
import sys
sys.modules["torch"] = None
try:
    import hyperagg.layers
except ImportError as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    expected = "hyperagg.layers requires torch: pip install 'hyperagg[torch]'"
    assert ran.stdout.strip() == expected, ran.stderr


LAYERS = {
    "aggregation": Aggregation(8),
    "aggregation without projection": Aggregation(8, projection=False),
    "causal": CausalAggregation(8),
    "associative": AssociativeAggregation(8),
    "gated and associative": GatedAssociativeAggregation(8),
    "bidirectional": BidirectionalAggregation(8),
    "attention": SelfAttention(8, num_heads=2),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_tokens_of_another_dimension_are_refused(kind):
    with pytest.raises(ValueError, match=r"^[xu]: shape .*expected \(B, N, D\) .* d_model = 8"):
        LAYERS[kind](torch.ones(1, 5, 7))


def test_an_embedding_of_the_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"embedding: shape \(4, 7\); expected .* d_model = 8"):
        PooledAggregation(8)(torch.ones(4, 7), torch.tensor([1, 2]), torch.tensor([0, 2]))


def test_positions_are_public():
    for name in ("BlockPositions", "LearnedPositions", "SinusoidalPositions"):
        assert name in hyperagg.layers.__all__ and hasattr(hyperagg.layers, name)
