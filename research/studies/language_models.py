"""Mixers of language models at equal parameters, equal tokens and equal tuning.

Every row has the same blocks; where a mixer has fewer weights, its feed-forward layers are wider.
The learning rate of each is search_learning_rate: doubled and halved until the best on validation texts is no
longer at an edge. Rows without any mixer, and models that count, say what is due to mixing at all.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from hyperagg._common.atomic import atomic_write
from hyperagg._common.report import environment, markdown_table, spread, write_results
from hyperagg._common.runs import Runs
from hyperagg.data import Corpus
from hyperagg.language.packing import PackedDataset, pack
from hyperagg.language.serialization import compute_metrics, load_model
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
    weights_besides,
)
from research.studies.learning_rate_search import search_learning_rate
from research.studies.ngram_language_models import PADDING, Bigram, Unigram

__all__ = ["compare_language_models", "language_models_table"]


# Few tokens are worth many steps: with 16 rows of 256 attention was behind having no mixer at all.
BATCH, TOKENS_A_STEP = 4, 1024
FIRST_RATES = (4e-3, 8e-3)


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
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train every mixer at its best rate; write results.json, table.md and a model each.

    Args:
        corpus: texts; the rates are chosen on its validation texts, the table is of its test texts.
        out: the folder.
        size: one of SIZES.
        mixers: rows of MIXERS, or MAMBA.
        tokenizer, vocab_size: as of `train_tokenizer`, learned from the training texts.
        sequence_length: of packed rows, and of the windows that the test texts are read in.
        tokens: to train on, from the beginning again where the corpus has fewer.
        bf16: train in bfloat16 where that loses little; all is measured in float32.
        seeds: of weights and order; the rate is chosen with the first.
        resume: go on after the last run of an earlier call.
        progress: show a bar for each run.
        say: told in a line what was measured.

    Returns:
        the contents of results.json: of every model the mean `perplexity` and so on, and the seeds.

    Raises:
        ValueError: unknown names, or what is in `out` comes of other arguments.
    """
    known = (*MIXERS, MAMBA)
    unknown = [name for name in mixers if name not in known]
    if unknown or size not in SIZES:
        raise ValueError(
            f"there is no {'mixer ' + unknown[0] if unknown else 'size ' + size}; there are "
            + ", ".join(known if unknown else SIZES)
        )
    words = train_tokenizer(corpus.train, tokenizer, vocab_size)
    packed = pack(_ids(words, corpus.train), words.eos_token_id, sequence_length)
    what = f"{corpus.name}, {size}, {tokenizer} {len(words)}, {sequence_length}, {tokens}"
    runs = Runs(out / "runs.json", what + ", bf16" * bf16, resume)
    say(f"{corpus.source}: {packed.input_ids.size:,} tokens of {len(words):,} kinds")
    study = _Study(
        corpus, out, SIZES[size], words, packed, sequence_length, tokens, bf16, runs, progress
    )
    for name in ("unigram", "bigram"):
        if name not in runs.done:
            runs.add(name, study.counted(Unigram if name == "unigram" else Bigram))
        say(f"{name}: perplexity {runs.done[name]['perplexity']:.1f}")
    models = {name: runs.done[name] for name in ("unigram", "bigram")}
    for name in mixers:
        rate = study.best_rate(name, say)
        models[name] = study.tested(name, rate, seeds)
        say(f"{name}: perplexity {spread(models[name]['seeds']['perplexity'], 1)} at rate {rate:g}")
    results = {
        "dataset": corpus.name,
        "source": corpus.source,
        "protocol": "honest",
        "size": size,
        "tokenizer": tokenizer,
        "vocabulary": len(words),
        "sequence_length": sequence_length,
        "batch": _batch(sequence_length),
        "tokens": tokens,
        "bf16": bf16,
        "seeds": seeds,
        "environment": environment(),
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
        words: PreTrainedTokenizerBase,
        packed: PackedDataset,
        length: int,
        tokens: int,
        bf16: bool,
        runs: Runs,
        progress: bool,
    ) -> None:
        self.corpus, self.out, self.size, self.words, self.packed = corpus, out, size, words, packed
        self.length, self.tokens, self.bf16 = length, tokens, bf16
        self.runs, self.progress = runs, progress

    def best_rate(self, name: str, say: Callable[[str], None]) -> float:
        """By validation texts."""

        def perplexity(rate: float) -> float:
            return float(self.run(name, rate, 0, say)["validation"]["perplexity"])

        return search_learning_rate(perplexity, FIRST_RATES)

    def tested(self, name: str, rate: float, seeds: int) -> dict[str, Any]:
        """Runs of all seeds at that rate, on the test texts."""
        runs = [self.test(name, rate, seed) for seed in range(seeds)]
        tests = [run["test"] for run in runs]
        return {
            **_summary({name: [test[name] for test in tests] for name in _MEASURES}),
            "streamed": [run["streamed"]["perplexity"] for run in runs if "streamed" in run],
            "learning_rate": rate,
            "rates_tried": {
                key.split("|")[1]: run["validation"]["perplexity"]
                for key, run in self.runs.done.items()
                if key.startswith(f"{name}|") and key.endswith("|0")
            },
            "parameters": runs[0]["parameters"],
            "parameters_besides_the_embedding": runs[0]["besides"],
            "train_seconds_per_epoch": runs[0]["seconds"]
            * self.packed.input_ids.size
            / self.tokens,
            "tokens_per_second": [run["tokens_per_second"] for run in runs],
        }

    def run(
        self, name: str, rate: float, seed: int, say: Callable[[str], None] | None
    ) -> dict[str, Any]:
        key = _key(name, rate, seed)
        if key not in self.runs.done:
            set_seed(seed)
            model = build_model(name, self.size, self.words, self.length)
            steps = max(1, round(self.tokens / self.length / _batch(self.length)))
            recipe = TrainingConfig(
                batch_size=_batch(self.length),
                learning_rate=rate,
                max_steps=steps,
                bf16=self.bf16,
                save_steps=None,
                seed=seed,
            )
            trained = train_model(
                model, self.packed, self.folder(key), recipe, progress=self.progress
            )
            self.words.save_pretrained(self.folder(key))
            run: dict[str, Any] = {
                "seconds": trained.seconds,
                "tokens_per_second": trained.tokens_per_second,
                "loss": trained.loss,
                "parameters": model.num_parameters(),
                "besides": weights_besides(model),
                "validation": self.measured(model, self.corpus.validation),
            }
            self.runs.add(key, run)
        run = self.runs.done[key]
        if say:
            say(f"  {name}, rate {rate:g}: {run['validation']['perplexity']:.2f} in validation")
        return run

    def test(self, name: str, rate: float, seed: int) -> dict[str, Any]:
        run, key = self.run(name, rate, seed, None), _key(name, rate, seed)
        if "test" not in run:
            model, _ = load_model(self.folder(key))
            run = {**run, "test": self.measured(model, self.corpus.test)}
            if name in MIXERS and MIXERS[name].endless:
                run["streamed"] = compute_metrics(model, self.words, self.corpus.test)
            self.runs.add(key, run)
        return run

    def cosines(self, models: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        """Of the embeddings of all trained models, first seed."""
        tables = {}
        for name, model in models.items():
            if "learning_rate" in model:
                folder = self.folder(_key(name, model["learning_rate"], 0))
                embedding = load_model(folder)[0].get_input_embeddings().weight
                assert isinstance(embedding, Tensor)
                tables[name] = embedding.detach().numpy()
        return write_cosines(tables, self.out / "cosines.png") if tables else {}

    def measured(self, model: PreTrainedModel, texts: Sequence[str]) -> dict[str, float] | None:
        """In windows of the length of training, half of each for context alone."""
        window = self.length
        return compute_metrics(model, self.words, texts, window=window, stride=window // 2)

    def folder(self, key: str) -> Path:
        return self.out / "models" / key.replace("|", "-").replace(" ", "-")

    def counted(self, counting: type[Unigram] | type[Bigram]) -> dict[str, Any]:
        """A model that counts, on as many tokens as the others learn from."""
        ends = np.cumsum([len(ids) + 1 for ids in _ids(self.words, self.corpus.train)])
        seen = self.corpus.train[: max(2, int(np.searchsorted(ends, self.tokens)) + 1)]
        train, test = (_rows(self.words, part) for part in (seen, self.corpus.test))
        start = time.perf_counter()
        model = counting(train, len(self.words) + 1)
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
    """Perplexity, bits per byte, rate and weights of every model.

    Speeds are in results.json alone: a study goes on for hours, beside whatever else there is.
    """
    columns = [
        "model",
        "perplexity a token",
        "of attention's",
        "bits a byte",
        "streamed",
        "rate",
        "parameters",
    ]
    models = results["models"]
    attention = models.get("attention")
    rows = []
    for name, model in models.items():
        share = ""
        if attention:
            share = f"{100 * (model['perplexity'] / attention['perplexity'] - 1):+.1f} %"
        rows.append(
            [
                name,
                spread(model["seeds"]["perplexity"], 1),
                share,
                spread(model["seeds"]["bits_per_byte"], 1, 3),
                spread(model["streamed"], 1) if model.get("streamed") else "",
                f"{model['learning_rate']:g}" if "learning_rate" in model else "",
                f"{model['parameters']:,}",
            ]
        )
    return markdown_table(columns, rows)


_MEASURES = ("perplexity", "perplexity_per_word", "bits_per_byte")


def _summary(found: Mapping[str, list[float]]) -> dict[str, Any]:
    """The mean of every measure, and the seeds by themselves."""
    return {name: float(np.mean(each)) for name, each in found.items()} | {"seeds": dict(found)}


def _batch(length: int) -> int:
    """Rows of a step: fewer where they are long."""
    return max(1, min(BATCH, TOKENS_A_STEP // length))


def _key(name: str, rate: float, seed: int) -> str:
    return f"{name}|{rate:g}|{seed}"


def _ids(words: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    return words(list(texts), add_special_tokens=False)["input_ids"]


def _rows(words: PreTrainedTokenizerBase, texts: Sequence[str]) -> np.ndarray:
    """(texts, longest + 2): end, tokens, end, each plus one, since 0 is padding there."""
    end = words.eos_token_id
    documents = [[end, *ids, end] for ids in _ids(words, texts)]
    flat = np.array([token + 1 for document in documents for token in document], dtype=np.int32)
    borders = np.concatenate([[0], np.cumsum([len(document) for document in documents])])
    return Ragged(flat, borders).padded(max(map(len, documents)))
