"""The AG News row of Ekin (2025): perplexity 2.99 for aggregation, 3.15 for attention.

The original protocol is followed to the letter: one layer of 256 channels, 10,000 words, texts
padded to 256 positions, and the next token predicted at every position, padding after padding
included. Most positions are padding, so that figure says little about words. Beside it stand the
perplexity of the positions whose next token is a word, the same model without a mixer, and two
n-gram models (`research.studies.ngram_language_models`).
"""

from __future__ import annotations

import logging
import string
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from hyperagg._common.atomic import atomic_write
from hyperagg._common.checkpoint import read_checkpoint, remove_checkpoint
from hyperagg._common.report import make_table, markdown_table, times, write_results
from hyperagg._common.runs import Runs
from hyperagg.data import Dataset
from hyperagg.data.datasets.ag_news import ENTRY
from hyperagg.text import Ragged
from research.models.original_language_model import MixerName, OriginalLanguageModel
from research.studies.ag_news_training import BATCH_SIZE, step_seconds, train
from research.studies.cosines import write_cosines
from research.studies.ngram_language_models import PADDING, Bigram, Unigram

__all__ = ["ORIGINAL_FIGURES", "ag_news_original", "ag_news_table"]

logger = logging.getLogger(__name__)

ORIGINAL_FIGURES = {"aggregation": 2.99, "attention": 3.15}
ORIGINAL_COSINE_DEVIATIONS = {"aggregation": 0.106, "attention": 0.339}
VOCAB_SIZE, LENGTH, D_MODEL, EPOCHS = 10_000, 256, 256, 30

TRAINED: tuple[MixerName, ...] = ("aggregation", "attention", "no mixing")
TIMED: tuple[MixerName, ...] = (*TRAINED, "masked product")
NGRAM_MODELS: dict[str, type[Unigram] | type[Bigram]] = {"unigram": Unigram, "bigram": Bigram}

_UNKNOWN, _FIRST_WORD = 1, 2
# Keras's TextVectorization removes punctuation and closes the gap.
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def ag_news_original(
    dataset: Dataset,
    out: Path,
    *,
    epochs: int | None = None,
    texts: int | None = None,
    test_texts: int | None = None,
    resume: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Train and measure all models; write results.json, table.md, cosines.png and checkpoints.

    Args:
        dataset: "ag-news".
        out: output folder.
        epochs: number of epochs (default: 30, those of the protocol). The last one is measured on
            the test rows.
        texts: number of training texts, drawn at random (default: all). The vocabulary is learned
            from all texts.
        test_texts: number of test texts, drawn at random (default: all).
        resume: continue after the last whole epoch of an interrupted call.
        progress: show progress bars.

    Returns:
        The contents of results.json.

    Raises:
        ValueError: `out` holds runs with other arguments.
    """
    epochs = epochs or EPOCHS
    vocabulary = _vocabulary(dataset.train.texts)
    vocab_size = len(vocabulary) + _FIRST_WORD
    train_ids = _token_ids(_sample(dataset.train.texts, texts), vocabulary)
    test_ids = _token_ids(_sample(dataset.test.texts, test_texts), vocabulary)
    rows = {
        "train": len(train_ids),
        "train_available": len(dataset.train),
        "train_published": ENTRY.rows[0],
        "test": len(test_ids),
    }
    logger.info(_rows_line(rows, epochs))
    what = f"{dataset.name}, original protocol, {rows}, {epochs} epochs"
    if not resume:
        # A later --resume must not take the files of an earlier call for those of this one.
        for path in (out / "runs.json", *(_checkpoint(out, name) for name in TRAINED)):
            remove_checkpoint(path)
    runs = Runs(out / "runs.json", what, resume)
    for name in TRAINED:
        if name not in runs.done:
            torch.manual_seed(0)
            model = OriginalLanguageModel(vocab_size, name, D_MODEL, LENGTH)
            run = train(model, name, train_ids, epochs, _checkpoint(out, name), what, progress)
            nats = _nats(model, name, test_ids, progress)
            runs.add(name, {**run, **_perplexities(nats, test_ids)})
        _log_run(name, runs.done[name])
    for ngram, ngram_model in NGRAM_MODELS.items():
        if ngram not in runs.done:
            runs.add(ngram, _count(ngram_model, train_ids, test_ids, vocab_size))
        _log_run(ngram, runs.done[ngram])
    if "steps" not in runs.done:
        models = {name: OriginalLanguageModel(vocab_size, name, D_MODEL, LENGTH) for name in TIMED}
        runs.add("steps", step_seconds(models, train_ids[:BATCH_SIZE]))
    steps = runs.done["steps"]
    results: dict[str, Any] = {
        "protocol": "original",
        "dataset": dataset.name,
        "source": dataset.source,
        "rows": rows,
        "epochs": epochs,
        "batch_size": BATCH_SIZE,
        "vocab_size": vocab_size,
        "word_positions": float((test_ids[:, 1:] != PADDING).mean()),
        "unknown_words": float((test_ids == _UNKNOWN).sum() / (test_ids != PADDING).sum()),
        "environment": runs.environment(),
        "models": {name: runs.done[name] for name in (*TRAINED, *NGRAM_MODELS)},
        "step_seconds": steps,
        "ratios": {
            name: {part: seconds / steps["aggregation"][part] for part, seconds in own.items()}
            for name, own in steps.items()
            if name != "aggregation"
        },
        "original_figures": ORIGINAL_FIGURES,
        "original_cosine_deviations": ORIGINAL_COSINE_DEVIATIONS,
        "orthogonality": _orthogonality(out),
    }
    write_results(out, results)
    with atomic_write(out / "table.md") as draft:
        draft.write_text(ag_news_page(results), "utf-8")
    return results


def ag_news_page(results: dict[str, Any]) -> str:
    """Format table.md: the models, and how many rows they were trained and tested on."""
    table = markdown_table(_COLUMNS, _cells(results))
    return f"{table}\n{_rows_line(results['rows'], results['epochs'])}\n"


def ag_news_table(results: dict[str, Any]) -> Table:
    """Format the models as a table for the terminal."""
    title = f"AG News, {results['protocol']} protocol (×: multiples of aggregation's time)"
    return make_table(title, _COLUMNS, _cells(results))


def _rows_line(rows: dict[str, int], epochs: int) -> str:
    return (
        f"{rows['train']:,} training texts of {rows['train_available']:,} available ones "
        f"({rows['train_published']:,} are published), {rows['test']:,} test texts, "
        f"{epochs} epoch{'s' * (epochs > 1)}"
    )


def _log_run(name: str, run: dict[str, Any]) -> None:
    logger.info(
        "%s: perplexity %.2f with padding, %.1f of words",
        name,
        run["perplexity_with_padding"],
        run["perplexity"],
    )


def _checkpoint(out: Path, name: str) -> Path:
    return out / "models" / f"{name.replace(' ', '-')}.safetensors"


def _vocabulary(texts: Sequence[str]) -> dict[str, int]:
    """Number words by falling frequency; padding and unknown words are two ids, as in Keras."""
    counts = Counter(word for text in texts for word in _split(text))
    kept = [word for word, _ in counts.most_common(VOCAB_SIZE - _FIRST_WORD)]
    return {word: i for i, word in enumerate(kept, start=_FIRST_WORD)}


def _split(text: str) -> list[str]:
    return text.lower().translate(_NO_PUNCTUATION).split()


def _sample(texts: Sequence[str], number: int | None) -> Sequence[str]:
    if number is None or number >= len(texts):
        return texts
    return [texts[i] for i in np.random.default_rng(0).permutation(len(texts))[:number]]


def _token_ids(texts: Sequence[str], vocabulary: dict[str, int]) -> np.ndarray:
    """(rows, LENGTH + 1) int32: each of LENGTH positions has a next token to predict."""
    rows = [[vocabulary.get(word, _UNKNOWN) for word in _split(text)] for text in texts]
    flat = np.array([i for row in rows for i in row], dtype=np.int32)
    cu_seqlens = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    return Ragged(flat, cu_seqlens).padded(LENGTH + 1)


def _nats(model: OriginalLanguageModel, name: str, ids: np.ndarray, progress: bool) -> np.ndarray:
    """(rows, LENGTH) -log p(next id)."""
    model.eval()
    batches = track(
        torch.from_numpy(ids).long().split(BATCH_SIZE),
        f"{name}, test texts",
        console=Console(stderr=True),
        transient=True,
        disable=not progress,
    )
    return torch.cat([model.losses(batch[:, :-1], batch[:, 1:]) for batch in batches]).numpy()


def _perplexities(nats: np.ndarray, ids: np.ndarray) -> dict[str, float]:
    words = ids[:, 1:] != PADDING
    return {
        "perplexity": float(np.exp(nats[words].mean(dtype=np.float64))),
        "perplexity_with_padding": float(np.exp(nats.mean(dtype=np.float64))),
    }


def _count(
    ngram_model: type[Unigram] | type[Bigram], train: np.ndarray, test: np.ndarray, vocab_size: int
) -> dict[str, Any]:
    started = time.perf_counter()
    model = ngram_model(train, vocab_size)
    seconds = time.perf_counter() - started
    return {
        "parameters": model.parameters,
        "train_seconds_per_epoch": seconds,
        **({"weight": model.weight} if isinstance(model, Bigram) else {}),
        **_perplexities(model.nats(test), test),
    }


def _orthogonality(out: Path) -> dict[str, Any]:
    """Draw and measure the cosines of trained word embeddings beside untrained ones."""
    embeddings = {}
    for name in ORIGINAL_FIGURES:
        weights, _ = read_checkpoint(_checkpoint(out, name))
        embeddings[name] = weights["model.embedding.weight"][_FIRST_WORD:]
    return write_cosines(embeddings, out)


_COLUMNS = [
    "model",
    "perplexity with padding",
    "perplexity of words",
    "parameters",
    "s per epoch",
    "step",
    "below the softmax",
]


def _cells(results: dict[str, Any]) -> list[list[str]]:
    published = [
        [f"{name}, Ekin (2025)", f"{figure:.2f}", *[""] * 5]
        for name, figure in results["original_figures"].items()
    ]
    models = {**results["models"], "masked product": None}
    return published + [[name, *_figures(name, own, results)] for name, own in models.items()]


def _figures(name: str, model: dict[str, Any] | None, results: dict[str, Any]) -> list[str]:
    cells = [""] * 4
    if model is not None:
        cells = [
            f"{model['perplexity_with_padding']:.2f}",
            f"{model['perplexity']:.1f}",
            f"{model['parameters']:,}",
            f"{model['train_seconds_per_epoch']:.1f}",
        ]
    ratios = results["ratios"].get(name)
    if ratios is None:
        return cells + (["1 ×", "1 ×"] if name == "aggregation" else ["", ""])
    return [*cells, times(ratios["step"]), times(ratios["below_softmax"])]
