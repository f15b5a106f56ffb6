from __future__ import annotations

import pytest
import torch

from hyperagg.layers import PooledAggregation
from hyperagg.layers.pooling import occurrence_weights
from hyperagg.layers.positions import position_blocks


def test_the_nth_occurrence_of_a_token_in_its_row_weighs_one_over_n():
    token_ids, rows = torch.tensor([4, 4, 1, 4, 4, 1]), torch.tensor([0, 0, 0, 0, 1, 1])
    weights = occurrence_weights(token_ids, rows, 5)
    torch.testing.assert_close(weights, torch.tensor([1, 1 / 2, 1, 1 / 3, 1, 1]))


@pytest.mark.parametrize("pooling", ["harmonic", "mean"])
def test_matches_the_formula(pooling):
    layer, embedding = PooledAggregation(4, pooling), torch.randn(6, 4)
    with torch.no_grad():
        layer.positions.weight += torch.randn_like(layer.positions.weight)
    token_ids, cu_seqlens = torch.tensor([5, 2, 5, 0]), torch.tensor([0, 3, 3, 4])
    p = layer.positions.weight[position_blocks(3, len(layer.positions.weight))]
    w = torch.tensor([1, 1, 1 / 2]) if pooling == "harmonic" else torch.ones(3)
    norm = w.square().sum().sqrt() if pooling == "harmonic" else 3
    first = (w[:, None] * embedding[[5, 2, 5]] * p).sum(0) / norm
    expected = torch.stack([first, torch.zeros(4), embedding[0] * p[0]])
    torch.testing.assert_close(layer(embedding, token_ids, cu_seqlens), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("pooling", ["harmonic", "mean"])
def test_gives_the_same_result_on_a_gpu(pooling):
    layer, embedding = PooledAggregation(4, pooling), torch.randn(6, 4)
    token_ids, cu_seqlens = torch.tensor([5, 2, 5, 0]), torch.tensor([0, 3, 3, 4])
    expected = layer(embedding, token_ids, cu_seqlens)
    actual = layer.cuda()(embedding.cuda(), token_ids.cuda(), cu_seqlens.cuda())
    torch.testing.assert_close(actual.cpu(), expected)
