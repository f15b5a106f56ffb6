"""Perplexity, by hand and in every way of reading the same text."""

from __future__ import annotations

import math

import pytest
import torch

from hyperagg.language import perplexity
from hyperagg.language.configuration_hyperagg import HyperAggConfig
from hyperagg.language.modeling_hyperagg import HyperAggForCausalLM
from hyperagg.language.perplexity import measure_perplexity
from hyperagg.language.tokenizer import END, train_tokenizer

TEXTS = ["oil prices rose again", "gold fell", "", "oil fell and gold rose and oil fell again"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, "words", 50)


@pytest.fixture(scope="module", params=["gated", ["gated", "full_attention"]], ids=str)
def model(request, tokenizer):
    torch.manual_seed(0)
    config = HyperAggConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        layer_types=request.param,
        conv_kernel_size=3,
    )
    return HyperAggForCausalLM(config).eval()


def by_hand(model, tokenizer):
    nats, tokens = 0.0, 0
    for text in TEXTS:
        ids = tokenizer(END + text + END, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logits = model(ids).logits[0]
        known = logits.log_softmax(-1)[:-1].gather(1, ids[0, 1:, None])
        nats -= known.sum().item()
        tokens += len(known)
    return nats, tokens


def test_streaming_is_what_each_text_gives_alone(model, tokenizer, monkeypatch):
    nats, tokens = by_hand(model, tokenizer)
    for places in (4096, 7, 1):
        monkeypatch.setattr(perplexity, "PLACES", places)
        result = measure_perplexity(model, tokenizer, TEXTS)
        assert result.tokens == tokens
        assert result.nats == pytest.approx(nats, rel=1e-5)
    assert result.per_token == pytest.approx(math.exp(nats / tokens), rel=1e-5)
    assert result.words == sum(len(text.split()) + 1 for text in TEXTS)
    assert result.bytes == sum(map(len, TEXTS))


def test_windows_predict_every_token_once(model, tokenizer):
    nats, tokens = by_hand(model, tokenizer)
    wide = measure_perplexity(model, tokenizer, TEXTS, window=50, stride=7)
    assert (wide.nats, wide.tokens) == (pytest.approx(nats, rel=1e-5), tokens)
    narrow = measure_perplexity(model, tokenizer, TEXTS, window=3, stride=1)
    assert narrow.tokens == tokens
    # A window of 2 sees one token, so this is the model's bigram.
    bigram = 0.0
    for text in TEXTS:
        ids = tokenizer(END + text + END)["input_ids"]
        for before, token in zip(ids, ids[1:]):
            with torch.no_grad():
                logits = model(torch.tensor([[before]])).logits[0, -1]
            bigram -= logits.log_softmax(-1)[token].item()
    shortest = measure_perplexity(model, tokenizer, TEXTS, window=2, stride=1)
    assert shortest.nats == pytest.approx(bigram, rel=1e-5)


def test_what_cannot_be_measured(model, tokenizer):
    with pytest.raises(ValueError, match="no text"):
        measure_perplexity(model, tokenizer, [])
    with pytest.raises(ValueError, match="window=1"):
        measure_perplexity(model, tokenizer, TEXTS, window=1)
    with pytest.raises(ValueError, match="stride=9"):
        measure_perplexity(model, tokenizer, TEXTS, window=9, stride=9)
