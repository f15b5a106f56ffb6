"""The source's AG News row: a perplexity of 2.99 for aggregation, 3.15 for attention.

Its protocol to the letter: one layer of 256 channels, 10,000 words, texts padded to 256 places, and
the next token to be foretold at every place, padding after padding included. Most places are
padding, so that figure says little about words. Next to it stands what says more: the perplexity
over the places whose next token is a word, the same model without a mixer, and two models that
count (`research.studies.ngram_language_models`).
"""

from __future__ import annotations

import string
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from hyperagg._common.atomic import atomic_write
from hyperagg._common.checkpoint import read_checkpoint, remove_checkpoint
from hyperagg._common.report import environment, make_table, markdown_table, times, write_results
from hyperagg._common.runs import Runs
from hyperagg.data import Dataset
from hyperagg.data.datasets.ag_news import ENTRY
from hyperagg.text import Ragged
from research.models.original_language_model import MixerName, SourceLanguageModel
from research.studies.ag_news_training import BATCH, step_seconds, train
from research.studies.cosines import write_cosines
from research.studies.ngram_language_models import PADDING, Bigram, Unigram

__all__ = ["SOURCE_FIGURES", "ag_news_source", "ag_news_table"]

SOURCE_FIGURES = {"aggregation": 2.99, "attention": 3.15}
SOURCE_COSINE_DEVIATIONS = {"aggregation": 0.106, "attention": 0.339}
VOCABULARY, LENGTH, D_MODEL, EPOCHS = 10_000, 256, 256, 30

TRAINED: tuple[MixerName, ...] = ("aggregation", "attention", "no mixing")
TIMED: tuple[MixerName, ...] = (*TRAINED, "masked product")
COUNTED: dict[str, type[Unigram] | type[Bigram]] = {"unigram": Unigram, "bigram": Bigram}

_UNKNOWN, _FIRST_WORD = 1, 2
# Keras's TextVectorization takes punctuation out and closes the gap.
_UNPUNCTUATED = str.maketrans("", "", string.punctuation)


def ag_news_source(
    dataset: Dataset,
    out: Path,
    *,
    epochs: int | None = None,
    texts: int | None = None,
    test_texts: int | None = None,
    resume: bool = False,
    progress: bool = True,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train and measure all models; write results.json, table.md, cosines.png and checkpoints.

    Args:
        dataset: "ag-news".
        out: the folder for everything that is written.
        epochs: other than the protocol's; the last one is measured, on the test rows.
        texts: learn so many training texts, chosen by chance, and not all. The vocabulary is that
            of all.
        test_texts: measure on so many test texts, likewise.
        resume: go on after the last whole epoch of an earlier, interrupted call.
        progress: show bars.
        say: told in a line what was measured.

    Returns:
        the contents of results.json.

    Raises:
        ValueError: what is in `out` comes of other arguments.
    """
    epochs = epochs or EPOCHS
    vocabulary = _words(dataset.train.texts)
    size = len(vocabulary) + _FIRST_WORD
    learned = _ids(_some(dataset.train.texts, texts), vocabulary)
    test = _ids(_some(dataset.test.texts, test_texts), vocabulary)
    rows = {
        "train": len(learned),
        "train_here": len(dataset.train),
        "train_published": ENTRY.rows[0],
        "test": len(test),
    }
    say(_told(rows, epochs))
    what = f"{dataset.name}, source protocol, {rows}, {epochs} epochs"
    if not resume:
        # Otherwise what an earlier call left would be taken for this one's, were this one resumed.
        for path in (out / "runs.json", *(_checkpoint(out, name) for name in TRAINED)):
            remove_checkpoint(path)
    runs = Runs(out / "runs.json", what, resume)
    for name in TRAINED:
        if name not in runs.done:
            torch.manual_seed(0)
            model = SourceLanguageModel(size, name, D_MODEL, LENGTH)
            run = train(model, name, learned, epochs, _checkpoint(out, name), what, progress)
            runs.add(name, {**run, **_perplexities(_nats(model, name, test, progress), test)})
        _say(say, name, runs.done[name])
    for counted, counting in COUNTED.items():
        if counted not in runs.done:
            runs.add(counted, _count(counting, learned, test, size))
        _say(say, counted, runs.done[counted])
    if "steps" not in runs.done:
        models = {name: SourceLanguageModel(size, name, D_MODEL, LENGTH) for name in TIMED}
        runs.add("steps", step_seconds(models, learned[:BATCH]))
    steps = runs.done["steps"]
    results: dict[str, Any] = {
        "protocol": "source",
        "dataset": dataset.name,
        "source": dataset.source,
        "rows": rows,
        "epochs": epochs,
        "batch": BATCH,
        "vocabulary": size,
        "places_of_words": float((test[:, 1:] != PADDING).mean()),
        "unknown_words": float((test == _UNKNOWN).sum() / (test != PADDING).sum()),
        "environment": environment(),
        "models": {name: runs.done[name] for name in (*TRAINED, *COUNTED)},
        "step_seconds": steps,
        "ratios": {
            name: {part: seconds / steps["aggregation"][part] for part, seconds in own.items()}
            for name, own in steps.items()
            if name != "aggregation"
        },
        "source_figures": SOURCE_FIGURES,
        "source_cosine_deviations": SOURCE_COSINE_DEVIATIONS,
        "orthogonality": _orthogonality(out),
    }
    write_results(out, results)
    with atomic_write(out / "table.md") as draft:
        table = markdown_table(_COLUMNS, _cells(results))
        draft.write_text(f"{table}\n{_told(rows, epochs)}\n", "utf-8")
    return results


def ag_news_table(results: dict[str, Any]) -> Table:
    """The models as a table for the terminal."""
    title = f"AG News, {results['protocol']} protocol (×: of aggregation's time)"
    return make_table(title, _COLUMNS, _cells(results))


def _told(rows: dict[str, int], epochs: int) -> str:
    return (
        f"{rows['train']:,} training texts of the {rows['train_here']:,} that are here "
        f"({rows['train_published']:,} are published), {rows['test']:,} test texts, "
        f"{epochs} epoch{'s' * (epochs > 1)}"
    )


def _say(say: Callable[[str], None], name: str, run: dict[str, Any]) -> None:
    say(
        f"{name}: perplexity {run['perplexity_counting_padding']:.2f} counting padding, "
        f"{run['perplexity']:.1f} of the words alone"
    )


def _checkpoint(out: Path, name: str) -> Path:
    return out / "models" / f"{name.replace(' ', '-')}.safetensors"


def _words(texts: Sequence[str]) -> dict[str, int]:
    """Ids by falling use; padding and all rarer words are two of the 10,000, as in Keras."""
    counts = Counter(word for text in texts for word in _split(text))
    kept = [word for word, _ in counts.most_common(VOCABULARY - _FIRST_WORD)]
    return {word: i for i, word in enumerate(kept, start=_FIRST_WORD)}


def _split(text: str) -> list[str]:
    return text.lower().translate(_UNPUNCTUATED).split()


def _some(texts: Sequence[str], number: int | None) -> Sequence[str]:
    if number is None or number >= len(texts):
        return texts
    return [texts[i] for i in np.random.default_rng(0).permutation(len(texts))[:number]]


def _ids(texts: Sequence[str], vocabulary: dict[str, int]) -> np.ndarray:
    """(rows, LENGTH + 1) int32, since each of LENGTH places has a next one to foretell."""
    rows = [[vocabulary.get(word, _UNKNOWN) for word in _split(text)] for text in texts]
    flat = np.array([i for row in rows for i in row], dtype=np.int32)
    borders = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    return Ragged(flat, borders).padded(LENGTH + 1)


def _nats(model: SourceLanguageModel, name: str, ids: np.ndarray, progress: bool) -> np.ndarray:
    """(rows, LENGTH) -log p(next id)."""
    model.eval()
    batches = track(
        torch.from_numpy(ids).long().split(BATCH),
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
        "perplexity_counting_padding": float(np.exp(nats.mean(dtype=np.float64))),
    }


def _count(
    counting: type[Unigram] | type[Bigram], learned: np.ndarray, test: np.ndarray, size: int
) -> dict[str, Any]:
    started = time.perf_counter()
    model = counting(learned, size)
    seconds = time.perf_counter() - started
    return {
        "parameters": model.parameters,
        "train_seconds_per_epoch": seconds,
        **({"weight": model.weight} if isinstance(model, Bigram) else {}),
        **_perplexities(model.nats(test), test),
    }


def _orthogonality(out: Path) -> dict[str, Any]:
    """Cosines of the trained word embeddings beside untrained ones; draws them as well."""
    tables = {}
    for name in SOURCE_FIGURES:
        weights, _ = read_checkpoint(_checkpoint(out, name))
        tables[name] = weights["model.embedding.weight"][_FIRST_WORD:]
    return write_cosines(tables, out / "cosines.png")


_COLUMNS = [
    "model",
    "perplexity, padding counted",
    "of the words alone",
    "parameters",
    "s/epoch",
    "step",
    "below the softmax",
]


def _cells(results: dict[str, Any]) -> list[list[str]]:
    quoted = [
        [f"{name}, the source's figure", f"{figure:.2f}", *[""] * 5]
        for name, figure in results["source_figures"].items()
    ]
    models = {**results["models"], "masked product": None}
    return quoted + [[name, *_figures(name, own, results)] for name, own in models.items()]


def _figures(name: str, model: dict[str, Any] | None, results: dict[str, Any]) -> list[str]:
    cells = [""] * 4
    if model is not None:
        cells = [
            f"{model['perplexity_counting_padding']:.2f}",
            f"{model['perplexity']:.1f}",
            f"{model['parameters']:,}",
            f"{model['train_seconds_per_epoch']:.1f}",
        ]
    ratios = results["ratios"].get(name)
    if ratios is None:
        return cells + (["1 ×", "1 ×"] if name == "aggregation" else ["", ""])
    return [*cells, times(ratios["step"]), times(ratios["below_softmax"])]
