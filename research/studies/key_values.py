"""Prompts of key-value lines: does a language model find the number of a name?

A text lists names with a number each, and then the same names in another order with the same
numbers. Names and numbers are drawn anew for every text, so a model that answers has read the list.
All models have equally many weights, the same texts and steps, and each its best learning rate on
validation prompts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase, set_seed

from hyperagg._common.atomic import atomic_write
from hyperagg._common.report import environment, markdown_table, write_results
from hyperagg._common.runs import Runs
from hyperagg.language import HyperAggCache, HyperAggForCausalLM
from hyperagg.language.packing import PackedDataset, pack
from hyperagg.language.tokenizer import encode, train_tokenizer
from hyperagg.language.trainer import TrainingConfig, train_model
from research.studies.language_mixers import Size, build_model, non_embedding_parameters
from research.studies.learning_rate_search import search_learning_rate

__all__ = [
    "MODELS",
    "ask",
    "draw_names",
    "draw_pairs",
    "key_values_table",
    "run_key_values",
    "text_of",
]

logger = logging.getLogger(__name__)

# Rows of `language_mixers.MIXERS`.
MODELS = ("expanded gated", "gated + associative", "attention")
PAIRS = 50
NAMES, NUMBERS = 500, 900
INITIAL_LEARNING_RATES = (4e-3, 8e-3)
# Tokens of the context after which the caches are compared.
CONTEXTS = (100, 1_000, 10_000)
_BATCH_SIZE = 8
_SYLLABLES = [first + vowel for first in "bdfgklmnprstvz" for vowel in "aeiou"]


def draw_names() -> list[str]:
    """Return the NAMES made-up names of two syllables that all texts choose from."""
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(_SYLLABLES) ** 2, NAMES, replace=False)
    return [_SYLLABLES[i // len(_SYLLABLES)] + _SYLLABLES[i % len(_SYLLABLES)] for i in chosen]


def draw_pairs(rng: np.random.Generator, names: list[str], pairs: int = PAIRS) -> dict[str, int]:
    """Draw different names, each with a number of three digits."""
    chosen = rng.choice(len(names), pairs, replace=False)
    numbers = rng.integers(1000 - NUMBERS, 1000, pairs)
    return {names[i]: int(number) for i, number in zip(chosen, numbers)}


def text_of(pairs: dict[str, int], rng: np.random.Generator) -> str:
    """Return a text for training: the lines of all pairs, and again in another order.

    Example:
        >>> print(text_of({"mira": 412}, np.random.default_rng(0)))
        mira 412
        mira 412
    """
    lines = _lines(pairs)
    return "\n".join([*lines, *rng.permutation(lines).tolist()])


def run_key_values(
    out: Path,
    *,
    d_model: int = 128,
    layers: int = 2,
    texts: int = 16_000,
    prompts: int = 40,
    resume: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Train every model at its best learning rate; write results.json, table.md and the models.

    Args:
        out: output folder.
        d_model, layers: size of the models.
        texts: number of training texts, each of which is seen once.
        prompts: number of prompts that are drawn for validation, and of those for the test.
            Each is asked for all of its names.
        resume: continue after the last finished run of an earlier call.
        progress: show a bar per run.

    Returns:
        The contents of results.json.

    Raises:
        ValueError: `out` holds runs with other arguments.
    """
    names = draw_names()
    size = Size(d_model, layers, max(1, d_model // 32))
    runs = Runs(out / "runs.json", f"key-values, {size}, {texts} texts, {prompts} prompts", resume)
    study = _Study(out, size, names, texts, prompts, runs, progress)
    models = {}
    for name in MODELS:
        rate = search_learning_rate(partial(study.error, name), INITIAL_LEARNING_RATES)
        models[name] = {**study.run(name, rate), "learning_rate": rate}
        logger.info("%s: %.1f %% of answers right", name, 100 * models[name]["test"])
    example = draw_pairs(np.random.default_rng(3), names)
    results = {
        "pairs": PAIRS,
        "names": NAMES,
        "numbers": NUMBERS,
        "d_model": d_model,
        "layers": layers,
        "texts": texts,
        "tokens_per_text": 4 * PAIRS + 1,
        "questions": prompts * PAIRS,
        "environment": environment(),
        "models": models,
        "example": "\n".join(_lines(example)),
    }
    write_results(out, results)
    with atomic_write(out / "table.md") as draft:
        draft.write_text(key_values_table(results), "utf-8")
    return results


class _Study:
    def __init__(
        self,
        out: Path,
        size: Size,
        names: list[str],
        texts: int,
        prompts: int,
        runs: Runs,
        progress: bool,
    ) -> None:
        self.out, self.size, self.runs, self.progress = out, size, runs, progress
        self.tokenizer = train_tokenizer(
            [" ".join(names), " ".join(map(str, range(1000 - NUMBERS, 1000)))], "words"
        )
        self.packed = self._pack(names, texts)
        self.validation, self.test = (
            [draw_pairs(rng, names) for _ in range(prompts)]
            for rng in map(np.random.default_rng, (1, 2))
        )

    def _pack(self, names: list[str], texts: int) -> PackedDataset:
        rng = np.random.default_rng(0)
        drawn = [text_of(draw_pairs(rng, names), rng) for _ in range(texts)]
        ids = encode(self.tokenizer, drawn)["input_ids"]
        # A row holds one text and the token before it.
        return pack(ids, self.tokenizer.eos_token_id, 4 * PAIRS + 1)

    def error(self, name: str, learning_rate: float) -> float:
        """Return the fraction of wrong answers to the validation prompts."""
        right = float(self.run(name, learning_rate)["validation"])
        logger.info("  %s, learning rate %g: %.1f %%", name, learning_rate, 100 * right)
        return 1 - right

    def run(self, name: str, learning_rate: float) -> dict[str, Any]:
        """Train and ask a model, unless that is done already."""
        key = f"{name}|{learning_rate:g}"
        if key not in self.runs.done:
            set_seed(0)
            model = build_model(name, self.size, self.tokenizer, self.packed.input_ids.shape[1])
            assert isinstance(model, HyperAggForCausalLM)
            config = TrainingConfig(
                batch_size=_BATCH_SIZE, learning_rate=learning_rate, save_steps=None
            )
            folder = self.out / "models" / key.replace("|", "-").replace(" ", "-")
            trained = train_model(
                model,
                self.packed,
                folder,
                config,
                tokenizer=self.tokenizer,
                progress=self.progress,
            )
            model.eval()
            run = {
                "validation": _accuracy(model, self.tokenizer, self.validation),
                "test": _accuracy(model, self.tokenizer, self.test),
                "steps": trained.steps,
                "loss": trained.loss[-1][1],
                "parameters": model.num_parameters(),
                "non_embedding_parameters": non_embedding_parameters(model),
                "cache_bytes": {str(n): _cache_bytes(model, n) for n in CONTEXTS},
            }
            self.runs.add(key, run)
        return self.runs.done[key]


def ask(
    model: HyperAggForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    pairs: dict[str, int],
) -> Iterator[tuple[str, str]]:
    """Ask a model for the number of each name of a prompt; yield names and its answers."""
    prompt = "\n".join(_lines(pairs))
    questions = [f"{tokenizer.eos_token}{prompt}\n{name}" for name in pairs]
    ids = torch.tensor(encode(tokenizer, questions)["input_ids"])
    answers = model.generate(  # type: ignore[misc]
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=1,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
    )[:, -1]
    yield from zip(pairs, (tokenizer.decode([answer]) for answer in answers.tolist()))


def key_values_table(results: dict[str, Any]) -> str:
    """Format the accuracy, the learning rate, the parameters and the bytes of each cache."""
    columns = ["model", "right answers, %", "learning rate", "parameters"]
    columns += [f"cache after {n:,} tokens, kB" for n in CONTEXTS]
    rows = [
        [
            name,
            f"{100 * model['test']:.1f}",
            f"{model['learning_rate']:g}",
            f"{model['parameters']:,}",
            *(f"{model['cache_bytes'][str(n)] / 1000:,.1f}" for n in CONTEXTS),
        ]
        for name, model in results["models"].items()
    ]
    return markdown_table(columns, rows)


def _lines(pairs: dict[str, int]) -> list[str]:
    return [f"{name} {number}" for name, number in pairs.items()]


def _accuracy(
    model: HyperAggForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[dict[str, int]],
) -> float:
    right = [
        answer == str(pairs[name])
        for pairs in prompts
        for name, answer in ask(model, tokenizer, pairs)
    ]
    return float(np.mean(right))


@torch.no_grad()
def _cache_bytes(model: HyperAggForCausalLM, num_tokens: int) -> int:
    cache = HyperAggCache(model.config)
    model(torch.zeros(1, num_tokens, dtype=torch.int64), past_key_values=cache, logits_to_keep=1)
    return cache.num_bytes
