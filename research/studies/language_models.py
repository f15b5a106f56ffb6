"""Mixers of language models at equal parameters, equal tokens and equal tuning.

All rows have the same blocks; where a mixer has fewer weights, the feed-forward layers are wider.
The learning rate of each row is doubled and halved until the best one on validation texts lies
between two worse ones. A row without a mixer and n-gram models show what mixing contributes.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from hyperagg._common.atomic import atomic_write
from hyperagg._common.report import markdown_table, spread, write_results
from hyperagg._common.runs import Runs
from hyperagg.data import Corpus
from hyperagg.language.packing import PackedDataset, pack
from hyperagg.language.serialization import compute_metrics
from hyperagg.language.tokenizer import train_tokenizer
from hyperagg.language.trainer import TrainingConfig, train_model
from hyperagg.text import Ragged
from research.studies.cosines import write_cosines
from research.studies.language_mixers import (
    MAMBA,
    MIXERS,
    SIZES,
    Size,
    build_model,
    non_embedding_parameters,
)
from research.studies.learning_rate_search import search_learning_rate
from research.studies.ngram_language_models import PADDING, Bigram, Unigram

__all__ = ["compare_language_models", "language_models_table"]

logger = logging.getLogger(__name__)

# With few tokens, many small steps are better: with 16 rows of 256 tokens per step, attention was
# worse than no mixer at all.
MAX_BATCH_SIZE, TOKENS_PER_STEP = 4, 1024
INITIAL_LEARNING_RATES = (4e-3, 8e-3)


def compare_language_models(
    corpus: Corpus,
    out: Path,
    *,
    size: str = "small",
    mixers: Sequence[str] = tuple(MIXERS),
    tokenizer: str = "bpe",
    vocab_size: int = 2048,
    sequence_length: int = 256,
    tokens: int = 1_500_000,
    bf16: bool = False,
    seeds: int = 3,
    resume: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Train every mixer at its best learning rate; write results.json, table.md and the models.

    Args:
        corpus: texts. Learning rates are selected on the validation texts; the table reports the
            test texts.
        out: output folder.
        size: one of SIZES.
        mixers: rows of MIXERS, or MAMBA.
        tokenizer, vocab_size: arguments of `train_tokenizer`, which learns from the training texts.
        sequence_length: tokens per packed row, and per window of the test texts.
        tokens: number of training tokens; the corpus is repeated if it has fewer.
        bf16: train in bfloat16. All evaluations are in float32.
        seeds: number of seeds for weights and order. Learning rates are selected with the first.
        resume: continue after the last finished run of an earlier call.
        progress: show a bar per run.

    Returns:
        The contents of results.json: for every model the means, and the figures of every seed.

    Raises:
        ValueError: an unknown name, or `out` holds runs with other arguments.
    """
    known = (*MIXERS, MAMBA)
    for name in mixers:
        if name not in known:
            raise ValueError(f"mixer={name!r}: expected one of {', '.join(known)}")
    if size not in SIZES:
        raise ValueError(f"size={size!r}: expected one of {', '.join(SIZES)}")
    words = train_tokenizer(corpus.train, tokenizer, vocab_size)
    packed = pack(_ids(words, corpus.train), words.eos_token_id, sequence_length)
    what = f"{corpus.name}, {size}, {tokenizer} {len(words)}, {sequence_length}, {tokens}"
    runs = Runs(out / "runs.json", what + ", bf16" * bf16, resume)
    logger.info(
        "%s: %s tokens, vocabulary of %s",
        corpus.source,
        f"{packed.input_ids.size:,}",
        f"{len(words):,}",
    )
    study = _Study(
        corpus,
        out,
        SIZES[size],
        words,
        packed,
        sequence_length,
        tokens,
        bf16,
        runs,
        progress,
    )
    for name in ("unigram", "bigram"):
        if name not in runs.done:
            runs.add(name, study.count(Unigram if name == "unigram" else Bigram))
        logger.info("%s: perplexity %.1f", name, runs.done[name]["perplexity"])
    models = {name: runs.done[name] for name in ("unigram", "bigram")}
    for name in mixers:
        learning_rate = study.best_learning_rate(name)
        models[name] = study.test_seeds(name, learning_rate, seeds)
        perplexity = spread(models[name]["seeds"]["perplexity"], 1)
        logger.info("%s: perplexity %s at learning rate %g", name, perplexity, learning_rate)
    results = {
        "dataset": corpus.name,
        "source": corpus.source,
        "protocol": "corrected",
        "size": size,
        "tokenizer": tokenizer,
        "vocab_size": len(words),
        "sequence_length": sequence_length,
        "batch_size": _batch_size(sequence_length),
        "tokens": tokens,
        "bf16": bf16,
        "seeds": seeds,
        "environment": runs.environment(),
        "models": models,
        "orthogonality": study.cosines(models),
    }
    write_results(out, results)
    with atomic_write(out / "table.md") as draft:
        draft.write_text(language_models_table(results), "utf-8")
    return results


class _Study:
    def __init__(
        self,
        corpus: Corpus,
        out: Path,
        size: Size,
        tokenizer: PreTrainedTokenizerBase,
        packed: PackedDataset,
        length: int,
        tokens: int,
        bf16: bool,
        runs: Runs,
        progress: bool,
    ) -> None:
        self.corpus, self.out, self.size, self.packed = corpus, out, size, packed
        self.tokenizer = tokenizer
        self.length, self.tokens, self.bf16 = length, tokens, bf16
        self.runs, self.progress = runs, progress

    def best_learning_rate(self, name: str) -> float:
        """Search for the learning rate with the lowest perplexity of the validation texts."""

        def perplexity(learning_rate: float) -> float:
            found = float(self.run(name, learning_rate, 0)["validation"]["perplexity"])
            logger.info("  %s, learning rate %g: validation %.2f", name, learning_rate, found)
            return found

        return search_learning_rate(perplexity, INITIAL_LEARNING_RATES)

    def test_seeds(self, name: str, learning_rate: float, seeds: int) -> dict[str, Any]:
        """Evaluate the runs of all seeds at one learning rate on the test texts."""
        runs = [self.test(name, learning_rate, seed) for seed in range(seeds)]
        tests = [run["test"] for run in runs]
        return {
            **_summary({name: [test[name] for test in tests] for name in _MEASURES}),
            "streamed": [run["streamed"]["perplexity"] for run in runs if "streamed" in run],
            "learning_rate": learning_rate,
            "learning_rates_tried": {
                key.split("|")[1]: run["validation"]["perplexity"]
                for key, run in self.runs.done.items()
                if key.startswith(f"{name}|") and key.endswith("|0")
            },
            "parameters": runs[0]["parameters"],
            "non_embedding_parameters": runs[0]["non_embedding_parameters"],
            "train_seconds_per_epoch": runs[0]["seconds"]
            * self.packed.input_ids.size
            / self.tokens,
            "tokens_per_second": [run["tokens_per_second"] for run in runs],
        }

    def run(self, name: str, learning_rate: float, seed: int) -> dict[str, Any]:
        """Train a model and evaluate it on the validation texts, unless that is done already."""
        key = _key(name, learning_rate, seed)
        if key not in self.runs.done:
            set_seed(seed)
            model = build_model(name, self.size, self.tokenizer, self.length)
            batch_size = _batch_size(self.length)
            steps = max(1, round(self.tokens / self.length / batch_size))
            config = TrainingConfig(
                batch_size=batch_size,
                learning_rate=learning_rate,
                max_steps=steps,
                bf16=self.bf16,
                save_steps=None,
                seed=seed,
            )
            trained = train_model(
                model, self.packed, self.folder(key), config, progress=self.progress
            )
            self.tokenizer.save_pretrained(self.folder(key))
            run: dict[str, Any] = {
                "seconds": trained.seconds,
                "tokens_per_second": trained.tokens_per_second,
                "loss": trained.loss,
                "parameters": model.num_parameters(),
                "non_embedding_parameters": non_embedding_parameters(model),
                "validation": self.evaluate(model, self.corpus.validation),
            }
            self.runs.add(key, run)
        return self.runs.done[key]

    def test(self, name: str, learning_rate: float, seed: int) -> dict[str, Any]:
        """Evaluate a run on the test texts, in windows and, if it is unbounded, as a stream."""
        run, key = self.run(name, learning_rate, seed), _key(name, learning_rate, seed)
        if "test" not in run:
            model = AutoModelForCausalLM.from_pretrained(self.folder(key))
            run = {**run, "test": self.evaluate(model, self.corpus.test)}
            if name in MIXERS and MIXERS[name].unbounded:
                run["streamed"] = compute_metrics(model, self.tokenizer, self.corpus.test)
            self.runs.add(key, run)
        return run

    def cosines(self, models: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        """Draw and measure the embeddings of all trained models, first seed."""
        embeddings = {}
        for name, model in models.items():
            if "learning_rate" in model:
                folder = self.folder(_key(name, model["learning_rate"], 0))
                network = AutoModelForCausalLM.from_pretrained(folder)
                embedding = network.get_input_embeddings().weight
                assert isinstance(embedding, Tensor)
                embeddings[name] = embedding.detach().numpy()
        return write_cosines(embeddings, self.out) if embeddings else {}

    def evaluate(self, model: PreTrainedModel, texts: Sequence[str]) -> dict[str, float] | None:
        """Evaluate in windows as long as the training rows; half of each is context only."""
        window = self.length
        return compute_metrics(model, self.tokenizer, texts, window=window, stride=window // 2)

    def folder(self, key: str) -> Path:
        return self.out / "models" / key.replace("|", "-").replace(" ", "-")

    def count(self, ngram_model: type[Unigram] | type[Bigram]) -> dict[str, Any]:
        """Evaluate an n-gram model of as many tokens as the others learn from."""
        ends = np.cumsum([len(ids) + 1 for ids in _ids(self.tokenizer, self.corpus.train)])
        used = self.corpus.train[: max(2, int(np.searchsorted(ends, self.tokens)) + 1)]
        train, test = (_rows(self.tokenizer, part) for part in (used, self.corpus.test))
        start = time.perf_counter()
        model = ngram_model(train, len(self.tokenizer) + 1)
        seconds = time.perf_counter() - start
        nats = model.nats(test)
        predicted = test[:, 1:] != PADDING
        total = float(nats[predicted].sum(dtype=np.float64))
        texts = self.corpus.test
        found = {
            "perplexity": [math.exp(total / predicted.sum())],
            "perplexity_per_word": [math.exp(total / sum(len(t.split()) + 1 for t in texts))],
            "bits_per_byte": [total / math.log(2) / sum(len(t.encode()) for t in texts)],
        }
        return {
            **_summary(found),
            "parameters": model.parameters,
            "train_seconds_per_epoch": seconds,
        }


def language_models_table(results: dict[str, Any]) -> str:
    """Format perplexity, bits per byte, learning rate and parameters of every model.

    Speeds are in results.json only: a study runs for hours, beside other work on the machine.
    """
    columns = [
        "model",
        "perplexity",
        "vs. attention",
        "bits per byte",
        "perplexity, streamed",
        "learning rate",
        "parameters",
    ]
    models = results["models"]
    attention = models.get("attention")
    rows = []
    for name, model in models.items():
        difference = ""
        if attention:
            difference = f"{100 * (model['perplexity'] / attention['perplexity'] - 1):+z.1f} %"
        rows.append(
            [
                name,
                spread(model["seeds"]["perplexity"], 1),
                difference,
                spread(model["seeds"]["bits_per_byte"], 1, 3),
                spread(model["streamed"], 1) if model.get("streamed") else "",
                f"{model['learning_rate']:g}" if "learning_rate" in model else "",
                f"{model['parameters']:,}",
            ]
        )
    return markdown_table(columns, rows)


_MEASURES = ("perplexity", "perplexity_per_word", "bits_per_byte")


def _summary(found: Mapping[str, list[float]]) -> dict[str, Any]:
    """Add the mean of every measure to the figures of the seeds."""
    return {name: float(np.mean(each)) for name, each in found.items()} | {"seeds": dict(found)}


def _batch_size(length: int) -> int:
    """Rows per step: fewer if they are long."""
    return max(1, min(MAX_BATCH_SIZE, TOKENS_PER_STEP // length))


def _key(name: str, learning_rate: float, seed: int) -> str:
    return f"{name}|{learning_rate:g}|{seed}"


def _ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    return tokenizer(list(texts), add_special_tokens=False)["input_ids"]


def _rows(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> np.ndarray:
    """(texts, longest + 2) ids: end, tokens, end. Each id is increased by one; 0 is padding."""
    end = tokenizer.eos_token_id
    documents = [[end, *ids, end] for ids in _ids(tokenizer, texts)]
    flat = np.array([token + 1 for document in documents for token in document], dtype=np.int32)
    cu_seqlens = np.concatenate([[0], np.cumsum([len(document) for document in documents])])
    return Ragged(flat, cu_seqlens).padded(max(map(len, documents)))
