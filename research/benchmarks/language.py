"""Speed of language models: training by length, and decoding by context.

Models of equal size: gated sums in every layer, associative sums beside them or alone, fused
attention, and feed-forward layers only, the physical limit for a mixer. Where a mixer has fewer
weights, the feed-forward layers are wider.
"""

from __future__ import annotations

import logging
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
from research.benchmarks.interleaved import interleaved, interleaved_items, torch_threads

__all__ = [
    "ASSOCIATIVE",
    "ATTENTION",
    "FEED_FORWARD",
    "FULL_LANGUAGE",
    "GATED",
    "GATED_ASSOCIATIVE",
    "MIXERS",
    "QUICK_LANGUAGE",
    "STATIC_CACHE",
    "SUMS",
    "LanguageSizes",
    "bench_language",
]

logger = logging.getLogger(__name__)

GATED, GATED_ASSOCIATIVE, ASSOCIATIVE = "expanded gated", "gated + associative", "associative"
ATTENTION, FEED_FORWARD = "attention", "feed-forward only"
# Attention at its best in decoding: its default cache is copied for every token.
STATIC_CACHE = "attention, static cache"
# The models whose state does not grow.
SUMS = (GATED, GATED_ASSOCIATIVE, ASSOCIATIVE)
# Associative heads have D / 8 keys and values.
MIXERS: dict[str, dict[str, Any]] = {
    GATED: dict(layer_types="gated"),
    GATED_ASSOCIATIVE: dict(layer_types="gated_associative", num_associative_heads=2),
    ASSOCIATIVE: dict(layer_types="associative", num_associative_heads=8),
    ATTENTION: dict(layer_types="full_attention"),
    FEED_FORWARD: dict(layer_types="identity"),
}

Models = dict[str, HyperAggForCausalLM]
Seconds = dict[str, list[tuple[int, float]]]


@dataclass(frozen=True)
class LanguageSizes:
    """Shapes and rounds of the measurements.

    Args:
        d, layers, heads, vocab_size: sizes of the models.
        tokens: tokens per training step at every length; a multiple of every length.
        lengths: tokens per row.
        contexts: tokens before decoding starts.
        chunk: tokens per chunk in which a context is read.
        steps: tokens to decode after each context.
        rounds: minimum number of rounds, see `interleaved`.
        budget: seconds for additional rounds of the training steps of one length; shorter
            measurements get an eighth.
    """

    d: int = 256
    layers: int = 4
    heads: int = 4
    vocab_size: int = 2048
    tokens: int = 16_384
    lengths: tuple[int, ...] = (256, 1024, 4096, 16_384)
    contexts: tuple[int, ...] = (1000, 10_000, 100_000)
    chunk: int = 2048
    steps: int = 50
    rounds: int = 3
    budget: float = 45.0


FULL_LANGUAGE = LanguageSizes()
QUICK_LANGUAGE = LanguageSizes(16, 2, 2, 64, 256, (16, 64, 256), (20, 200), 16, 4, 1, 0.0)

# Functions that make the calls to time at a length.
Factories = dict[str, Callable[[int, LanguageSizes], Callable[[], object]]]


def bench_language(
    threads: Sequence[int] | None = None,
    sizes: LanguageSizes = FULL_LANGUAGE,
) -> dict[str, Any]:
    """Measure training and decoding.

    Args:
        threads: numbers of threads to measure (default: the number that PyTorch uses).
        sizes: shapes and rounds.

    Returns:
        The results that `write_language_page` takes.

    Raises:
        ValueError: decoding does not give the logits of the whole text.
    """
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    torch.manual_seed(0)
    models = _models(sizes)
    logger.info("comparing decoding with whole texts")
    for name in (*models, STATIC_CACHE):
        _check_parity(name, models, sizes)
    threads = list(threads or [torch.get_num_threads()])
    results: dict[str, list[dict[str, Any]]] = {"training": [], "mixers": [], "decoding": []}
    training: Factories = {name: partial(_training_step, model) for name, model in models.items()}
    mixers: Factories = {name: partial(_mixer_step, models[name]) for name in (*SUMS, ATTENTION)}
    for number in threads:
        with torch_threads(number):
            for part, factories, budget in (
                ("training", training, sizes.budget),
                ("mixers", mixers, sizes.budget / 8),
            ):
                seconds: Seconds = {name: [] for name in factories}
                for n in sizes.lengths:
                    logger.info("%s, threads: %d, length: %d", part, number, n)
                    calls = {name: make(n, sizes) for name, make in factories.items()}
                    for name, median in interleaved(calls, budget, sizes.rounds).items():
                        seconds[name].append((n, median))
                results[part].append({"threads": number, **_with_slopes(seconds)})
            for context in sizes.contexts:
                logger.info("decoding, threads: %d, context: %d", number, context)
                results["decoding"].append({"threads": number, **_decoding(models, context, sizes)})
    return {
        "environment": {**environment(), "transformers": version("transformers"), "load": load},
        "attention": models[ATTENTION].config._attn_implementation,
        "sizes": asdict(sizes),
        "threads": threads,
        "models": {
            name: {
                "parameters": model.num_parameters(),
                "mixer_parameters": _count(model.model.layers[0].mixer),
                "feed_forward_width": model.config.intermediate_size,
            }
            for name, model in models.items()
        },
        **results,
    }


def _models(sizes: LanguageSizes) -> Models:
    """Models with about as many weights as attention with feed-forward layers of width 4 D."""
    target = _weights(_config(sizes, ATTENTION, 4 * sizes.d))
    models = {}
    for name in MIXERS:
        narrow = _weights(_config(sizes, name, sizes.d))
        width = sizes.d + (target - narrow) / (2 * sizes.d * sizes.layers)
        models[name] = HyperAggForCausalLM(_config(sizes, name, round(width)))
    return models


def _config(sizes: LanguageSizes, name: str, width: int) -> HyperAggConfig:
    return HyperAggConfig(
        vocab_size=sizes.vocab_size,
        hidden_size=sizes.d,
        intermediate_size=width,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        associative_head_dim=sizes.d // 8,
        **MIXERS[name],
    )


def _weights(config: HyperAggConfig) -> int:
    with torch.device("meta"):
        return HyperAggForCausalLM(config).num_parameters()


def _count(module: nn.Module | None) -> int:
    return sum(p.numel() for p in module.parameters()) if module else 0


def _training_step(
    model: HyperAggForCausalLM, n: int, sizes: LanguageSizes
) -> Callable[[], object]:
    """A training step: forward, backward, and AdamW as in the Trainer."""
    ids = torch.randint(sizes.vocab_size, (sizes.tokens // n, n))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        model.train()
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _mixer_step(model: HyperAggForCausalLM, n: int, sizes: LanguageSizes) -> Callable[[], object]:
    """Forward and backward of the mixer of the first layer."""
    mixer = model.model.layers[0].mixer
    assert mixer is not None
    u = torch.randn(sizes.tokens // n, n, sizes.d, requires_grad=True)
    grad = torch.randn_like(u)
    arguments: dict[str, Any] = {}
    if model.model.layers[0].layer_type == "full_attention":
        # All layers of a model share the rotation, so it is not part of the time of one.
        rotation = model.model.rotary_emb(u, position_ids=torch.arange(n)[None])
        arguments = {"position_embeddings": rotation, "attention_mask": None}
    leaves = [u, *mixer.parameters()]
    return lambda: torch.autograd.grad(mixer(u, **arguments)[0], leaves, grad)


def _with_slopes(seconds: Seconds) -> dict[str, Any]:
    """Add slopes of log seconds on log N: over all lengths, and over the two longest."""
    return {
        "seconds": seconds,
        "slopes": {name: _slope(times) for name, times in seconds.items()},
        "slopes_at_large_n": {name: _slope(times[-2:]) for name, times in seconds.items()},
    }


def _slope(times: Sequence[tuple[int, float]]) -> float:
    x, y = np.log(times).T
    return float(np.polyfit(x, y, 1)[0])


@torch.no_grad()
def _decoding(models: Models, context: int, sizes: LanguageSizes) -> dict[str, Any]:
    """Measure ms per token after `context` tokens, bytes of state, and the prefill of sums."""
    ids = torch.randint(sizes.vocab_size, (1, context))
    prefilled: dict[str, Cache] = {}

    def prefill(name: str) -> None:
        prefilled[name] = _prefill(models[name].eval(), ids, sizes.chunk)

    prefills: dict[str, Callable[[], object]] = {name: partial(prefill, name) for name in SUMS}
    seconds = interleaved(prefills, sizes.budget / 8, sizes.rounds)
    milliseconds, state = {}, {}
    # Not interleaved: a context is compared with other contexts, and the keys of a long one would
    # evict the weights of the other models from the caches.
    for name in (*SUMS, FEED_FORWARD, ATTENTION, STATIC_CACHE):
        model, cache = _with_cache(name, models, context + sizes.steps + 1)
        if name in SUMS:
            cache = prefilled.pop(name)
        elif name != FEED_FORWARD:  # its cache is empty
            _fill(cache, context, model.config)
        state[name] = _bytes(cache)
        step = _Greedy(model, cache)
        step(0)  # warm-up
        milliseconds[name] = 1000 * interleaved_items({name: step}, sizes.steps)[name]
    return {
        "context": context,
        "milliseconds": milliseconds,
        "bytes": state,
        "prefill_seconds": seconds,
    }


def _with_cache(name: str, models: Models, longest: int) -> tuple[HyperAggForCausalLM, Cache]:
    model = models[ATTENTION if name == STATIC_CACHE else name].eval()
    if name == STATIC_CACHE:
        return model, StaticCache(config=model.config, max_cache_len=longest)
    return model, HyperAggCache(model.config)


def _prefill(
    model: HyperAggForCausalLM, ids: Tensor, chunk: int, cache: Cache | None = None
) -> Cache:
    cache = HyperAggCache(model.config) if cache is None else cache
    for part in ids.split(chunk, 1):
        model(input_ids=part, past_key_values=cache, logits_to_keep=1)
    return cache


def _fill(cache: Cache, context: int, config: HyperAggConfig) -> None:
    """Fill a cache with random keys and values.

    Attention would take many minutes to read a long context, and the time of a step does not depend
    on the values.
    """
    shape = (1, config.num_key_value_heads, context, config.head_dim)
    for layer in range(config.num_hidden_layers):
        cache.update(torch.randn(shape), torch.randn(shape), layer)


class _Greedy:
    """Decode the most probable token, one per call."""

    def __init__(self, model: HyperAggForCausalLM, cache: Cache) -> None:
        self.model, self.cache = model, cache
        self.token = torch.zeros(1, 1, dtype=torch.int64)

    def __call__(self, _: int) -> None:
        logits = self.model(input_ids=self.token, past_key_values=self.cache).logits
        self.token = logits[:, -1].argmax(-1, keepdim=True)


def _bytes(cache: Cache) -> int:
    """Bytes of the whole storages of a cache, not only of the visible parts of its tensors."""
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
def _check_parity(name: str, models: Models, sizes: LanguageSizes) -> None:
    """Compare the logits of a text in chunks and single tokens with those of a single pass."""
    n, last = 80, 16
    ids = torch.randint(sizes.vocab_size, (1, n))
    model, cache = _with_cache(name, models, n)
    expected = model(input_ids=ids).logits[:, -last:]
    _prefill(model, ids[:, :-last], 25, cache)
    actual = torch.cat(
        [
            model(input_ids=token, past_key_values=cache).logits
            for token in ids[:, -last:].split(1, 1)
        ],
        1,
    )
    error = float((actual - expected).abs().max() / expected.abs().max())
    if not error <= 1e-4:
        raise ValueError(
            f"{name}: decoding differs from the whole text by {error:.1e} of the largest logit"
        )
