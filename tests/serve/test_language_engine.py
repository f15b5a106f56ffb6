"""Generation of many texts at a time, from kept states and without."""

from __future__ import annotations

import threading
from unittest.mock import Mock

import pytest

torch = pytest.importorskip("torch")

from hyperagg.language import HyperAggCache, HyperAggConfig, HyperAggForCausalLM  # noqa: E402
from hyperagg.language.tokenizer import train_tokenizer  # noqa: E402
from hyperagg.serve.language import engine as engine_module  # noqa: E402
from hyperagg.serve.language.engine import (  # noqa: E402
    Engine,
    Finished,
    GenerationRequest,
    OverloadedError,
    Piece,
    PromptRead,
)
from hyperagg.serve.language.settings import LanguageSettings  # noqa: E402
from hyperagg.serve.language.state_cache import StateCache  # noqa: E402

TOKENIZER = train_tokenizer(["oil prices rose", "gold fell"] * 9, "bpe", 300)
LAYER_TYPES = ["gated", "gated_associative", "prefix_sum", ["complex_decay", "full_attention"]]


@pytest.fixture
def make_engine(monkeypatch):
    monkeypatch.setattr(engine_module, "_CHUNK", 8)

    def make(layer_types="gated", **limits):
        torch.manual_seed(0)
        config = HyperAggConfig(
            vocab_size=len(TOKENIZER),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            layer_types=layer_types,
            conv_kernel_size=3,
        )
        return Engine(HyperAggForCausalLM(config).eval(), TOKENIZER, LanguageSettings(**limits))

    return make


def generate(engine, *requests):
    """The events of each request."""
    events = [[] for _ in requests]
    engine.submit([(request, each.append) for request, each in zip(requests, events)])
    engine.close()
    return events


def text_of(events, choice=0):
    return "".join(e.text for e in events if isinstance(e, Piece) and e.choice == choice)


def logprobs_of(events):
    return [t.logprob for e in events if isinstance(e, Piece) for t in e.tokens]


@pytest.mark.parametrize("layer_types", LAYER_TYPES, ids=str)
def test_texts_of_any_lengths_together_are_those_of_generate(make_engine, layer_types):
    engine = make_engine(layer_types)
    prompts = [[0], [0, 5], [0, *range(20, 60)], [0] + [7] * 30]
    requests = [
        GenerationRequest(prompt, max_tokens=4 + index, temperature=0, num_choices=1 + index % 2)
        for index, prompt in enumerate(prompts)
    ]
    for request, events in zip(requests, generate(engine, *requests)):
        expected = engine.model.generate(
            torch.tensor([request.prompt]),
            max_new_tokens=request.max_tokens,
            do_sample=False,
            eos_token_id=0,
            pad_token_id=0,
        )[0, len(request.prompt) :]
        for choice in range(request.num_choices):
            assert text_of(events, choice) == TOKENIZER.decode(expected, skip_special_tokens=True)
        assert isinstance(events[0], PromptRead)
        assert isinstance(events[-1], Finished)
    assert engine.num_jobs == 0


@pytest.mark.parametrize("layer_types", LAYER_TYPES, ids=str)
def test_a_kept_state_gives_the_same_answer(make_engine, layer_types):
    prompt = [0, *range(30, 60)]
    options = dict(max_tokens=12, temperature=0, num_logprobs=0)
    engine, without = make_engine(layer_types), make_engine(layer_types, state_cache_bytes=0)
    first, again = (generate(engine, GenerationRequest(prompt, **options))[0] for _ in range(2))
    assert (first[0].cached_tokens, again[0].cached_tokens) == (0, len(prompt) - 1)
    # The longer text begins as the prompt does, and as the completion after it.
    tokens = [t.token for e in first if isinstance(e, Piece) for t in e.tokens]
    longer = GenerationRequest([*prompt, *tokens, 9], **options)
    continued = generate(engine, longer)[0]
    assert continued[0].cached_tokens == len(prompt) + len(tokens) - 1
    # One that differs in the middle shares a chunk, unless keys and values would be kept for it.
    other = generate(engine, GenerationRequest([*prompt[:20], 5, 6], **options))[0]
    assert other[0].cached_tokens == (16 if isinstance(layer_types, str) else 0)
    for request, events in ((GenerationRequest(prompt, **options), again), (longer, continued)):
        expected = generate(without, request)[0]
        assert expected[0].cached_tokens == 0
        assert text_of(events) == text_of(expected)
        assert logprobs_of(events) == pytest.approx(logprobs_of(expected), abs=1e-5)
    assert len(without.states) == 0


def test_log_probabilities_of_a_prompt_are_those_of_one_pass(make_engine):
    engine = make_engine()
    prompt = [0, *range(30, 60)]
    for _ in range(2):  # a kept state does not replace the reading
        request = GenerationRequest(prompt, max_tokens=0, num_logprobs=2, prompt_logprobs=True)
        read, end = generate(engine, request)[0]
        with torch.no_grad():
            expected = engine.model(torch.tensor([prompt])).logits[0].log_softmax(-1)
        values = [t.logprob for t in read.logprobs]
        assert values[0] is None
        wanted = [float(row[token]) for row, token in zip(expected, prompt[1:])]
        assert values[1:] == pytest.approx(wanted, abs=1e-5)
        assert [t.token for t in read.logprobs] == prompt
        assert end.generated_tokens == 0


def test_a_cancelled_request_is_read_and_continued_no_further(make_engine):
    engine = make_engine()
    calls, started, go_on = [], threading.Event(), threading.Event()
    forward = engine.model.forward

    def slow(ids, **kwargs):
        calls.append(ids.shape[1])
        started.set()
        assert go_on.wait(10)
        return forward(ids, **kwargs)

    engine.model.forward = slow
    reading = engine.submit([(GenerationRequest([0] * 8000), lambda event: None)])
    assert started.wait(10)
    reading[0].is_cancelled = True
    go_on.set()
    engine.close()
    assert (len(calls), engine.num_jobs) == (1, 0)
    events = []

    def cancel(event):
        events.append(event)
        jobs[0].is_cancelled = len(events) > 3

    ready = threading.Event()
    request = GenerationRequest([5], max_tokens=4000)
    jobs = engine.submit([(request, lambda event: ready.wait(10) and cancel(event))])
    ready.set()
    engine.close()
    assert len(calls) < 100
    assert engine.num_jobs == 0


def test_an_error_ends_its_request_alone(make_engine):
    engine = make_engine()
    forward = engine.model.forward

    def fail(ids, **kwargs):
        output = forward(ids, **kwargs)
        if ids.shape == (1, 1) and ids[0, 0] == 9:
            output.logits[:] = float("nan")
        return output

    engine.model.forward = fail
    bad, good = generate(engine, GenerationRequest([9]), GenerationRequest([5], temperature=0))
    assert isinstance(bad[-1], FloatingPointError)
    assert isinstance(good[-1], Finished)
    assert engine.num_jobs == 0


@pytest.mark.parametrize(
    "method", ["_drop_cancelled", "_read", "_forward", "_step", "_advance", "_retain", "_merge"]
)
def test_an_error_anywhere_ends_the_requests_and_later_ones_run(make_engine, monkeypatch, method):
    engine = make_engine()
    original = getattr(engine, method)
    monkeypatch.setattr(engine, method, Mock(side_effect=MemoryError))
    events = generate(engine, GenerationRequest([5]), GenerationRequest([6]))
    assert all(isinstance(each[-1], MemoryError) for each in events) and not engine.num_jobs
    monkeypatch.setattr(engine, method, original)
    (after,) = generate(engine, GenerationRequest([5]))
    assert isinstance(after[-1], Finished)


def test_more_requests_than_allowed_are_refused_whole(make_engine):
    engine = make_engine(max_generations=2)
    with pytest.raises(OverloadedError):
        engine.submit([(GenerationRequest([0]), print)] * 3)
    assert engine.num_jobs == 0


def test_the_least_recently_used_states_are_forgotten(make_engine):
    model = make_engine().model
    with torch.no_grad():
        state = model(torch.tensor([[1]]), use_cache=True).past_key_values
    states = StateCache(max_bytes=3 * state.num_bytes, max_entries=10)
    for token in (1, 2, 3):
        states.keep([token], state)
    assert states.find([1, 7])[0] == 1  # used, so that [2] is the oldest
    states.keep([4], state)
    assert [states.find([token, 7])[0] for token in (1, 2, 3, 4)] == [1, 0, 1, 1]
    assert states.num_bytes == 3 * state.num_bytes
    few = StateCache(max_bytes=10**9, max_entries=1)
    few.keep([1], state)
    few.keep([1, 2], state)
    assert (len(few), few.find([1, 2, 3])[0], few.find([1, 2])[0]) == (1, 2, 0)
    too_small = StateCache(max_bytes=state.num_bytes - 1, max_entries=9)
    too_small.keep([1], state)
    assert len(too_small) == 0


def test_a_kept_state_does_not_hold_what_it_is_a_part_of(make_engine):
    """A view into the inputs of a chunk would keep all of the chunk in memory."""
    model = make_engine().model
    states = StateCache(max_bytes=10**9, max_entries=9)
    with torch.no_grad():
        states.keep([1] * 500, model(torch.ones(1, 500).long(), use_cache=True).past_key_values)
    _, cache = states.find([1] * 501)
    assert isinstance(cache, HyperAggCache)
    for layer in cache.layers:
        for tensor in (layer.sums, layer.conv_state):
            assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
