from __future__ import annotations

import pytest
import torch
from torch import nn

import hyperagg
from hyperagg.ops.masks import Causal, Full, Window


def test_shapes_of_the_contract():
    layer = hyperagg.Aggregation(d_model=8, projection=True, noise_stddev=0.0)
    x = torch.randn(2, 5, 8)
    assert layer(x).shape == (2, 1, 8)
    assert layer(x, mask="causal").shape == (2, 5, 8)
    assert layer(x, mask=Window(2)).shape == (2, 5, 8)
    assert layer(x, mask=torch.tril(torch.ones(2, 5, 5))).shape == (2, 5, 8)


def test_is_the_sources_layer():
    layer = hyperagg.Aggregation(8)
    x = torch.randn(2, 5, 8)
    weight = layer.projection.weight
    torch.testing.assert_close(layer(x), (x @ weight.T).sum(1, keepdim=True))
    tril = torch.tril(torch.ones(2, 5, 5))
    want = torch.einsum("bij,bjf->bif", tril, x @ weight.T)
    torch.testing.assert_close(layer(x, mask=tril), want)
    torch.testing.assert_close(layer(x, mask="causal"), want)
    assert hyperagg.Aggregation(8, projection=False).projection is None
    assert layer.projection.bias is None


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", None])
@pytest.mark.parametrize("mask", [None, "causal", Full(), Causal(), Window(3)])
def test_projection_before_the_sum_whatever_side_it_is_computed_on(positions, mask):
    layer = hyperagg.Aggregation(8, positions=positions, max_length=6, normalize="sqrt")
    x = torch.randn(3, 6, 8)
    plain = hyperagg.Aggregation(8, projection=False, normalize="sqrt")
    plain.positions = layer.positions
    torch.testing.assert_close(layer(x, mask), plain(layer.projection(x), mask))


def test_pooled_projection_costs_one_product_a_sequence():
    layer = hyperagg.Aggregation(8)
    seen = []
    layer.projection.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    layer(torch.randn(2, 50, 8))
    assert seen == [(2, 1, 8)]


def test_noise_in_training_only():
    layer = hyperagg.Aggregation(64, projection=False, noise_stddev=0.5)
    x = torch.zeros(200, 3, 64)
    assert abs(layer(x).std().item() - 0.5) < 0.02
    assert torch.equal(layer.eval()(x), torch.zeros(200, 1, 64))


def test_padding_is_never_summed_unless_asked_for():
    x = torch.randn(2, 6, 8)
    lengths = torch.tensor([6, 2])
    layer = hyperagg.Aggregation(8, projection=False)
    torch.testing.assert_close(layer(x, lengths=lengths)[1, 0], x[1, :2].sum(0))
    counting = hyperagg.Aggregation(8, projection=False, count_padding=True)
    torch.testing.assert_close(counting(x, lengths=lengths)[1, 0], x[1].sum(0))


def test_learns_order():
    # Two tokens in either order: a plain sum cannot tell, a sum of products can.
    torch.manual_seed(0)
    embedding = nn.Embedding(2, 16)
    layer = hyperagg.Aggregation(16, positions="learned", max_length=2)
    head = nn.Linear(16, 2)
    ids, y = torch.tensor([[0, 1], [1, 0]] * 8), torch.tensor([0, 1] * 8)
    parameters = [*embedding.parameters(), *layer.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=0.03)
    for _ in range(100):
        loss = nn.functional.cross_entropy(head(layer(embedding(ids))[:, 0]), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (dict(d_model=0), "d_model"),
        (dict(d_model=4, noise_stddev=-1.0), "noise_stddev"),
        (dict(d_model=4, positions="learned"), "max_length"),
        (dict(d_model=4, positions="rotary", max_length=3), "positions"),
    ],
)
def test_bad_arguments_are_named(arguments, names):
    with pytest.raises(ValueError, match=names):
        hyperagg.Aggregation(**arguments)
    with pytest.raises(ValueError, match="mask"):
        hyperagg.Aggregation(4)(torch.ones(1, 2, 4), mask="window")
