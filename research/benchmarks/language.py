"""Language models beside attention: training against length, and decoding against context.

Three models of equal size: sums made by gates in every layer, fused attention in every layer, and
feed-forward layers alone, which are the limit of what a mixer can leave. Where a mixer has fewer
weights the feed-forward layers are wider.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Cache, StaticCache

from hyperagg._common.report import environment
from hyperagg.language import HyperAggCache, HyperAggConfig, HyperAggForCausalLM
from hyperagg.layers import CausalAggregation
from research.benchmarks.interleaved import interleaved, item_by_item, torch_threads

__all__ = [
    "ATTENTION",
    "FEED_FORWARD",
    "FULL_LANGUAGE",
    "GATE",
    "IN_PLACE",
    "QUICK_LANGUAGE",
    "LanguageSizes",
    "bench_language",
]

GATE, ATTENTION, FEED_FORWARD = "expanded gate", "attention", "feed-forward only"
# Attention at its best in decoding: its usual cache is copied for every token.
IN_PLACE = "attention, cache in place"
KINDS = {GATE: "gated", ATTENTION: "full_attention", FEED_FORWARD: "identity"}

Models = dict[str, HyperAggForCausalLM]
Seconds = dict[str, list[tuple[int, float]]]


@dataclass(frozen=True)
class LanguageSizes:
    """What is timed, and how often.

    Args:
        d, layers, heads, vocabulary: of the models.
        tokens: of a training step, whatever the length; every length divides it.
        lengths: N of the rows of a step.
        contexts: tokens before those that are decoded.
        chunk: tokens that a context is read by.
        steps: tokens decoded after each context.
        rounds: of every call at least, see `interleaved`.
        budget: seconds for more rounds of one length's training steps; of what is shorter,
            an eighth.
    """

    d: int = 256
    layers: int = 4
    heads: int = 4
    vocabulary: int = 2048
    tokens: int = 16_384
    lengths: tuple[int, ...] = (256, 1024, 4096, 16_384)
    contexts: tuple[int, ...] = (1000, 10_000, 100_000)
    chunk: int = 2048
    steps: int = 50
    rounds: int = 3
    budget: float = 45.0


FULL_LANGUAGE = LanguageSizes()
QUICK_LANGUAGE = LanguageSizes(16, 2, 2, 64, 256, (16, 64, 256), (20, 200), 16, 4, 1, 0.0)

# What is to be timed at a length.
Makers = dict[str, Callable[[int, LanguageSizes], Callable[[], object]]]


def bench_language(
    threads: Sequence[int] | None = None,
    sizes: LanguageSizes = FULL_LANGUAGE,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Times everything; returns what `write_language_page` makes a page of.

    Args:
        threads: how many, one after the other; None: as many as PyTorch takes.
        sizes: shapes and rounds.
        say: told what is being timed.

    Raises:
        ValueError: a model's decoding does not give the logits of the whole text.
    """
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    torch.manual_seed(0)
    models = _models(sizes)
    say("decoding compared with whole texts")
    for name in (*models, IN_PLACE):
        _parity(name, models, sizes)
    threads = list(threads or [torch.get_num_threads()])
    found: dict[str, list[dict[str, Any]]] = {"training": [], "mixers": [], "decoding": []}
    training: Makers = {name: partial(_training, model) for name, model in models.items()}
    mixers: Makers = {name: partial(_mixing, models[name]) for name in (GATE, ATTENTION)}
    for number in threads:
        with torch_threads(number):
            for part, makers, budget in (
                ("training", training, sizes.budget),
                ("mixers", mixers, sizes.budget / 8),
            ):
                seconds: Seconds = {name: [] for name in makers}
                for n in sizes.lengths:
                    say(f"{part}, threads: {number}, length: {n:,}")
                    calls = {name: make(n, sizes) for name, make in makers.items()}
                    for name, median in interleaved(calls, budget, sizes.rounds).items():
                        seconds[name].append((n, median))
                found[part].append({"threads": number, **_with_slopes(seconds)})
            for context in sizes.contexts:
                say(f"decoding, threads: {number}, context: {context:,}")
                found["decoding"].append({"threads": number, **_decoding(models, context, sizes)})
    return {
        "environment": {**environment(), "transformers": version("transformers"), "load": load},
        "attention": models[ATTENTION].config._attn_implementation,
        "sizes": asdict(sizes),
        "threads": threads,
        "models": {
            name: {
                "parameters": model.num_parameters(),
                "of_a_mixer": _count(model.model.layers[0].mixer),
                "feed_forward_width": model.config.intermediate_size,
            }
            for name, model in models.items()
        },
        **found,
    }


def _models(sizes: LanguageSizes) -> Models:
    """All with about as many weights as attention whose feed-forward layers are 4 D wide."""
    wanted = _weights(_config(sizes, ATTENTION, 4 * sizes.d))
    models = {}
    for name in KINDS:
        narrow = _weights(_config(sizes, name, sizes.d))
        width = sizes.d + (wanted - narrow) / (2 * sizes.d * sizes.layers)
        models[name] = HyperAggForCausalLM(_config(sizes, name, round(width)))
    return models


def _config(sizes: LanguageSizes, name: str, width: int) -> HyperAggConfig:
    return HyperAggConfig(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.d,
        intermediate_size=width,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        layer_types=KINDS[name],
    )


def _weights(config: HyperAggConfig) -> int:
    with torch.device("meta"):
        return HyperAggForCausalLM(config).num_parameters()


def _count(module: nn.Module | None) -> int:
    return sum(p.numel() for p in module.parameters()) if module else 0


def _training(model: HyperAggForCausalLM, n: int, sizes: LanguageSizes) -> Callable[[], object]:
    """A step: forward, backward, and AdamW as the Trainer runs it."""
    ids = torch.randint(sizes.vocabulary, (sizes.tokens // n, n))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        model.train()
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _mixing(model: HyperAggForCausalLM, n: int, sizes: LanguageSizes) -> Callable[[], object]:
    """The first layer's mixer alone, forward and backward."""
    mixer = model.model.layers[0].mixer
    assert mixer is not None
    u = torch.randn(sizes.tokens // n, n, sizes.d, requires_grad=True)
    grad = torch.randn_like(u)
    given: dict[str, Any] = {}
    if not isinstance(mixer, CausalAggregation):
        # All layers of a model share the rotation, so it is not charged to one.
        rotation = model.model.rotary_emb(u, position_ids=torch.arange(n)[None])
        given = {"position_embeddings": rotation, "attention_mask": None}
    leaves = [u, *mixer.parameters()]
    return lambda: torch.autograd.grad(mixer(u, **given)[0], leaves, grad)


def _with_slopes(seconds: Seconds) -> dict[str, Any]:
    """Slopes of log seconds a step on log N: over all lengths, and from the last but one on."""
    return {
        "seconds": seconds,
        "slopes": {name: _slope(times) for name, times in seconds.items()},
        "slopes_of_long": {name: _slope(times[-2:]) for name, times in seconds.items()},
    }


def _slope(times: Sequence[tuple[int, float]]) -> float:
    x, y = np.log(times).T
    return float(np.polyfit(x, y, 1)[0])


@torch.no_grad()
def _decoding(models: Models, context: int, sizes: LanguageSizes) -> dict[str, Any]:
    """Milliseconds a token after `context` tokens, bytes of state, and our reading of a context."""
    ids = torch.randint(sizes.vocabulary, (1, context))
    read: list[Cache] = []

    def reading() -> None:
        read[:] = [_read(models[GATE].eval(), ids, sizes.chunk)]

    seconds = interleaved({"reading": reading}, sizes.budget / 8, sizes.rounds)["reading"]
    milliseconds, state = {}, {}
    # One by one: a context is compared with other contexts, and the keys of a long one would drive
    # the other models' weights out of the caches.
    for name in (GATE, FEED_FORWARD, ATTENTION, IN_PLACE):
        model, cache = _with_cache(name, models, context + sizes.steps + 1)
        if name == GATE:
            cache = read.pop()
        elif name != FEED_FORWARD:  # which keeps nothing of a context
            _fill(cache, context, model.config)
        state[name] = _bytes(cache)
        step = _Greedy(model, cache)
        step(0)  # to warm up
        milliseconds[name] = 1000 * item_by_item({name: step}, sizes.steps)[name]
    return {
        "context": context,
        "milliseconds": milliseconds,
        "bytes": state,
        "reading_seconds": seconds,
    }


def _with_cache(name: str, models: Models, longest: int) -> tuple[HyperAggForCausalLM, Cache]:
    model = models[ATTENTION if name == IN_PLACE else name].eval()
    if name == IN_PLACE:
        return model, StaticCache(config=model.config, max_cache_len=longest)
    return model, HyperAggCache(model.config)


def _read(model: HyperAggForCausalLM, ids: Tensor, chunk: int, cache: Cache | None = None) -> Cache:
    cache = HyperAggCache(model.config) if cache is None else cache
    for part in ids.split(chunk, 1):
        model(input_ids=part, past_key_values=cache, logits_to_keep=1)
    return cache


def _fill(cache: Cache, context: int, config: HyperAggConfig) -> None:
    """Random keys and values: to read a long context would take attention many minutes, and what a
    step costs does not depend on them."""
    shape = (1, config.num_key_value_heads, context, config.head_dim)
    for layer in range(config.num_hidden_layers):
        cache.update(torch.randn(shape), torch.randn(shape), layer)


class _Greedy:
    """Decodes the likeliest token, one a call."""

    def __init__(self, model: HyperAggForCausalLM, cache: Cache) -> None:
        self.model, self.cache = model, cache
        self.token = torch.zeros(1, 1, dtype=torch.int64)

    def __call__(self, _: int) -> None:
        logits = self.model(input_ids=self.token, past_key_values=self.cache).logits
        self.token = logits[:, -1].argmax(-1, keepdim=True)


def _bytes(cache: Cache) -> int:
    """Of all memory that the cache's tensors hold on to, and not of what they show of it alone."""
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for layer in cache.layers
        for tensor in _tensors(tuple(vars(layer).values()))
    }
    return sum(storages.values())


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple):
        for each in value:
            yield from _tensors(each)


@torch.no_grad()
def _parity(name: str, models: Models, sizes: LanguageSizes) -> None:
    """Logits of a short text, read by parts and then token by token, against those of it whole."""
    n, last = 80, 16
    ids = torch.randint(sizes.vocabulary, (1, n))
    model, cache = _with_cache(name, models, n)
    want = model(input_ids=ids).logits[:, -last:]
    _read(model, ids[:, :-last], 25, cache)
    got = torch.cat(
        [
            model(input_ids=token, past_key_values=cache).logits
            for token in ids[:, -last:].split(1, 1)
        ],
        1,
    )
    error = float((got - want).abs().max() / want.abs().max())
    if not error <= 1e-4:
        raise ValueError(
            f"{name}: decoding differs from the whole text by {error:.1e} of the largest logit"
        )
