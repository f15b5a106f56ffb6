from __future__ import annotations

import pytest
import torch
from torch import nn

from hyperagg.layers import Aggregation
from hyperagg.ops.masks import Causal, Full, Window


def test_output_shapes():
    layer = Aggregation(d_model=8, projection=True, noise_stddev=0.0)
    x = torch.randn(2, 5, 8)
    assert layer(x).shape == (2, 1, 8)
    assert layer(x, mask="causal").shape == (2, 5, 8)
    assert layer(x, mask=Window(2)).shape == (2, 5, 8)
    assert layer(x, mask=torch.tril(torch.ones(2, 5, 5))).shape == (2, 5, 8)


def test_matches_the_layer_of_ekin_2025():
    layer = Aggregation(8)
    x = torch.randn(2, 5, 8)
    weight = layer.projection.weight
    torch.testing.assert_close(layer(x), (x @ weight.T).sum(1, keepdim=True))
    tril = torch.tril(torch.ones(2, 5, 5))
    expected = torch.einsum("bij,bjf->bif", tril, x @ weight.T)
    torch.testing.assert_close(layer(x, mask=tril), expected)
    torch.testing.assert_close(layer(x, mask="causal"), expected)
    assert Aggregation(8, projection=False).projection is None
    assert layer.projection.bias is None


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", None])
@pytest.mark.parametrize("mask", [None, "causal", Full(), Causal(), Window(3)])
def test_projection_is_equivalent_to_projecting_the_tokens(positions, mask):
    layer = Aggregation(8, positions=positions, max_length=6, normalize="sqrt")
    x = torch.randn(3, 6, 8)
    plain = Aggregation(8, projection=False, normalize="sqrt")
    plain.positions = layer.positions
    torch.testing.assert_close(layer(x, mask), plain(layer.projection(x), mask))


def test_pooled_projection_is_applied_once_per_sequence():
    layer = Aggregation(8)
    shapes = []
    layer.projection.register_forward_hook(
        lambda module, inputs, output: shapes.append(output.shape)
    )
    layer(torch.randn(2, 50, 8))
    assert shapes == [(2, 1, 8)]


def test_noise_is_added_in_training_mode_only():
    layer = Aggregation(64, projection=False, noise_stddev=0.5)
    x = torch.zeros(200, 3, 64)
    assert abs(layer(x).std().item() - 0.5) < 0.02
    assert torch.equal(layer.eval()(x), torch.zeros(200, 1, 64))


def test_padding_is_summed_only_with_count_padding():
    x = torch.randn(2, 6, 8)
    lengths = torch.tensor([6, 2])
    layer = Aggregation(8, projection=False)
    torch.testing.assert_close(layer(x, lengths=lengths)[1, 0], x[1, :2].sum(0))
    counting = Aggregation(8, projection=False, count_padding=True)
    torch.testing.assert_close(counting(x, lengths=lengths)[1, 0], x[1].sum(0))


def test_learns_order():
    # A plain sum cannot distinguish the order of two tokens; a sum of products can.
    torch.manual_seed(0)
    embedding = nn.Embedding(2, 16)
    layer = Aggregation(16, positions="learned", max_length=2)
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
    ("arguments", "message"),
    [
        (dict(d_model=0), "d_model=0: expected an integer >= 1"),
        (dict(d_model=4, noise_stddev=-1.0), "noise_stddev=-1.0: expected a number >= 0"),
        (dict(d_model=4, noise_stddev=float("nan")), "noise_stddev=nan: expected a number >= 0"),
        (dict(d_model=4, positions="learned"), "max_length=None: expected an integer >= 1"),
        (dict(d_model=4, positions="learned", max_length=0), "max_length=0: expected"),
        (dict(d_model=4, positions="rotary"), "positions='rotary': expected one of learned"),
    ],
)
def test_invalid_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Aggregation(**arguments)


def test_an_unknown_mask_is_refused():
    with pytest.raises(ValueError, match="mask='window': expected 'causal', a Mask"):
        Aggregation(4)(torch.ones(1, 2, 4), mask="window")
