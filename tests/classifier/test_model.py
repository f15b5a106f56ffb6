from __future__ import annotations

import pytest
import torch

from hyperagg.classifier.baselines.attention import AttentionMixer, TransformerMixer
from hyperagg.classifier.model import Classifier
from hyperagg.layers.attention import SelfAttention
from hyperagg.layers.pooling import PooledAggregation

MIXERS = [PooledAggregation, AttentionMixer, TransformerMixer]


@pytest.fixture(params=MIXERS, ids=lambda mixer: mixer.__name__)
def model(request):
    return Classifier(20, 3, 16, request.param(16)).eval()


def test_a_row_does_not_depend_on_its_batch(model):
    rows = [torch.randint(20, (n,), dtype=torch.int32) for n in (5, 1, 9, 2)]
    borders = torch.tensor([0, 5, 6, 15, 17])
    together = model(torch.cat(rows), borders)
    for i, row in enumerate(rows):
        alone = model(row, torch.tensor([0, len(row)]))
        torch.testing.assert_close(together[i], alone[0], atol=1e-5, rtol=1e-5)


def test_an_empty_row_gives_the_bias_and_no_nan(model):
    logits = model(torch.tensor([3, 4], dtype=torch.int32), torch.tensor([0, 0, 2]))
    assert torch.isfinite(logits).all()
    if not isinstance(model.mixer, TransformerMixer):
        torch.testing.assert_close(logits[0], model.head.bias)


def test_every_parameter_gets_a_gradient(model):
    logits = model(torch.arange(17, dtype=torch.int32), torch.tensor([0, 5, 17]))
    logits.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.to_dense().abs().sum() > 0, name


def test_attention_is_softmax_over_the_tokens_that_are_kept():
    attention = SelfAttention(8, 2)
    x = torch.randn(1, 4, 8)
    kept = torch.tensor([[True, True, True, False]])
    q, k, v = (part.view(4, 2, 4).transpose(0, 1) for part in attention.qkv(x)[0].chunk(3, -1))
    scores = (q @ k.transpose(1, 2) / 2).masked_fill(~kept[:, None], -torch.inf)
    want = attention.out((scores.softmax(-1) @ v).transpose(0, 1).reshape(4, 8))
    torch.testing.assert_close(attention(x, kept)[0], want)
    with pytest.raises(ValueError, match="heads"):
        SelfAttention(8, 3)


def test_order_matters_to_every_mixer(model):
    with torch.no_grad():
        if isinstance(model.mixer, PooledAggregation):
            model.mixer.positions.weight.add_(torch.randn_like(model.mixer.positions.weight))
    forth = model(torch.tensor([1, 2, 3], dtype=torch.int32), torch.tensor([0, 3]))
    back = model(torch.tensor([3, 2, 1], dtype=torch.int32), torch.tensor([0, 3]))
    assert (forth - back).abs().max() > 1e-6


def test_counts_parameters():
    counts = Classifier(20, 3, 16, PooledAggregation(16)).count_parameters()
    assert counts == {"parameters": 20 * 16 + 16 * 16 + 3 * 16 + 3, "without_embedding": 307}
