"""Perplexity against its definition, for every way of reading the same texts."""

from __future__ import annotations

import math

import pytest
import torch

from hyperagg.language import HyperAggConfig, HyperAggForCausalLM, perplexity
from hyperagg.language.perplexity import Perplexity, measure_perplexity
from hyperagg.language.tokenizer import END_OF_TEXT, train_tokenizer

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


def by_definition(model, tokenizer):
    nats, num_tokens = 0.0, 0
    for text in TEXTS:
        ids = tokenizer(END_OF_TEXT + text + END_OF_TEXT, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logits = model(ids).logits[0]
        log_probs = logits.log_softmax(-1)[:-1].gather(1, ids[0, 1:, None])
        nats -= log_probs.sum().item()
        num_tokens += len(log_probs)
    return nats, num_tokens


@pytest.mark.parametrize("positions_per_chunk", [4096, 7, 1])
def test_streaming_equals_each_text_by_itself(model, tokenizer, monkeypatch, positions_per_chunk):
    nats, num_tokens = by_definition(model, tokenizer)
    monkeypatch.setattr(perplexity, "POSITIONS_PER_CHUNK", positions_per_chunk)
    result = measure_perplexity(model, tokenizer, TEXTS)
    assert result.num_tokens == num_tokens
    assert result.nats == pytest.approx(nats, rel=1e-5)
    assert result.perplexity == pytest.approx(math.exp(nats / num_tokens), rel=1e-5)
    assert result.num_words == sum(len(text.split()) + 1 for text in TEXTS)
    assert result.num_bytes == sum(map(len, TEXTS))


def test_windows_predict_every_token_once(model, tokenizer):
    nats, num_tokens = by_definition(model, tokenizer)
    wide = measure_perplexity(model, tokenizer, TEXTS, window=50, stride=7)
    assert (wide.nats, wide.num_tokens) == (pytest.approx(nats, rel=1e-5), num_tokens)
    narrow = measure_perplexity(model, tokenizer, TEXTS, window=3, stride=1)
    assert narrow.num_tokens == num_tokens
    # A window of 2 has one token of context, so this is the bigram model that the model implies.
    bigram = 0.0
    for text in TEXTS:
        ids = tokenizer(END_OF_TEXT + text + END_OF_TEXT)["input_ids"]
        for before, token in zip(ids, ids[1:]):
            with torch.no_grad():
                logits = model(torch.tensor([[before]])).logits[0, -1]
            bigram -= logits.log_softmax(-1)[token].item()
    shortest = measure_perplexity(model, tokenizer, TEXTS, window=2, stride=1)
    assert shortest.nats == pytest.approx(bigram, rel=1e-5)


@pytest.mark.parametrize("max_length", [1, 3, 4, 50])
def test_the_convention_of_lm_eval_is_its_rolling_log_likelihood(model, tokenizer, max_length):
    """Chunks of `max_length` tokens, each predicted from the newest `max_length` tokens before its
    own; the end of a text is not predicted."""
    texts = [*TEXTS, " gold rose "]
    nats = 0.0
    for text in texts:
        ids = tokenizer(END_OF_TEXT + text)["input_ids"]
        for begin in range(1, len(ids), max_length):
            end = min(begin + max_length, len(ids))
            context = torch.tensor([ids[max(0, end - 1 - max_length) : end - 1]])
            with torch.no_grad():
                log_probs = model(context).logits[0].log_softmax(-1)[begin - end :]
            nats -= log_probs.gather(1, torch.tensor(ids[begin:end])[:, None]).sum().item()
    result = measure_perplexity(
        model, tokenizer, texts, window=max_length + 1, stride=max_length, convention="lm-eval"
    )
    assert result.nats == pytest.approx(nats, rel=1e-5)
    assert result.num_tokens == 4 + 2 + 0 + 9 + 2
    # White space at either end of a text separates an empty word from the others.
    assert result.num_words == 4 + 2 + 1 + 9 + 4
    assert result.num_bytes == sum(map(len, texts))
    if max_length == 50:
        whole = measure_perplexity(model, tokenizer, texts, convention="lm-eval")
        assert whole.nats == pytest.approx(nats, rel=1e-5)


def test_the_standard_error_is_that_of_the_losses_of_documents(model, tokenizer):
    """However they are read: in chunks, and in windows that are a part of a document."""
    texts = TEXTS * 8
    sums, lengths = [], []
    for text in texts:
        ids = tokenizer(END_OF_TEXT + text + END_OF_TEXT, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            log_probs = model(ids).logits[0].log_softmax(-1)[:-1]
        sums.append(-log_probs.gather(1, ids[0, 1:, None]).sum().item())
        lengths.append(len(log_probs))
    loss = sum(sums) / sum(lengths)
    squares = sum((s - loss * n) ** 2 for s, n in zip(sums, lengths))
    expected = math.sqrt(32 / 31 * squares) / sum(lengths)
    for options in ({}, dict(window=50, stride=7)):
        result = measure_perplexity(model, tokenizer, texts, **options)
        assert (result.loss_error.unit, result.loss_error.num_units) == ("documents", 32)
        assert result.loss_error.value == pytest.approx(expected, rel=1e-4)
        # exp(loss ± error) is perplexity * (1 ± error) to first order.
        upper = math.exp(loss + expected) - math.exp(loss)
        assert result.perplexity_standard_error == pytest.approx(upper, rel=expected)
    assert Perplexity(2.0, 1, 1, 1).perplexity_standard_error is None


@pytest.mark.parametrize("options", [{}, dict(window=3, stride=1), dict(convention="lm-eval")])
def test_one_text_has_blocks_in_its_own_order(model, tokenizer, options, monkeypatch):
    """Of the same tokens in another order the blocks, and so their error, would differ."""
    text = " ".join([*["oil"] * 40, *["gold fell"] * 20])
    seen = []
    monkeypatch.setattr(perplexity, "standard_error", lambda losses: seen.extend(losses) or None)
    for positions_per_chunk in (4096, 7):
        monkeypatch.setattr(perplexity, "POSITIONS_PER_CHUNK", positions_per_chunk)
        result = measure_perplexity(model, tokenizer, [text], **options)
        assert result.loss_error is None
    assert len(seen) == 2 and len(seen[0]) == result.num_tokens
    assert seen[0] == pytest.approx(seen[1], abs=1e-4)
    assert seen[0].sum() == pytest.approx(result.nats, rel=1e-5)
    if not options:
        ids = tokenizer(END_OF_TEXT + text + END_OF_TEXT, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            log_probs = model(ids).logits[0].log_softmax(-1)[:-1]
        own = -log_probs.gather(1, ids[0, 1:, None])[:, 0]
        assert seen[0] == pytest.approx(own.numpy(), abs=1e-4)


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ([], {}, "texts: expected at least one text"),
        (TEXTS, dict(window=1), "window=1: expected an integer >= 2"),
        (TEXTS, dict(window=9, stride=9), "stride=9: expected 1 to 8"),
        (TEXTS, dict(window=9, stride=0), "stride=0: expected 1 to 8"),
        (TEXTS, dict(convention="lm"), "convention='lm': expected one of end-of-text, lm-eval"),
        (["", ""], dict(convention="lm-eval"), "texts: .* all texts are empty"),
    ],
)
def test_invalid_arguments_are_refused(model, tokenizer, texts, options, message):
    with pytest.raises(ValueError, match=message):
        measure_perplexity(model, tokenizer, texts, **options)
