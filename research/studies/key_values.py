"""Prompts of key-value lines: does a language model find the number of a name?

A text lists names with a number each, and then repeats lines of this list in random order. Names
and numbers are drawn anew for every text, so a model that answers has read the list. The loss is
that of the repeated numbers alone: nothing predicts the others. All models have equally many
weights, the same texts and steps, and each the learning rate that is best on validation prompts.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase, set_seed

from hyperagg._common.atomic import atomic_write
from hyperagg._common.report import markdown_table, spread, write_results
from hyperagg._common.runs import Runs
from hyperagg.language import HyperAggCache, HyperAggForCausalLM
from hyperagg.language.loss import IGNORE_INDEX
from hyperagg.language.packing import PackedDataset, pack
from hyperagg.language.tokenizer import encode, train_tokenizer
from hyperagg.language.trainer import TrainingConfig, train_model
from research.studies.language_mixers import Size, build_model, non_embedding_parameters

__all__ = [
    "LEARNING_RATES",
    "MODELS",
    "ask",
    "draw_names",
    "draw_num_pairs",
    "draw_pairs",
    "key_values_table",
    "run_key_values",
    "text_of",
]

logger = logging.getLogger(__name__)

# Rows of `language_mixers.MIXERS`.
MODELS = ("gated + associative", "expanded gated", "attention")
# Pairs of a prompt, and the most that a training text lists.
PAIRS = 50
# Lines of a training text: its list, and then lines of the list again.
LINES = 2 * PAIRS
NAMES, NUMBERS = 100, 90
LEARNING_RATES = (5e-3, 1e-2)
# A head of bound pairs has room for about as many pairs as it has keys.
HEAD_DIM = 64
# Tokens of the context after which the caches are compared.
CONTEXTS = (100, 1_000, 10_000)
_BATCH_SIZE = 8
_SYLLABLES = [first + vowel for first in "bdfgklmnprstvz" for vowel in "aeiou"]


def draw_names() -> list[str]:
    """Return the NAMES made-up names of two syllables that all texts choose from."""
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(_SYLLABLES) ** 2, NAMES, replace=False)
    return [_SYLLABLES[i // len(_SYLLABLES)] + _SYLLABLES[i % len(_SYLLABLES)] for i in chosen]


def draw_num_pairs(rng: np.random.Generator) -> int:
    """Draw how many pairs a training text lists: PAIRS in half of the texts, else 1 to PAIRS, few
    more often than many.

    A model finds out how to look a name up where there are few pairs to choose from, and then does
    so among more. From texts of 50 pairs alone, none had learned it after several hundred steps.
    """
    return PAIRS if rng.random() < 0.5 else 1 + int(PAIRS * rng.random() ** 2)


def draw_pairs(rng: np.random.Generator, names: list[str], pairs: int = PAIRS) -> dict[str, int]:
    """Draw different names, each with a number of two digits."""
    chosen = rng.choice(len(names), pairs, replace=False)
    numbers = rng.integers(100 - NUMBERS, 100, pairs)
    return {names[i]: int(number) for i, number in zip(chosen, numbers)}


def text_of(pairs: dict[str, int], rng: np.random.Generator, lines: int = LINES) -> str:
    """Return a text for training: the lines of all pairs, and random ones of them again.

    Example:
        >>> print(text_of({"mira": 41}, np.random.default_rng(0), lines=2))
        mira 41
        mira 41
    """
    listed = _lines(pairs)
    return "\n".join([*listed, *rng.choice(listed, lines - len(listed)).tolist()])


def run_key_values(
    out: Path,
    *,
    d_model: int = 64,
    layers: int = 2,
    texts: int = 9_600,
    prompts: int = 20,
    learning_rates: Sequence[float] = LEARNING_RATES,
    seeds: int = 3,
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
        learning_rates: those of which every model has its best, selected with the first seed.
        seeds: number of seeds for weights and order.
        resume: continue after the last finished run of an earlier call.
        progress: show a bar per run.

    Returns:
        The contents of results.json.

    Raises:
        ValueError: `out` holds runs with other arguments.
    """
    names = draw_names()
    size = Size(d_model, layers, max(1, d_model // 32), HEAD_DIM)
    runs = Runs(out / "runs.json", f"key-values, {size}, {texts} texts, {prompts} prompts", resume)
    study = _Study(out, size, names, texts, prompts, runs, progress)
    models = {name: study.measure(name, learning_rates, seeds) for name in MODELS}
    example = draw_pairs(np.random.default_rng(4), names)
    results = {
        "pairs": PAIRS,
        "names": NAMES,
        "numbers": NUMBERS,
        "d_model": d_model,
        "layers": layers,
        "texts": texts,
        "tokens_per_text": 2 * LINES + 1,
        "batch_size": _BATCH_SIZE,
        "questions": prompts * PAIRS,
        "seeds": seeds,
        "learning_rates": list(learning_rates),
        "environment": runs.environment(),
        "models": models,
        "example": "\n".join(_lines(example)),
    }
    write_results(out, results)
    with atomic_write(out / "table.md") as draft:
        draft.write_text(key_values_table(results), "utf-8")
    return results


class _Texts(PackedDataset):
    """Rows of one text each, whose labels are the numbers after the list."""

    def __init__(
        self, input_ids: np.ndarray, position_ids: np.ndarray, num_pairs: list[int]
    ) -> None:
        super().__init__(input_ids, position_ids)
        self.num_pairs = num_pairs

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        row = super().__getitem__(index)
        # Two tokens per line, behind the one that separates texts.
        answers = slice(2 * self.num_pairs[index] + 2, None, 2)
        labels = torch.full_like(row["input_ids"], IGNORE_INDEX)
        labels[answers] = row["input_ids"][answers]
        return {**row, "labels": labels}


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
            [" ".join(names), " ".join(map(str, range(100 - NUMBERS, 100)))], "words"
        )
        self.packed = self._pack(names, texts)
        self.validation, self.test = (
            [draw_pairs(rng, names) for _ in range(prompts)]
            # Prompts of seed 2 were seen while the texts were designed.
            for rng in map(np.random.default_rng, (1, 3))
        )

    def _pack(self, names: list[str], texts: int) -> _Texts:
        rng = np.random.default_rng(0)
        lists = [draw_pairs(rng, names, draw_num_pairs(rng)) for _ in range(texts)]
        ids = encode(self.tokenizer, [text_of(pairs, rng) for pairs in lists])["input_ids"]
        # A row holds one text and the token before it.
        packed = pack(ids, self.tokenizer.eos_token_id, 2 * LINES + 1)
        return _Texts(packed.input_ids, packed.position_ids, [len(pairs) for pairs in lists])

    def measure(self, name: str, learning_rates: Sequence[float], seeds: int) -> dict[str, Any]:
        """Train a model at every learning rate, and then with further seeds at the best one."""
        tried = {rate: self._run(name, rate, 0) for rate in learning_rates}
        best = max(tried, key=lambda rate: tried[rate]["validation"])
        runs = [self._run(name, best, seed) for seed in range(seeds)]
        test = [float(run["test"]) for run in runs]
        logger.info("%s: %s %% of answers right", name, spread(test, digits=1))
        return {
            **runs[0],
            "learning_rate": best,
            "validation": {f"{rate:g}": run["validation"] for rate, run in tried.items()},
            "test": test,
            "loss": [run["loss"] for run in runs],
        }

    def _run(self, name: str, learning_rate: float, seed: int) -> dict[str, Any]:
        """Train and ask a model, unless that is done already."""
        key = f"{name}|{learning_rate:g}|{seed}"
        if key not in self.runs.done:
            set_seed(seed)
            model = build_model(name, self.size, self.tokenizer, self.packed.input_ids.shape[1])
            assert isinstance(model, HyperAggForCausalLM)
            config = TrainingConfig(
                batch_size=_BATCH_SIZE, learning_rate=learning_rate, save_steps=None, seed=seed
            )
            folder = self.out / "models" / re.sub(r"\W*[ |]\W*", "-", key)
            trained = train_model(
                model,
                self.packed,
                folder,
                config,
                tokenizer=self.tokenizer,
                progress=self.progress,
            )
            model.eval()
            run: dict[str, Any] = {
                "validation": _accuracy(model, self.tokenizer, self.validation),
                "test": _accuracy(model, self.tokenizer, self.test),
                "steps": trained.steps,
                "loss": trained.loss[-1][1],
                "parameters": model.num_parameters(),
                "non_embedding_parameters": non_embedding_parameters(model),
                "cache_bytes": {str(n): _cache_bytes(model, n) for n in CONTEXTS},
            }
            self.runs.add(key, run)
            logger.info(
                "  %s, learning rate %g, seed %d: %.1f %%",
                name,
                learning_rate,
                seed,
                100 * run["validation"],
            )
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
            spread(model["test"], digits=1),
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
